//! The flash behind the program, which the driver changes and the core reads in place.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use esp_hal::peripherals::{FLASH, SPI0};
use esp_storage::{FlashStorage, FlashStorageError};
use mbert_firmware::{MappedFlash, region};

/// Where the core reads it: halfway through the 16 MiB of addresses for the flash, of which the program has the first.
const ADDRESS: usize = FLASH_ADDRESS + (8 << 20);
const FLASH_ADDRESS: usize = 0x4200_0000;
/// Behind the boot loader and the program.
const OFFSET: u32 = 1 << 20;
const BYTES: usize = 7 << 20;
/// What one entry of the flash's table of pages maps, as the boot loader has chosen.
const PAGE_BYTES: usize = 64 << 10;

unsafe extern "C" {
    // Of the ROM: what the cache has of these addresses is read anew.
    fn Cache_Invalidate_Addr(address: u32, bytes: u32) -> i32;
}

/// The flash.
pub struct Flash(FlashStorage<'static>);

impl Flash {
    /// Maps this part of the flash beside the program's.
    pub fn new(flash: FLASH<'static>) -> Self {
        let registers = SPI0::regs();
        for page in 0..BYTES / PAGE_BYTES {
            let entry = (ADDRESS - FLASH_ADDRESS) / PAGE_BYTES + page;
            let place = OFFSET as usize / PAGE_BYTES + page;
            // SAFETY: an entry that the program does not use, and a page of the flash that there is.
            unsafe {
                registers.mmu_item_index().write(|w| w.bits(entry as u32));
                registers.mmu_item_content().write(|w| w.paddr().bits(place as u16).valid().set_bit());
            }
        }
        Self(FlashStorage::new(flash))
    }

    /// What has changed is read anew.
    fn forget(&self, offset: u32, bytes: usize) {
        // SAFETY: addresses of this part of the flash, which are only read.
        unsafe { Cache_Invalidate_Addr(ADDRESS as u32 + offset, bytes as u32) };
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

/// The driver's error as the trait knows it.
fn failed(_: FlashStorageError) -> NorFlashErrorKind {
    NorFlashErrorKind::Other
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(self.mapped(offset, bytes.len() as u32));
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = <FlashStorage<'static> as NorFlash>::WRITE_SIZE;
    const ERASE_SIZE: usize = <FlashStorage<'static> as NorFlash>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        NorFlash::erase(&mut self.0, OFFSET + from, OFFSET + to).map_err(failed)?;
        self.forget(from, (to - from) as usize);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        NorFlash::write(&mut self.0, OFFSET + offset, bytes).map_err(failed)?;
        self.forget(offset, bytes.len());
        Ok(())
    }
}

impl MappedFlash for Flash {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(BYTES);
        // SAFETY: the range lies inside the mapped flash, which changes only through `&mut self`.
        unsafe { region(ADDRESS + offset, (bytes as usize).min(BYTES - offset)) }
    }
}
