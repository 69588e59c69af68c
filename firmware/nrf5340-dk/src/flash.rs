//! The flash on the QSPI, which the driver changes and the core reads in place.

use embassy_nrf::qspi::{Error, Qspi};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use mbert_firmware::{MappedFlash, region};

/// Where the core reads it.
const ADDRESS: usize = 0x1000_0000;
/// Its length.
pub const BYTES: usize = 8 << 20;

/// The flash.
pub struct Flash(pub Qspi<'static>);

impl ErrorType for Flash {
    type Error = Error;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = <Qspi<'static> as ReadNorFlash>::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        ReadNorFlash::read(&mut self.0, offset, bytes)
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = <Qspi<'static> as NorFlash>::WRITE_SIZE;
    const ERASE_SIZE: usize = <Qspi<'static> as NorFlash>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        NorFlash::erase(&mut self.0, from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        NorFlash::write(&mut self.0, offset, bytes)
    }
}

impl MappedFlash for Flash {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(BYTES);
        // SAFETY: the range lies inside the flash, which changes only through `&mut self`.
        unsafe { region(ADDRESS + offset, (bytes as usize).min(BYTES - offset)) }
    }
}
