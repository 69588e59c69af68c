//! The first 64 bytes of a blob. Parse and emit side by side.

use sha2::{Digest, Sha256};

use super::section::ENTRY_BYTES;
use crate::error::FormatError;

/// Bytes of the header; the section table follows at once.
pub const HEADER_BYTES: usize = 64;
/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"MBQ1";
/// The version that this code reads and writes; any change of layout or arithmetic raises it.
pub const VERSION: u16 = 3;

/// Byte ranges of the fields.
mod field {
    use core::ops::Range;
    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: Range<usize> = 4..6;
    pub const SECTIONS: Range<usize> = 6..8;
    pub const TOTAL: Range<usize> = 8..16;
    pub const ALIGNMENT: Range<usize> = 16..20;
    pub const RESERVED: Range<usize> = 20..32;
    pub const SHA256: Range<usize> = 32..64;
}

/// The header of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Entries of the section table.
    pub sections: u16,
    /// Length of the whole blob.
    pub total_bytes: u64,
    /// Every section begins on a multiple of it: a power of two, 64 at least.
    pub alignment_bytes: u32,
}

impl Header {
    /// Length of header and section table together.
    pub const fn table_end(&self) -> usize {
        HEADER_BYTES + self.sections as usize * ENTRY_BYTES
    }

    /// What the header at the start of a memory says of the length of the blob, unchecked; `None` where there is no header. For a flash
    /// that is longer than the blob in it: what [`parse`](Self::parse) then makes of that many bytes tells whether it is true.
    pub fn total_bytes_of(memory: &[u8]) -> Option<u64> {
        let bytes: &[u8; HEADER_BYTES] = memory.first_chunk()?;
        (bytes[field::MAGIC] == MAGIC).then(|| super::u64_at(bytes, field::TOTAL.start))
    }

    /// The hash in the header at the start of a memory, unchecked; `None` where there is no header. It covers the header and the section
    /// table, and so the hashes of all else: two blobs of the same hash are the same.
    pub fn sha256_of(memory: &[u8]) -> Option<[u8; 32]> {
        let bytes: &[u8; HEADER_BYTES] = memory.first_chunk()?;
        (bytes[field::MAGIC] == MAGIC).then(|| bytes[field::SHA256].try_into().ok())?
    }

    /// Reads and checks the header of a blob of `blob_bytes` bytes. The hash over it and the section table is for
    /// [`is_intact`](Self::is_intact).
    ///
    /// # Errors
    ///
    /// Another magic, version, length or alignment.
    pub fn parse(bytes: &[u8; HEADER_BYTES], blob_bytes: u64) -> Result<Self, FormatError> {
        use super::{u16_at, u32_at, u64_at};
        if bytes[field::MAGIC] != MAGIC {
            return Err(FormatError::BadMagic { found: [bytes[0], bytes[1], bytes[2], bytes[3]] });
        }
        let version = u16_at(bytes, field::VERSION.start);
        if version != VERSION {
            return Err(FormatError::UnsupportedVersion { found: version, expected: VERSION });
        }
        let header = Self {
            sections: u16_at(bytes, field::SECTIONS.start),
            total_bytes: u64_at(bytes, field::TOTAL.start),
            alignment_bytes: u32_at(bytes, field::ALIGNMENT.start),
        };
        if header.total_bytes != blob_bytes {
            return Err(FormatError::WrongLength { header_bytes: header.total_bytes, found_bytes: blob_bytes });
        }
        if header.table_end() as u64 > blob_bytes {
            return Err(FormatError::TooShort { found_bytes: blob_bytes });
        }
        let aligned = header.alignment_bytes.is_power_of_two() && header.alignment_bytes >= 64;
        if aligned && bytes[field::RESERVED] == [0; 12] { Ok(header) } else { Err(FormatError::DamagedHeader) }
    }

    /// Whether the header's hash is that of its other bytes and of the section table.
    pub fn is_intact(bytes: &[u8; HEADER_BYTES], hasher_of_both: Sha256) -> bool {
        bytes[field::SHA256] == *hasher_of_both.finalize()
    }

    /// The hash of the header's bytes before the hash; the section table is to be added.
    pub fn hasher(bytes: &[u8; HEADER_BYTES]) -> Sha256 {
        Sha256::new().chain_update(&bytes[..field::SHA256.start])
    }

    /// Writes the header that [`parse`](Self::parse) reads, for the section table that will follow it.
    pub fn emit(&self, table: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        bytes[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        bytes[field::SECTIONS].copy_from_slice(&self.sections.to_le_bytes());
        bytes[field::TOTAL].copy_from_slice(&self.total_bytes.to_le_bytes());
        bytes[field::ALIGNMENT].copy_from_slice(&self.alignment_bytes.to_le_bytes());
        let hash = Self::hasher(&bytes).chain_update(table).finalize();
        bytes[field::SHA256].copy_from_slice(&hash);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_a_blob_is_found_at_the_start_of_a_longer_memory() {
        let header = Header { sections: 0, total_bytes: 64, alignment_bytes: 64 };
        let mut memory = [0xff; 100];
        assert_eq!(Header::total_bytes_of(&memory), None);
        memory[..HEADER_BYTES].copy_from_slice(&header.emit(&[]));
        assert_eq!(Header::total_bytes_of(&memory), Some(64));
        assert_eq!(Header::total_bytes_of(&memory[..HEADER_BYTES - 1]), None);
    }
}
