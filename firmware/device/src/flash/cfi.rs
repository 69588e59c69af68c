//! Parallel NOR flash with Intel's command set: two chips of 16 bits side by side, as QEMU's `virt` machines have them.
//!
//! Between two operations the chips are in read-array mode, where the core reads them like memory.
#![allow(unsafe_code)]

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use super::MappedFlash;

/// The same for both chips.
const fn both(value: u16) -> u32 {
    value as u32 | (value as u32) << 16
}

const READ_ARRAY: u32 = both(0xFF);
const QUERY: u32 = both(0x98);
const CLEAR_STATUS: u32 = both(0x50);
const SET_UP_LOCK: u32 = both(0x60);
const SET_UP_ERASE: u32 = both(0x20);
const FILL_BUFFER: u32 = both(0xE8);
const CONFIRM: u32 = both(0xD0);

const READY: u32 = both(0x80);
/// Block locked, voltage too low, program failed, erase failed.
const FAILED: u32 = both(0x3A);
/// Reads of the status before a chip counts as broken: some seconds.
const PATIENCE: u32 = 1 << 26;

const WORD_BYTES: usize = 4;

/// Two chips with erase blocks of `ERASE` bytes in all.
#[derive(Debug)]
pub struct CfiFlash<const ERASE: usize = { 256 << 10 }> {
    start: *mut u32,
    bytes: usize,
    /// Words that are programmed at once, an aligned part of the flash.
    buffer_words: usize,
}

/// Why the chips did not do what they were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfiError {
    /// Not on the boundaries of words or blocks, or behind the end.
    Misplaced(NorFlashErrorKind),
    /// A word was to be programmed a second time without being erased.
    NotErased {
        /// Its first byte.
        offset: u32,
    },
    /// A chip tells an error.
    Chip {
        /// Its status register, and that of the other in the upper half.
        status: u32,
    },
    /// There are no such chips at this address, or of another size.
    Absent,
}

impl NorFlashError for CfiError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Misplaced(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

impl<const ERASE: usize> CfiFlash<ERASE> {
    /// The chips at `start`, which have `bytes` bytes together.
    ///
    /// # Errors
    ///
    /// If there are none, or of another size.
    ///
    /// # Safety
    ///
    /// The range is mapped to the chips or to nothing that a read or a write harms, and nothing else gives them commands. Who keeps a slice
    /// of a part of it must not erase or program that part, nor read it while this flash works.
    pub unsafe fn new(start: *mut u32, bytes: usize) -> Result<Self, CfiError> {
        let mut flash = Self { start, bytes, buffer_words: 1 };
        flash.command(0x55, QUERY);
        let name = [0x10, 0x11, 0x12].map(|word| flash.word(word));
        let log2_bytes = flash.word(0x27);
        // Of one chip: QEMU's take no more together.
        let log2_buffer_bytes = flash.word(0x2A) & 0xF;
        flash.command(0, READ_ARRAY);
        let expected = b"QRY".map(|letter| both(letter.into()));
        let log2_expected = both((bytes / 2).ilog2() as u16);
        if name != expected || log2_bytes != log2_expected {
            return Err(CfiError::Absent);
        }
        flash.buffer_words = ((1 << log2_buffer_bytes) / WORD_BYTES).max(1);
        Ok(flash)
    }

    /// Reads a word, or what the chips say in its place.
    fn word(&self, index: usize) -> u32 {
        debug_assert!(index < self.bytes / WORD_BYTES);
        // SAFETY: inside the range that `new` demands. Volatile: a command changes what is read.
        unsafe { self.start.add(index).read_volatile() }
    }

    fn command(&mut self, index: usize, command: u32) {
        debug_assert!(index < self.bytes / WORD_BYTES);
        // SAFETY: inside the range that `new` demands; a write is a command to the chips, or data for their buffers.
        unsafe { self.start.add(index).write_volatile(command) }
    }

    /// Waits until both chips are ready.
    fn wait(&self, index: usize) -> Result<(), CfiError> {
        let status = (0..PATIENCE).map(|_| self.word(index)).find(|status| status & READY == READY);
        match status.unwrap_or(0) {
            status if status & READY == READY && status & FAILED == 0 => Ok(()),
            status => Err(CfiError::Chip { status }),
        }
    }

    /// Gives some commands, and leaves the chips readable whatever becomes of them.
    fn operate(
        &mut self,
        index: usize,
        commands: impl FnOnce(&mut Self) -> Result<(), CfiError>,
    ) -> Result<(), CfiError> {
        self.command(index, CLEAR_STATUS);
        let result = commands(self);
        self.command(index, READ_ARRAY);
        result
    }
}

impl<const ERASE: usize> ErrorType for CfiFlash<ERASE> {
    type Error = CfiError;
}

impl<const ERASE: usize> ReadNorFlash for CfiFlash<ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), CfiError> {
        check_read(self, offset, bytes.len()).map_err(CfiError::Misplaced)?;
        bytes.copy_from_slice(self.mapped(offset, bytes.len() as u32));
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<const ERASE: usize> NorFlash for CfiFlash<ERASE> {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), CfiError> {
        check_erase(self, from, to).map_err(CfiError::Misplaced)?;
        (from as usize..to as usize).step_by(ERASE).map(|block| block / WORD_BYTES).try_for_each(|block| {
            self.operate(block, |chips| {
                // Some chips wake up with all blocks locked.
                chips.command(block, SET_UP_LOCK);
                chips.command(block, CONFIRM);
                chips.wait(block)?;
                chips.command(block, SET_UP_ERASE);
                chips.command(block, CONFIRM);
                chips.wait(block)
            })
        })
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), CfiError> {
        check_write(self, offset, bytes.len()).map_err(CfiError::Misplaced)?;
        let cells = self.mapped(offset, bytes.len() as u32);
        if let Some(programmed) = cells.iter().position(|&cell| cell != 0xFF) {
            return Err(CfiError::NotErased { offset: offset + (programmed / WORD_BYTES * WORD_BYTES) as u32 });
        }
        let mut index = offset as usize / WORD_BYTES;
        let (mut words, _) = bytes.as_chunks::<WORD_BYTES>();
        while !words.is_empty() {
            // A buffer is for one aligned part.
            let count = words.len().min(self.buffer_words - index % self.buffer_words);
            let (buffer, rest) = words.split_at(count);
            self.operate(index, |chips| {
                chips.command(index, FILL_BUFFER);
                chips.wait(index)?;
                chips.command(index, both(count as u16 - 1));
                for (index, &word) in (index..).zip(buffer) {
                    chips.command(index, u32::from_le_bytes(word));
                }
                chips.command(index, CONFIRM);
                chips.wait(index)
            })?;
            (index, words) = (index + count, rest);
        }
        Ok(())
    }
}

impl<const ERASE: usize> MappedFlash for CfiFlash<ERASE> {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(self.bytes);
        let bytes = (bytes as usize).min(self.bytes - offset);
        // SAFETY: the range lies inside, the chips are readable between two operations, and only `&mut self` operates them.
        unsafe { core::slice::from_raw_parts(self.start.cast::<u8>().add(offset), bytes) }
    }
}
