//! The blob: one flat file that is read in place. This page and [`section`] are its whole specification.
//!
//! All integers are little-endian. MB means 10⁶ bytes.
//!
//! | bytes            | what                                                                              |
//! |------------------|-----------------------------------------------------------------------------------|
//! | 0..4             | magic `MBQ1`                                                                      |
//! | 4..6             | u16 version, 2                                                                    |
//! | 6..8             | u16 number of sections, S                                                         |
//! | 8..16            | u64 length of the whole blob                                                      |
//! | 16..20           | u32 alignment of every section: a power of two, 64 at least                       |
//! | 20..32           | zero                                                                              |
//! | 32..64           | SHA-256 of bytes 0..32 and of the section table                                   |
//! | 64..64 + 64 · S  | section table                                                                     |
//! | then             | the sections, in the order of the table, each aligned; all bytes between are zero |
//!
//! An entry of the section table:
//!
//! | bytes  | what                                                                          |
//! |--------|-------------------------------------------------------------------------------|
//! | 0..2   | u16 kind: [`SectionKind`](section::SectionKind)                               |
//! | 2..4   | u16 encoder layer, 0 outside the encoder                                      |
//! | 4      | u8 element: 0 bytes, 1 tiles, 2 int16, 3 int32                                |
//! | 5      | u8 layout: 0 row-major, else [`WeightLayout`](layout::WeightLayout)           |
//! | 6..8   | zero                                                                          |
//! | 8..16  | u64 offset of the first byte                                                  |
//! | 16..24 | u64 length in bytes, without padding                                          |
//! | 24..28 | u32 rows                                                                      |
//! | 28..32 | u32 columns, 1 for a vector                                                   |
//! | 32..64 | SHA-256 of the bytes; zero for the signature section                          |
//!
//! Sections lie in the order in which an answer reads them, which is that of their kinds, layer after layer; so their places follow from
//! the first few, and nobody searches the table. The weights of a linear layer are [`tiles`].
//!
//! Sections of constants are described in [`constants`], the vocabulary in [`tokenizer::vocab`](crate::tokenizer::vocab).
//!
//! A layer norm section is u64 `ε · H²` in squared units of its input, int32 fraction bits of its output, four bytes of zero, then `[H, 2]`
//! int32: γ and β, as [`normalize`](crate::ops::layer_norm::normalize) takes them. Each channel of an output that a layer of the encoder reads
//! has the unit in which that layer's quantised rows read it: the smoothing of its inputs is part of γ and β. The third parameters of the
//! linear layer that is added to it bring it back to one unit, of so many fraction bits; other outputs have these themselves.
//!
//! The [`signature`] section is zero while the blob is unsigned. A signature covers bytes `0..64 + 64 · S`, and with the hashes in the
//! table every other byte.

pub mod constants;
pub mod contents;
pub mod header;
pub mod layout;
pub mod manifest;
pub mod section;
pub mod self_test;
pub mod signature;
pub mod tiles;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
