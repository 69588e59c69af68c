//! Text into memory of C's.

use core::fmt;

use crate::MbertStatus;

/// Memory that is written from its beginning.
pub struct Buffer<'a> {
    bytes: &'a mut [u8],
    filled: usize,
}

impl<'a> Buffer<'a> {
    /// Nothing yet.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, filled: 0 }
    }

    /// Ends it with a zero byte; bytes before that.
    pub fn finish(mut self) -> Result<usize, MbertStatus> {
        let bytes = self.filled;
        fmt::Write::write_char(&mut self, '\0').map_err(|_| MbertStatus::BufferTooSmall)?;
        Ok(bytes)
    }
}

impl fmt::Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.filled..).and_then(|room| room.get_mut(..text.len())).ok_or(fmt::Error)?;
        room.iter_mut().zip(text.bytes()).for_each(|(entry, byte)| *entry = byte);
        self.filled += text.len();
        Ok(())
    }
}
