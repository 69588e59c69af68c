//! Drivers of the embedded world as block sources.

use embedded_io::{Read, ReadExactError, Seek, SeekFrom};
use embedded_storage::nor_flash::ReadNorFlash;

use super::BlockSource;

/// A NOR flash behind embedded-storage's `ReadNorFlash`: on-chip flash, SPI or quad SPI flash.
///
/// Blocks are multiples of the driver's `READ_SIZE`, and so is `start`.
#[derive(Clone, Debug)]
pub struct NorFlashSource<F> {
    flash: F,
    start: u32,
}

impl<F: ReadNorFlash> NorFlashSource<F> {
    /// The bytes of a flash from `start` on.
    pub const fn new(flash: F, start: u32) -> Self {
        Self { flash, start }
    }

    /// Gives the driver back.
    pub fn into_inner(self) -> F {
        self.flash
    }
}

impl<F: ReadNorFlash> BlockSource for NorFlashSource<F> {
    type Error = F::Error;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), F::Error> {
        // A sum that wraps is refused by the driver like any other address behind its end.
        self.flash.read(self.start.saturating_add(offset), buffer)
    }
}

/// A file or a device behind embedded-io's `Read` and `Seek`.
#[derive(Clone, Debug)]
pub struct SeekSource<R> {
    reader: R,
    start: u64,
    /// Where the reader stands; `None` before the first read and after a failed one.
    at: Option<u64>,
}

impl<R: Read + Seek> SeekSource<R> {
    /// The bytes of a reader from `start` on.
    pub const fn new(reader: R, start: u64) -> Self {
        Self { reader, start, at: None }
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: Read + Seek> BlockSource for SeekSource<R> {
    type Error = ReadExactError<R::Error>;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error> {
        let wanted = self.start.saturating_add(offset.into());
        // What is read in order needs no seeking.
        if self.at.take() != Some(wanted) {
            self.reader.seek(SeekFrom::Start(wanted)).map_err(ReadExactError::Other)?;
        }
        self.reader.read_exact(buffer)?;
        self.at = Some(wanted.saturating_add(buffer.len() as u64));
        Ok(())
    }
}
