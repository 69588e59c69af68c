//! The blocks of a device that were used last, in RAM.

use core::cell::RefCell;

use super::{Storage, Unreadable};

/// A device that is read in blocks: SPI flash, an SD card, a file.
///
/// Offsets have 32 bits: a source that starts behind the first 4 GiB of a card adds its start itself. A card that is read in
/// whole blocks only is given to the cache with a size that is a multiple of them.
pub trait BlockSource {
    /// Why a block could not be read.
    type Error: core::fmt::Debug;

    /// Fills `buffer` with the bytes from `offset` on. Both are multiples of the block size, but for the last block,
    /// which ends with the device.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error>;
}

/// `BLOCKS` blocks of `BLOCK_BYTES` bytes: where all are taken, the one that was not used for the longest time gives
/// way.
///
/// Shared through a `RefCell`, because reading changes what is cached: one cache belongs to one thread.
#[derive(Debug)]
pub struct BlockCache<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    state: RefCell<State<D, BLOCKS, BLOCK_BYTES>>,
}

#[derive(Debug)]
struct State<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    source: D,
    source_bytes: u32,
    blocks: [[u8; BLOCK_BYTES]; BLOCKS],
    /// The number of the block in each place, and when it was last used; the count of uses never returns to 0.
    numbers: [u32; BLOCKS],
    used: [u32; BLOCKS],
    uses: u32,
    latest: usize,
    blocks_read: u64,
    error: Option<D::Error>,
}

impl<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> BlockCache<D, BLOCKS, BLOCK_BYTES> {
    /// An empty cache before a device of `source_bytes` bytes.
    pub const fn new(source: D, source_bytes: u32) -> Self {
        const { assert!(BLOCKS > 0 && BLOCK_BYTES.is_power_of_two(), "a cache has blocks, of a power of two bytes") };
        Self {
            state: RefCell::new(State {
                source,
                source_bytes,
                blocks: [[0; BLOCK_BYTES]; BLOCKS],
                numbers: [u32::MAX; BLOCKS],
                used: [0; BLOCKS],
                uses: 0,
                latest: 0,
                blocks_read: 0,
                error: None,
            }),
        }
    }

    /// A part of the device as a section of its own. What lies behind the device's end reads as 0.
    pub const fn section(&self, start: u32, bytes: u32) -> CachedSection<'_, D, BLOCKS, BLOCK_BYTES> {
        CachedSection { cache: self, start, bytes }
    }

    /// Blocks read from the device so far.
    pub fn blocks_read(&self) -> u64 {
        self.state.borrow().blocks_read
    }

    /// The device's latest error, once.
    pub fn take_error(&self) -> Option<D::Error> {
        self.state.borrow_mut().error.take()
    }

    /// Gives the device back.
    pub fn into_source(self) -> D {
        self.state.into_inner().source
    }
}

impl<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> State<D, BLOCKS, BLOCK_BYTES> {
    /// The place of a block, which is read if it is not there.
    fn place(&mut self, number: u32) -> Result<usize, D::Error> {
        if self.used[self.latest] == 0 || self.numbers[self.latest] != number {
            let found = (0..BLOCKS).find(|&place| self.used[place] > 0 && self.numbers[place] == number);
            self.latest = match found {
                Some(place) => place,
                None => self.fetch(number)?,
            };
        }
        if self.uses == u32::MAX {
            // Once in four thousand million reads the order is forgotten; what is cached stays.
            self.used.iter_mut().for_each(|used| *used = (*used).min(1));
            self.uses = 1;
        }
        self.uses += 1;
        self.used[self.latest] = self.uses;
        Ok(self.latest)
    }

    fn fetch(&mut self, number: u32) -> Result<usize, D::Error> {
        let oldest = (0..BLOCKS).min_by_key(|&place| self.used[place]).unwrap_or(0);
        self.used[oldest] = 0;
        // A block that is asked for begins within the device.
        let start = number * BLOCK_BYTES as u32;
        let bytes = BLOCK_BYTES.min((self.source_bytes - start) as usize);
        self.source.read(start, &mut self.blocks[oldest][..bytes])?;
        self.blocks[oldest][bytes..].fill(0);
        self.numbers[oldest] = number;
        self.blocks_read += 1;
        Ok(oldest)
    }

