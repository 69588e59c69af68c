//! A few bytes of text, in place.

/// Up to `N` bytes; `N` is below 256.
#[derive(Clone, Copy, Debug)]
pub struct ShortBytes<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> ShortBytes<N> {
    pub const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes behind the others, as far as there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        for (place, &byte) in self.bytes.iter_mut().skip(self.len.into()).zip(bytes) {
            *place = byte;
            self.len += 1;
        }
    }

    /// Takes some bytes away from the start.
    pub fn remove(&mut self, count: usize) {
        let before = core::mem::replace(self, Self::EMPTY);
        self.push(before.as_bytes().get(count..).unwrap_or_default());
    }
}
