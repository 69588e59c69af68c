//! The blocks of a device that were used last, in RAM.

use core::borrow::BorrowMut;
use core::cell::RefCell;

use super::{Storage, Unreadable};

/// A device that is read in blocks: SPI flash, an SD card, a file.
///
/// Offsets have 32 bits: a source that starts behind the first 4 GiB of a card adds its start itself. A card that is read in
/// whole blocks only is given to the cache with a size that is a multiple of them.
pub trait BlockSource {
    /// Why a block could not be read.
    type Error: core::fmt::Debug;

    /// Fills `buffer` with the bytes from `offset` on: one block or several in a row. Both are multiples of the block size, but for
    /// the end of the last block, which is that of the device.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error>;

    /// Tells, before what has been read is computed with, what will be read next: a source with a buffer of its own can fetch it
    /// meanwhile (DMA, interrupts, a thread). A hint: it may be ignored, and now and then something else is read.
    fn prefetch(&mut self, _offset: u32, _bytes: u32) {}
}

impl<D: BlockSource> BlockSource for &mut D {
    type Error = D::Error;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(offset, buffer)
    }

    fn prefetch(&mut self, offset: u32, bytes: u32) {
        (**self).prefetch(offset, bytes);
    }
}

/// The memory of a [`BlockCache`], for example a static one.
// Aligned, so that numbers that lie aligned on the device lie aligned in the cache.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub struct Blocks<const BLOCKS: usize, const BLOCK_BYTES: usize>([[u8; BLOCK_BYTES]; BLOCKS]);

impl<const BLOCKS: usize, const BLOCK_BYTES: usize> Blocks<BLOCKS, BLOCK_BYTES> {
    /// Memory for so many blocks.
    pub const fn new() -> Self {
        const { assert!(BLOCKS > 0 && BLOCK_BYTES.is_power_of_two(), "a cache has blocks, of a power of two bytes") };
        Self([[0; BLOCK_BYTES]; BLOCKS])
    }
}

impl<const BLOCKS: usize, const BLOCK_BYTES: usize> Default for Blocks<BLOCKS, BLOCK_BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

/// `BLOCKS` blocks of `BLOCK_BYTES` bytes: where all are taken, the one that was not used for the longest time gives
/// way. The same memory is the window of a [`view`](Storage::view), whose blocks lie in a row.
///
/// `M` is the memory: [`Blocks`], or a `&mut` to them. Shared through a `RefCell`, because reading changes what is cached: one cache
/// belongs to one thread.
#[derive(Debug)]
pub struct BlockCache<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    state: RefCell<State<D, M, BLOCKS, BLOCK_BYTES>>,
}

#[derive(Debug)]
struct State<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    source: D,
    source_bytes: u32,
    blocks: M,
    places: [Place; BLOCKS],
    /// Grows with every use, and never returns to 0.
    uses: u32,
    latest: usize,
    bytes_read: u64,
    error: Option<D::Error>,
}

/// Which block lies in a place, and when it was last used: 0 for none.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u32,
    used: u32,
}

impl Place {
    const EMPTY: Self = Self { number: 0, used: 0 };

    fn holds(&self, number: u32) -> bool {
        self.used > 0 && self.number == number
    }
}

impl<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> BlockCache<D, M, BLOCKS, BLOCK_BYTES>
where
    M: BorrowMut<Blocks<BLOCKS, BLOCK_BYTES>>,
{
    /// An empty cache before a device of `source_bytes` bytes.
    pub const fn new(source: D, source_bytes: u32, blocks: M) -> Self {
        Self {
            state: RefCell::new(State {
                source,
                source_bytes,
                blocks,
                places: [Place::EMPTY; BLOCKS],
                uses: 0,
                latest: 0,
                bytes_read: 0,
                error: None,
            }),
        }
    }

    /// A part of the device as a section of its own. What lies behind the device's end reads as 0.
    pub const fn section(&self, start: u32, bytes: u32) -> CachedSection<'_, D, M, BLOCKS, BLOCK_BYTES> {
        CachedSection { cache: self, start, bytes }
    }

    /// Bytes read from the device so far.
    pub fn bytes_read(&self) -> u64 {
        self.state.try_borrow().map_or(0, |state| state.bytes_read)
    }

    /// The device's latest error, once.
    pub fn take_error(&self) -> Option<D::Error> {
        self.state.try_borrow_mut().ok()?.error.take()
    }

    /// Gives the device back.
    pub fn into_source(self) -> D {
        self.state.into_inner().source
    }
}