    /// The byte at `offset` of the device and as many behind it as lie in its block and are asked for.
    fn copy(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, D::Error> {
        let at = offset as usize % BLOCK_BYTES;
        let place = self.place(offset / BLOCK_BYTES as u32)?;
        let bytes = out.len().min(BLOCK_BYTES - at);
        out[..bytes].copy_from_slice(&self.blocks[place][at..at + bytes]);
        Ok(bytes)
    }
}

/// A part of a device, read through its cache.
#[derive(Debug)]
pub struct CachedSection<'c, D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    cache: &'c BlockCache<D, BLOCKS, BLOCK_BYTES>,
    start: u32,
    bytes: u32,
}

// A derive would ask the same of the device.
impl<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> Clone
    for CachedSection<'_, D, BLOCKS, BLOCK_BYTES>
{
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> Copy for CachedSection<'_, D, BLOCKS, BLOCK_BYTES> {}

impl<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize> Storage
    for CachedSection<'_, D, BLOCKS, BLOCK_BYTES>
{
    fn bytes(&self) -> u64 {
        // A section that reaches behind the device is cut short.
        let behind = self.cache.state.borrow().source_bytes.saturating_sub(self.start);
        self.bytes.min(behind).into()
    }

    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        let mut out = [0; N];
        let mut state = self.cache.state.borrow_mut();
        let (mut at, mut copied) = (offset, 0);
        // Offsets are checked against the section first, then against the device, whose size may be the smaller.
        while copied < N && at < self.bytes {
            let Some(position) = self.start.checked_add(at).filter(|&position| position < state.source_bytes) else {
                break;
            };
            let wanted = (N - copied).min((self.bytes - at) as usize);
            match state.copy(position, &mut out[copied..copied + wanted]) {
                Ok(bytes) => {
                    copied += bytes;
                    at += bytes as u32;
                }
                Err(error) => {
                    state.error = Some(error);
                    return Err(Unreadable { offset });
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that say where they lie; fails where it is told.
    struct Counter {
        fails_at: u32,
    }

    impl BlockSource for Counter {
        type Error = &'static str;

        fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error> {
            if (offset..offset + buffer.len() as u32).contains(&self.fails_at) {
                return Err("no answer");
            }
            (offset..).zip(buffer).for_each(|(at, byte)| *byte = at as u8);
            Ok(())
        }
    }

    #[test]
    fn bytes_are_read_across_blocks_and_are_zero_behind_the_end() {
        let cache: BlockCache<_, 2, 16> = BlockCache::new(Counter { fails_at: u32::MAX }, 40);
        let section = cache.section(3, 34);
        assert_eq!(section.read(0), Ok([3, 4, 5, 6]));
        assert_eq!(section.read(11), Ok([14, 15, 16, 17]));
        assert_eq!(section.read(32), Ok([35, 36, 0, 0]));
        assert_eq!(section.read(34), Ok([0]));
        assert_eq!(section.read(u32::MAX), Ok([0; 8]));
        assert_eq!(cache.section(38, 100).read(0), Ok([38, 39, 0]));
        assert_eq!(cache.section(u32::MAX, u32::MAX).read(7), Ok([0]));
    }

    #[test]
    fn the_block_that_was_not_used_for_the_longest_time_gives_way() {
        let cache: BlockCache<_, 2, 16> = BlockCache::new(Counter { fails_at: u32::MAX }, 64);
        let section = cache.section(0, 64);
        for (offset, blocks_read) in [(0, 1), (16, 2), (1, 2), (32, 3), (2, 3), (17, 4), (3, 4), (33, 5)] {
            assert_eq!(section.read(offset), Ok([offset as u8]));
            assert_eq!(cache.blocks_read(), blocks_read, "{offset}");
        }
    }

    #[test]
    fn a_failing_device_is_reported_and_asked_again() {
        let cache: BlockCache<_, 1, 16> = BlockCache::new(Counter { fails_at: 20 }, 64);
        let section = cache.section(0, 64);
        assert_eq!(section.read(0), Ok([0]));
        assert_eq!(section.read::<2>(15), Err(Unreadable { offset: 15 }));
        assert_eq!(cache.take_error(), Some("no answer"));
        assert_eq!(cache.take_error(), None);
        assert_eq!(section.read(0), Ok([0]));
        assert_eq!(section.read(32), Ok([32]));
    }
}
