//! Where the bytes of a section are read from: memory in place, or the blocks of a device through a small cache.
//!
//! | storage              | for                                                  | RAM                            |
//! |----------------------|------------------------------------------------------|--------------------------------|
//! | `&[u8]`              | memory-mapped flash, RAM, a mapped file              | none                           |
//! | [`CachedSection`]    | SPI flash, an SD card, a file: any [`BlockSource`]   | the blocks of its [`BlockCache`] |
//!
//! A [`BlockSource`] is one function. [`NorFlashSource`] is one over a driver with embedded-storage's `ReadNorFlash`, [`SeekSource`]
//! over one with embedded-io's `Read` and `Seek`.

mod adapters;
mod block_cache;

pub use adapters::{NorFlashSource, SeekSource};
pub use block_cache::{BlockCache, BlockSource, Blocks, CachedSection};

use core::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that could not be read. The source's own error stays in its [`BlockCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Unreadable {
    /// Where they lie in the section.
    pub offset: u32,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the section cannot be read: check the device that it lies on", self.offset)
    }
}

impl core::error::Error for Unreadable {}

/// Bytes that are read where they lie, or through a device's buffer. A handle, copied freely.
pub trait Storage: Copy {
    /// Bytes there are.
    fn bytes(&self) -> u64;

    /// A part as a storage of its own. What would lie behind the end is cut off.
    fn section(&self, offset: u32, bytes: u32) -> Self;

    /// `N` bytes from `offset` on, at any place. Behind the end they are 0: only a damaged section points there.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable>;

    /// The longest [`view`](Self::view) that is possible at every offset.
    fn window_bytes(&self) -> usize;

    /// Shows `bytes` bytes from `offset` on: in place in a memory, else in the device's buffer, which holds them until the next
    /// call of any method. Views that follow one another read each block of the device once. `show` must not use this storage.
    ///
    /// # Errors
    ///
    /// If the device fails, or some of the bytes lie behind the end or do not fit the buffer.
    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable>;

    /// The little-endian number with this index in an array of them that starts at `start`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    #[inline(always)]
    fn read_u32(&self, start: u32, index: u32) -> Result<u32, Unreadable> {
        // Behind the end is behind the end.
        self.read(start.saturating_add(index.saturating_mul(4))).map(u32::from_le_bytes)
    }
}

impl Storage for &[u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn section(&self, offset: u32, bytes: u32) -> Self {
        let behind = self.get(offset as usize..).unwrap_or_default();
        behind.get(..bytes as usize).unwrap_or(behind)
    }

    fn window_bytes(&self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable> {
        let found = self.get(offset as usize..).and_then(|behind| behind.get(..bytes));
        found.map(show).ok_or(Unreadable { offset })
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        let start = offset as usize;
        let found = self.get(start..start.saturating_add(N)).and_then(|bytes| bytes.first_chunk());
        Ok(found.copied().unwrap_or([0; N]))
    }

    // The address in one step, and a number that is 0 behind the end rather than bytes that are: this is the innermost
    // read of a search, and each waits for the one before.
    #[inline(always)]
    fn read_u32(&self, start: u32, index: u32) -> Result<u32, Unreadable> {
        let numbers = self.get(start as usize..).unwrap_or_default().as_chunks().0;
        let found = numbers.get(index as usize);
        Ok(found.map_or(0, |&bytes| u32::from_le_bytes(bytes)))
    }
}
