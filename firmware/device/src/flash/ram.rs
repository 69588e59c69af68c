//! RAM that behaves as NOR flash does, for machines in QEMU that have none, and for tests: bits are only cleared, a block is erased as a
//! whole, and what breaks these rules is an error instead of a wrong bit.
#![allow(unsafe_code)]

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use super::MappedFlash;

/// Memory as a flash of words of `WRITE` bytes, in blocks of `ERASE` bytes.
#[derive(Debug)]
pub struct RamNor<const WRITE: usize = 4, const ERASE: usize = 4096> {
    start: *mut u8,
    bytes: usize,
}

/// What a flash would not have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamNorError {
    /// Not on the boundaries of words or blocks, or behind the end.
    Misplaced(NorFlashErrorKind),
    /// A word was programmed a second time without being erased.
    NotErased {
        /// Its first byte.
        offset: u32,
    },
}

impl NorFlashError for RamNorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Misplaced(kind) => *kind,
            Self::NotErased { .. } => NorFlashErrorKind::Other,
        }
    }
}

impl<const WRITE: usize, const ERASE: usize> RamNor<WRITE, ERASE> {
    /// The memory from `start` on. It stays as it is: QEMU may have filled it from a file.
    ///
    /// # Safety
    ///
    /// The range is memory that may be read and written as long as the program runs, and nothing but this flash writes to it. Who keeps a
    /// slice of a part of it must not erase or program that part.
    pub const unsafe fn new(start: *mut u8, bytes: usize) -> Self {
        Self { start, bytes }
    }

    fn part(&mut self, offset: u32, bytes: usize) -> &mut [u8] {
        // SAFETY: callers have checked that the range lies inside; nobody else writes to it, nor reads it meanwhile, as `new` demands.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(offset as usize), bytes) }
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for RamNor<WRITE, ERASE> {
    type Error = RamNorError;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for RamNor<WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), RamNorError> {
        check_read(self, offset, bytes.len()).map_err(RamNorError::Misplaced)?;
        bytes.copy_from_slice(self.mapped(offset, bytes.len() as u32));
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for RamNor<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), RamNorError> {
        check_erase(self, from, to).map_err(RamNorError::Misplaced)?;
        self.part(from, (to - from) as usize).fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), RamNorError> {
        check_write(self, offset, bytes.len()).map_err(RamNorError::Misplaced)?;
        let cells = self.part(offset, bytes.len());
        if let Some(programmed) = cells.iter().position(|&cell| cell != 0xFF) {
            return Err(RamNorError::NotErased { offset: offset + (programmed / WRITE * WRITE) as u32 });
        }
        cells.copy_from_slice(bytes);
        Ok(())
    }
}

impl<const WRITE: usize, const ERASE: usize> MappedFlash for RamNor<WRITE, ERASE> {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(self.bytes);
        let bytes = (bytes as usize).min(self.bytes - offset);
        // SAFETY: the range lies inside, and `new` demands that nothing but `self` writes to it.
        unsafe { core::slice::from_raw_parts(self.start.add(offset), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_a_nor_flash_are_kept() {
        let mut memory = [0u8; 2048];
        // SAFETY: the memory outlives the flash, which alone uses it.
        let mut flash = unsafe { RamNor::<4, 1024>::new(memory.as_mut_ptr(), memory.len()) };
        assert_eq!(flash.write(0, &[1; 4]), Err(RamNorError::NotErased { offset: 0 }));
        flash.erase(0, 1024).unwrap();
        flash.write(4, &[1; 8]).unwrap();
        assert_eq!(flash.write(0, &[1; 8]), Err(RamNorError::NotErased { offset: 4 }));
        assert_eq!(flash.mapped(0, 16), [[0xFF; 4], [1; 4], [1; 4], [0xFF; 4]].concat());
        assert_eq!(flash.mapped(2040, 16), [0; 8]);

        let misaligned = Err(RamNorError::Misplaced(NorFlashErrorKind::NotAligned));
        let outside = Err(RamNorError::Misplaced(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.write(2, &[1; 4]), misaligned);
        assert_eq!(flash.write(0, &[1; 3]), misaligned);
        assert_eq!(flash.erase(0, 512), misaligned);
        assert_eq!(flash.erase(1024, 3072), outside);
        assert_eq!(flash.read(2047, &mut [0; 2]), outside);
    }
}
