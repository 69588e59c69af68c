//! Messages in parts: a message is cut into up to 64 of [`PART_BYTES`] bytes, and put together from parts that come in any order, doubled or
//! not at all.

use crate::protocol::frame::{PART_BYTES, Part, Refusal};

/// Parts of the longest message: one bit each in a frame that tells which have arrived.
pub const MAX_PARTS: usize = 64;
/// Bytes of the longest message.
pub const MESSAGE_BYTES: usize = MAX_PARTS * PART_BYTES;

/// Bits of so many parts.
pub fn all_parts(count: usize) -> u64 {
    if count >= MAX_PARTS { u64::MAX } else { (1 << count) - 1 }
}

/// Parts of a message of so many bytes. An empty one has a part, too.
pub fn part_count(bytes: usize) -> usize {
    bytes.div_ceil(PART_BYTES).max(1)
}

/// The parts of a message that are not in `have`, the last of them marked so.
///
/// # Panics
///
/// If the message has more than [`MESSAGE_BYTES`] bytes.
pub fn missing_parts(message: &[u8], have: u64) -> impl Iterator<Item = Part<'_>> {
    assert!(message.len() <= MESSAGE_BYTES, "a message has at most {MESSAGE_BYTES} bytes");
    let count = part_count(message.len());
    let missing = all_parts(count) & !have;
    let last = missing.checked_ilog2().unwrap_or(0) as usize;
    (0..count).filter(move |index| missing >> index & 1 == 1).map(move |index| {
        let rest = message.get(index * PART_BYTES..).unwrap_or_default();
        let bytes = &rest[..rest.len().min(PART_BYTES)];
        Part { index: index as u8, count: count as u8, is_last: index == last, bytes }
    })
}

/// A message that is being put together.
#[derive(Debug)]
pub struct Incoming<'m> {
    memory: &'m mut [u8],
    have: u64,
    /// Of the first part that came; 0 before it.
    count: usize,
    bytes: usize,
}

impl<'m> Incoming<'m> {
    /// None yet; the memory bounds its length.
    pub fn new(memory: &'m mut [u8]) -> Self {
        Self { memory, have: 0, count: 0, bytes: 0 }
    }

    /// Bytes of the longest message that it takes.
    pub fn room_bytes(&self) -> usize {
        self.memory.len().min(MESSAGE_BYTES)
    }

    /// Forgets what has arrived.
    pub fn clear(&mut self) {
        (self.have, self.count, self.bytes) = (0, 0, 0);
    }

    /// Parts that have arrived.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.count > 0 && self.have == all_parts(self.count)
    }

    /// What is there of the message: all of it when it [is whole](Self::is_whole).
    pub fn message(&self) -> &[u8] {
        self.memory.get(..self.bytes).unwrap_or_default()
    }

    /// Takes a part; tells whether it is new.
    ///
    /// # Errors
    ///
    /// If it does not fit to those before it, or the message does not fit the memory.
    pub fn accept(&mut self, part: &Part<'_>) -> Result<bool, Refusal> {
        let (index, count) = (usize::from(part.index), usize::from(part.count));
        let is_end = index + 1 == count;
        let fits = index < count
            && count <= MAX_PARTS
            && (self.count == 0 || self.count == count)
            && (if is_end { part.bytes.len() <= PART_BYTES } else { part.bytes.len() == PART_BYTES });
        let place = self.memory.get_mut(index * PART_BYTES..).and_then(|rest| rest.get_mut(..part.bytes.len()));
        let (true, Some(place)) = (fits, place) else { return Err(Refusal::BadPart) };
        self.count = count;
        let bit = 1 << index;
        if self.have & bit != 0 {
            return Ok(false);
        }
        self.have |= bit;
        place.copy_from_slice(part.bytes);
        self.bytes = self.bytes.max(index * PART_BYTES + part.bytes.len());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_message_is_put_together_whatever_its_length_and_the_order_of_its_parts() {
        for bytes in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 1000, MESSAGE_BYTES] {
            let message: Vec<u8> = (0..bytes).map(|at| (at * 7) as u8).collect();
            let mut memory = [0; MESSAGE_BYTES];
            let mut incoming = Incoming::new(&mut memory);
            let mut parts: Vec<_> = missing_parts(&message, 0).collect();
            assert_eq!(parts.iter().filter(|part| part.is_last).count(), 1);
            parts.reverse();
            for part in &parts {
                assert!(!incoming.is_whole());
                assert_eq!(incoming.accept(part), Ok(true));
                assert_eq!(incoming.accept(part), Ok(false));
            }
            assert!(incoming.is_whole());
            assert_eq!(incoming.message(), message);
        }
    }

    #[test]
    fn only_missing_parts_are_sent_and_the_last_of_them_is_marked() {
        let message = [1; 5 * PART_BYTES];
        let missing: Vec<_> = missing_parts(&message, 0b10101).map(|part| (part.index, part.is_last)).collect();
        assert_eq!(missing, [(1, false), (3, true)]);
        assert_eq!(missing_parts(&message, u64::MAX).count(), 0);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let mut memory = [0; 3 * PART_BYTES];
        let mut incoming = Incoming::new(&mut memory);
        let part = Part { index: 0, count: 3, is_last: false, bytes: &[0; PART_BYTES] };
        assert_eq!(incoming.accept(&part), Ok(true));
        for bad in [
            Part { index: 3, ..part },
            Part { index: 1, count: 4, ..part },
            Part { index: 1, bytes: &[0; 5], ..part },
            Part { index: 2, bytes: &[0; PART_BYTES + 1], ..part },
        ] {
            assert_eq!(incoming.accept(&bad), Err(Refusal::BadPart), "{bad:?}");
        }
        incoming.clear();
        let end = Part { index: 3, count: 4, is_last: true, bytes: &[0] };
        assert_eq!(incoming.accept(&end), Err(Refusal::BadPart), "no room");
        assert_eq!(incoming.accept(&Part { index: 64, count: 65, ..part }), Err(Refusal::BadPart));
        assert_eq!(incoming.accept(&Part { index: 0, count: 0, ..part }), Err(Refusal::BadPart));
    }
}
