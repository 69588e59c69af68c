//! One small record that is replaced as a whole, in a log over two or more erase blocks.
//!
//! A record is u32 number, the content, and the CRC-32 of both; the valid one with the highest number counts. The next goes into the erased place
//! behind it; where the block ends, the next block is erased first. So the block with the record that counts is never erased, and
//! whatever a loss of power leaves of an erase or of a program, that record is still there.
//!
//! Why not `sequential-storage`: it tells from the first and the last word of a block whether it is erased (8.0.2). An erase that was cut short,
//! which may leave any bits anywhere, can look like a finished one to it, and it then programs words that are not erased: `tests/slots` found that.

use core::ops::Range;

use crc::{CRC_32_ISO_HDLC, Crc};
use embedded_storage::nor_flash::NorFlash;

/// Bytes of a record; a multiple of the words of any flash.
pub const RECORD_BYTES: usize = 64;
/// Bytes of its content.
pub const CONTENT_BYTES: usize = RECORD_BYTES - 8;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The log in a part of a flash.
#[derive(Clone, Debug)]
pub struct Log {
    area: Range<u32>,
    /// Number of the last record, and where the next one goes if it is erased there.
    number: u32,
    next: u32,
}

impl Log {
    /// Finds the last record, if there is one, in a part of a flash that is two whole blocks or more.
    ///
    /// # Errors
    ///
    /// If the flash fails.
    pub fn open<F: NorFlash>(flash: &mut F, area: Range<u32>) -> Result<(Self, Option<[u8; CONTENT_BYTES]>), F::Error> {
        let (mut log, mut last) = (Self { next: area.start, number: 0, area: area.clone() }, None);
        let mut record = [0; RECORD_BYTES];
        for at in area.step_by(RECORD_BYTES) {
            flash.read(at, &mut record)?;
            if let Some((number, content)) = parse(&record)
                && number > log.number
            {
                (log.number, log.next, last) = (number, at + RECORD_BYTES as u32, Some(content));
            }
        }
        Ok((log, last))
    }

    /// Where its part of the flash begins.
    pub fn start(&self) -> u32 {
        self.area.start
    }

    /// Replaces the record. After a loss of power the old one counts, or the new one.
    ///
    /// # Errors
    ///
    /// If the flash fails.
    pub fn replace<F: NorFlash>(&mut self, flash: &mut F, content: &[u8; CONTENT_BYTES]) -> Result<(), F::Error> {
        let mut place = [0; RECORD_BYTES];
        let at = loop {
            let at = if self.next < self.area.end { self.next } else { self.area.start };
            self.next = at + RECORD_BYTES as u32;
            if (at - self.area.start).is_multiple_of(F::ERASE_SIZE as u32) {
                flash.erase(at, at + F::ERASE_SIZE as u32)?;
                break at;
            }
            // A record that was cut short, and nobody erases.
            flash.read(at, &mut place)?;
            if place == [0xFF; RECORD_BYTES] {
                break at;
            }
        };
        flash.write(at, &emit(self.number + 1, content))?;
        self.number += 1;
        Ok(())
    }
}

fn parse(record: &[u8; RECORD_BYTES]) -> Option<(u32, [u8; CONTENT_BYTES])> {
    let (checked, crc) = record.split_last_chunk()?;
    let (number, content) = checked.split_first_chunk()?;
    let is_whole = CRC.checksum(checked) == u32::from_le_bytes(*crc);
    Some((u32::from_le_bytes(*number), content.try_into().ok()?)).filter(|_| is_whole)
}

fn emit(number: u32, content: &[u8; CONTENT_BYTES]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(&number.to_le_bytes());
    record[4..RECORD_BYTES - 4].copy_from_slice(content);
    let crc = CRC.checksum(&record[..RECORD_BYTES - 4]);
    record[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    record
}