impl<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> State<D, M, BLOCKS, BLOCK_BYTES>
where
    M: BorrowMut<Blocks<BLOCKS, BLOCK_BYTES>>,
{
    /// The next moment.
    fn now(&mut self) -> u32 {
        if self.uses == u32::MAX {
            // Once in four thousand million reads the order is forgotten; what is cached stays.
            self.places.iter_mut().for_each(|place| place.used = place.used.min(1));
            self.uses = 1;
        }
        self.uses += 1;
        self.uses
    }

    /// Brings a block into the cache if it is not there; `latest` is its place then.
    fn find(&mut self, number: u32) -> Result<(), D::Error> {
        if !self.places.get(self.latest).is_some_and(|place| place.holds(number)) {
            self.latest = match self.places.iter().position(|place| place.holds(number)) {
                Some(place) => place,
                None => {
                    let oldest = self.places.iter().enumerate().min_by_key(|(_, place)| place.used);
                    let oldest = oldest.map_or(0, |(index, _)| index);
                    self.fetch(oldest, number, 1)?;
                    oldest
                }
            };
        }
        let now = self.now();
        if let Some(place) = self.places.get_mut(self.latest) {
            place.used = now;
        }
        Ok(())
    }

    /// Reads `count` blocks, the first of which begins within the device, in one go into the places from `first` on.
    fn fetch(&mut self, first: usize, number: u32, count: usize) -> Result<(), D::Error> {
        let now = self.now();
        self.places.iter_mut().skip(first).take(count).for_each(|place| place.used = 0);
        let start = number * BLOCK_BYTES as u32;
        let memory = self.blocks.borrow_mut().0.get_mut(first..).unwrap_or_default();
        let memory = memory.get_mut(..count).unwrap_or_default().as_flattened_mut();
        let there = memory.len().min(self.source_bytes.saturating_sub(start) as usize);
        if let Some((wanted, behind)) = memory.split_at_mut_checked(there) {
            self.source.read(start, wanted)?;
            self.bytes_read += there as u64;
            // What lies behind the end of the device is 0.
            behind.fill(0);
        }
        for (place, number) in self.places.iter_mut().skip(first).take(count).zip(number..) {
            *place = Place { number, used: now };
        }
        Ok(())
    }

    /// The byte at `offset` of the device and as many behind it as lie in its block and are asked for.
    fn copy(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, D::Error> {
        self.find(offset / BLOCK_BYTES as u32)?;
        let block = self.blocks.borrow().0.get(self.latest).map_or(&[][..], |block| block);
        let found = block.get(offset as usize % BLOCK_BYTES..).unwrap_or_default();
        out.iter_mut().zip(found).for_each(|(out, &byte)| *out = byte);
        Ok(out.len().min(found.len()))
    }

    /// Lays the blocks of some bytes of the device side by side in the first places, and returns the bytes: none if there are more than
    /// the cache holds.
    fn window(&mut self, offset: u32, bytes: usize) -> Result<&[u8], D::Error> {
        let (number, begin) = (offset / BLOCK_BYTES as u32, offset as usize % BLOCK_BYTES);
        let count = begin.saturating_add(bytes).div_ceil(BLOCK_BYTES);
        if count > BLOCKS {
            return Ok(&[]);
        }
        // The first of them are often there, where the view before this one ended: they move down over what gives way.
        let from = self.places.iter().position(|place| place.holds(number)).unwrap_or(BLOCKS);
        let found = self.places.iter().skip(from).zip(number..).take(count);
        let there = found.take_while(|&(place, number)| place.holds(number)).count();
        for place in 0..if from > 0 { there } else { 0 } {
            let moved = self.places.get(from + place).copied().unwrap_or(Place::EMPTY);
            self.places.iter_mut().skip(place).take(1).for_each(|place| *place = moved);
            if let Some((below, above)) = self.blocks.borrow_mut().0.split_at_mut_checked(place + 1) {
                // `above` begins with the place after this one.
                let block = above.get(from - 1);
                below.last_mut().zip(block).into_iter().for_each(|(place, block)| *place = *block);
            }
        }
        // What has been moved away from is not there twice.
        self.places.iter_mut().skip(there.max(from)).take(there).for_each(|place| place.used = 0);
        if there < count {
            self.fetch(there, number.saturating_add(there as u32), count - there)?;
        }
        let now = self.now();
        self.places.iter_mut().take(count).for_each(|place| place.used = now);
        let next = number.saturating_add(count as u32).saturating_mul(BLOCK_BYTES as u32);
        let left = self.source_bytes.saturating_sub(next);
        if left > 0 {
            self.source.prefetch(next, left.min(((count - 1).max(1) * BLOCK_BYTES) as u32));
        }
        let window = self.blocks.borrow().0.as_flattened();
        Ok(window.get(begin..).and_then(|window| window.get(..bytes)).unwrap_or_default())
    }
}

/// A part of a device, read through its cache.
#[derive(Debug)]
pub struct CachedSection<'c, D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> {
    cache: &'c BlockCache<D, M, BLOCKS, BLOCK_BYTES>,
    start: u32,
    bytes: u32,
}

