//! Flash that models lie in: written through embedded-storage's `NorFlash`, read in place.

mod cfi;
mod ram;
mod serial;

pub use cfi::{CfiError, CfiFlash};
pub use ram::{RamNor, RamNorError};
pub use serial::{SerialBus, SerialFlash};

use embedded_storage::nor_flash::NorFlash;

/// A NOR flash whose content the core reads like memory.
pub trait MappedFlash: NorFlash {
    /// Some bytes where they lie. What would lie behind the end is cut off.
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8];
}

impl<F: MappedFlash> MappedFlash for &mut F {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        (**self).mapped(offset, bytes)
    }
}
