//! The flash behind the program, which the boot ROM changes and the core reads in place.
//!
//! The program runs from the same flash. While the ROM changes it nothing else runs: there is one core, and no interrupt; and what the ROM
//! returns to can be read again.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use mbert_firmware::{MappedFlash, region};
use rp235x_hal::rom_data::{
    connect_internal_flash, flash_exit_xip, flash_flush_cache, flash_range_erase, flash_range_program,
    flash_select_xip_read_mode,
};

/// Where the core reads it.
const ADDRESS: usize = FLASH_ADDRESS + OFFSET as usize;
const FLASH_ADDRESS: usize = 0x1000_0000;
/// Behind the program.
const OFFSET: u32 = 512 << 10;
const BYTES: usize = 3584 << 10;
const PAGE_BYTES: usize = 256;
const SECTOR_BYTES: usize = 4096;
const SECTOR_ERASE: u8 = 0x20;
/// The command EBh: four lines for address and data.
const READ_QUAD: u8 = 3;
const READ_CLOCK_DIVISOR: u8 = 4;

/// The flash.
pub struct Flash;

/// Has the ROM change the flash.
fn change(with_rom: impl FnOnce()) {
    // SAFETY: nothing else runs, and these leave the flash readable, with four lines as it was.
    unsafe {
        connect_internal_flash();
        flash_exit_xip();
        with_rom();
        flash_flush_cache();
        flash_select_xip_read_mode(READ_QUAD, READ_CLOCK_DIVISOR);
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
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
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        // SAFETY: sectors of this part of the flash.
        change(|| unsafe {
            flash_range_erase(OFFSET + from, (to - from) as usize, SECTOR_BYTES as u32, SECTOR_ERASE);
        });
        Ok(())
    }

    fn write(&mut self, mut offset: u32, mut bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        while !bytes.is_empty() {
            let begin = offset as usize % PAGE_BYTES;
            let (content, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - begin));
            // A whole page goes to the ROM, of which ones change nothing; in RAM, because the flash cannot be read meanwhile.
            let mut page = [0xff; PAGE_BYTES];
            page[begin..][..content.len()].copy_from_slice(content);
            let at = OFFSET + offset - begin as u32;
            // SAFETY: a page of this part of the flash, and memory of its length.
            change(|| unsafe { flash_range_program(at, page.as_ptr(), PAGE_BYTES) });
            offset += content.len() as u32;
            bytes = rest;
        }
        Ok(())
    }
}

impl MappedFlash for Flash {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(BYTES);
        // SAFETY: the range lies inside the flash, which changes only through `&mut self`.
        unsafe { region(ADDRESS + offset, (bytes as usize).min(BYTES - offset)) }
    }
}