// A derive would ask the same of the device.
impl<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> Clone
    for CachedSection<'_, D, M, BLOCKS, BLOCK_BYTES>
{
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> Copy
    for CachedSection<'_, D, M, BLOCKS, BLOCK_BYTES>
{
}

impl<D: BlockSource, M, const BLOCKS: usize, const BLOCK_BYTES: usize> Storage
    for CachedSection<'_, D, M, BLOCKS, BLOCK_BYTES>
where
    M: BorrowMut<Blocks<BLOCKS, BLOCK_BYTES>>,
{
    fn bytes(&self) -> u64 {
        // A section that reaches behind the device is cut short.
        let behind = self.cache.state.try_borrow().map_or(0, |state| state.source_bytes.saturating_sub(self.start));
        self.bytes.min(behind).into()
    }

    fn section(&self, offset: u32, bytes: u32) -> Self {
        let start = self.start.saturating_add(offset);
        Self { cache: self.cache, start, bytes: bytes.min(self.bytes.saturating_sub(offset)) }
    }

    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        let mut out = [0; N];
        let Ok(mut state) = self.cache.state.try_borrow_mut() else { return Err(Unreadable { offset }) };
        let (mut at, mut left) = (offset, &mut out[..]);
        // Offsets are checked against the section first, then against the device, whose size may be the smaller.
        while !left.is_empty() && at < self.bytes {
            let Some(position) = self.start.checked_add(at).filter(|&position| position < state.source_bytes) else {
                break;
            };
            let wanted = left.len().min((self.bytes - at) as usize);
            let copied = match state.copy(position, left.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => break,
                Ok(copied) => copied,
                Err(error) => {
                    state.error = Some(error);
                    return Err(Unreadable { offset });
                }
            };
            left = left.get_mut(copied..).unwrap_or_default();
            at += copied as u32;
        }
        Ok(out)
    }

    fn window_bytes(&self) -> usize {
        (BLOCKS - 1) * BLOCK_BYTES
    }

    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable> {
        let unreadable = Unreadable { offset };
        let inside = u64::from(offset) + bytes as u64 <= self.bytes();
        let position = self.start.checked_add(offset).filter(|_| inside).ok_or(unreadable)?;
        let mut state = self.cache.state.try_borrow_mut().map_err(|_| unreadable)?;
        if bytes == 0 {
            return Ok(show(&[]));
        }
        match state.window(position, bytes) {
            Ok([]) => Err(unreadable),
            Ok(window) => Ok(show(window)),
            Err(error) => {
                state.error = Some(error);
                Err(unreadable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that say where they lie; fails where it is told.
    #[derive(Debug)]
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
        let cache = BlockCache::new(Counter { fails_at: u32::MAX }, 40, Blocks::<2, 16>::new());
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
        let cache = BlockCache::new(Counter { fails_at: u32::MAX }, 64, Blocks::<2, 16>::new());
        let section = cache.section(0, 64);
        for (offset, blocks_read) in [(0, 1), (16, 2), (1, 2), (32, 3), (2, 3), (17, 4), (3, 4), (33, 5)] {
            assert_eq!(section.read(offset), Ok([offset as u8]));
            assert_eq!(cache.bytes_read(), 16 * blocks_read, "{offset}");
        }
    }

    #[test]
    fn views_that_follow_one_another_read_each_block_once() {
        let cache = BlockCache::new(Counter { fails_at: u32::MAX }, 250, Blocks::<4, 16>::new());
        let section = cache.section(10, 240);
        assert_eq!(section.window_bytes(), 48);
        let mut at = 0;
        for bytes in [5, 48, 1, 20, 47, 33, 3, 48, 35] {
            let is_right = |shown: &[u8]| shown.iter().copied().eq((10 + at..10 + at + bytes).map(|byte| byte as u8));
            assert_eq!(section.view(at, bytes as usize, is_right), Ok(true), "{bytes} at {at}");
            // Numbers between the views come from what is there.
            assert_eq!(section.read(at + bytes - 1), Ok([(10 + at + bytes - 1) as u8]));
            at += bytes;
            assert_eq!(cache.bytes_read(), u64::from((10 + at).next_multiple_of(16).min(250)));
        }
        assert_eq!((at, section.view(200, 41, |_| ()), section.view(0, 65, |_| ())).1, Err(Unreadable { offset: 200 }));
        assert_eq!(section.view(0, 65, |_| ()), Err(Unreadable { offset: 0 }));
        assert_eq!(section.view(240, 0, |shown| shown.len()), Ok(0));
        assert_eq!(section.view(0, 8, |_| section.read::<1>(0)), Ok(Err(Unreadable { offset: 0 })));
        let part = section.section(100, 7);
        assert_eq!(part.view(2, 5, |shown| shown[4]), Ok(116));
        assert_eq!(part.view(3, 5, |_| ()), Err(Unreadable { offset: 3 }));
    }

    #[test]
    fn a_failing_device_is_reported_and_asked_again() {
        let cache = BlockCache::new(Counter { fails_at: 20 }, 64, Blocks::<1, 16>::new());
        let section = cache.section(0, 64);
        assert_eq!(section.read(0), Ok([0]));
        assert_eq!(section.read::<2>(15), Err(Unreadable { offset: 15 }));
        assert_eq!(cache.take_error(), Some("no answer"));
        assert_eq!(cache.take_error(), None);
        assert_eq!(section.read(0), Ok([0]));
        assert_eq!(section.read(32), Ok([32]));
    }
}
