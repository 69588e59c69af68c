//! Token ↔ id, and the longest token that starts a piece of text, read in place in the blob.
//!
//! The section is little-endian and position independent; its parts follow each other, each aligned to 4 bytes:
//!
//! | bytes              | part      | content                                                          |
//! |--------------------|-----------|------------------------------------------------------------------|
//! | 64                 | header    | see [`field`]; the rest is zero                                  |
//! | 4 · units          | units     | the search structure                                             |
//! | 4 · (tokens/64 + 1)| anchors   | where the first of each 64 tokens starts in the strings          |
//! | 2 · (tokens + 1)   | distances | where a token starts, counted from its anchor                    |
//! | string bytes       | strings   | all tokens in the order of their ids, with nothing between them  |
//!
//! The search structure is a double-array trie over the tokens' bytes, `##` included. A node is a 32-bit unit; its
//! child for byte `b` is the unit at `base XOR b`, if that unit's label is `b`. The trie stops where a prefix leaves
//! only one token; the rest of it is compared in the strings. So bert-base-multilingual-cased needs 195,115 units for
//! its 119,547 tokens instead of the 299,687 nodes of a full trie.
//!
//! | bits   | of an inner unit                             | of a leaf                                    |
//! |--------|----------------------------------------------|----------------------------------------------|
//! | 0..8   | label: the byte that leads here              | the same                                     |
//! | 8      | 0                                            | 1                                            |
//! | 9      | 1 if a token ends here: its leaf has label 0 | 1 if the token ends here, 0 if bytes follow  |
//! | 10..32 | base                                         | id                                           |
//!
//! The section of bert-base-multilingual-cased has 1,923,119 bytes. Over news in 129 languages a token costs 4.9 reads
//! in all, and a byte of text 0.9 reads of units; through a cache of eight blocks of 512 bytes that is 2.9 blocks per
//! token. A search reads on past the end of the token it finds for as long as a longer one is possible, so a word costs
//! at most `bytes · longest token` reads, however it is made up.
//!
//! Nothing read from the section is trusted: every index is checked and every step of a search consumes a byte of the
//! text, so a damaged section gives wrong ids, never a panic or an endless loop.

use core::fmt;

/// Where the header's numbers lie.
pub mod field {
    use core::ops::Range;

    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: Range<usize> = 0..4;
    /// Number of tokens, u32.
    pub const TOKENS: Range<usize> = 4..8;
    /// Number of units, u32.
    pub const UNITS: Range<usize> = 8..12;
    /// Bytes of the strings, u32.
    pub const STRING_BYTES: Range<usize> = 12..16;
}

/// The first four bytes of a vocabulary section.
pub const MAGIC: [u8; 4] = *b"MBV1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Tokens that share an anchor.
pub const TOKENS_PER_ANCHOR: usize = 64;
/// Longest token in bytes: what keeps every distance within 16 bits.
pub const MAX_TOKEN_BYTES: usize = 1023;
/// Most tokens: an id has the 22 bits of a base.
pub const MAX_TOKENS: usize = 1 << 22;
/// What precedes a token that continues a word.
pub const CONTINUATION_PREFIX: &[u8] = b"##";

/// Four bytes of the search structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit(pub u32);

impl Unit {
    const LEAF: u32 = 1 << 8;
    const ENDS_TOKEN: u32 = 1 << 9;

    /// An inner unit.
    pub const fn inner(label: u8, base: u32, ends_token: bool) -> Self {
        Self(label as u32 | (ends_token as u32) << 9 | base << 10)
    }

    /// The unit below which there is only the token `id`.
    pub const fn leaf(label: u8, id: u32, ends_token: bool) -> Self {
        Self(label as u32 | Self::LEAF | (ends_token as u32) << 9 | id << 10)
    }

    const fn label(self) -> u8 {
        self.0 as u8
    }

    const fn is_leaf(self) -> bool {
        self.0 & Self::LEAF != 0
    }

    const fn ends_token(self) -> bool {
        self.0 & Self::ENDS_TOKEN != 0
    }

    /// The base of an inner unit, the id of a leaf.
    const fn payload(self) -> u32 {
        self.0 >> 10
    }
}

/// Why a vocabulary section was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabError {
    /// The first four bytes are not [`MAGIC`].
    BadMagic {
        /// The bytes found.
        found: [u8; 4],
    },
    /// The section is shorter than its header says.
    Truncated {
        /// Bytes that the header asks for, or the header's own.
        needed_bytes: u64,
        /// Bytes given.
        given_bytes: u64,
    },
    /// The header names no tokens, or more than [`MAX_TOKENS`].
    BadTokenCount {
        /// The number found.
        found: u32,
    },
}

impl fmt::Display for VocabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { found } => write!(f, "not a vocabulary section: it starts with {found:02x?}"),
            Self::Truncated { needed_bytes, given_bytes } => {
                write!(
                    f,
                    "the vocabulary section needs {needed_bytes} bytes and has {given_bytes}: copy it again whole"
                )
            }
            Self::BadTokenCount { found } => {
                write!(f, "the vocabulary section counts {found} tokens; 1 to {MAX_TOKENS} are possible: convert again")
            }
        }
    }
}

impl core::error::Error for VocabError {}

/// A vocabulary section, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Vocab<'a> {
    units: &'a [[u8; 4]],
    anchors: &'a [[u8; 4]],
    distances: &'a [[u8; 2]],
    strings: &'a [u8],
    /// The root's unit, and that reached over [`CONTINUATION_PREFIX`]; `None` if no token continues a word.
    root: Unit,
    continuation_root: Option<Unit>,
}

impl<'a> Vocab<'a> {
    /// Reads the header and checks that every part lies within `section`. Bytes behind the last part are ignored.
    ///
    /// # Errors
    ///
    /// If it is not a vocabulary section, or cut short.
    pub fn open(section: &'a [u8]) -> Result<Self, VocabError> {
        let given_bytes = section.len() as u64;
        let truncated = |needed_bytes| VocabError::Truncated { needed_bytes, given_bytes };
        let header = section.get(..HEADER_BYTES).ok_or(truncated(HEADER_BYTES as u64))?;
        let number = |range: core::ops::Range<usize>| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[range]);
            bytes
        };
        let found = number(field::MAGIC);
        if found != MAGIC {
            return Err(VocabError::BadMagic { found });
        }
        let tokens = u32::from_le_bytes(number(field::TOKENS));
        if tokens == 0 || tokens as usize > MAX_TOKENS {
            return Err(VocabError::BadTokenCount { found: tokens });
        }
        let parts = Parts::new(
            tokens,
            u32::from_le_bytes(number(field::UNITS)),
            u32::from_le_bytes(number(field::STRING_BYTES)),
        );
        // The sum is done in 64 bits; a section that passes is in memory, so the parts fit `usize`.
        if parts.end > given_bytes {
            return Err(truncated(parts.end));
        }
        let part = |start: u64, end: u64| &section[start as usize..end as usize];
        let units = part(HEADER_BYTES as u64, parts.anchors).as_chunks().0;
        let mut vocab = Self {
            units,
            anchors: part(parts.anchors, parts.distances).as_chunks().0,
            distances: part(parts.distances, parts.distances + 2 * (u64::from(tokens) + 1)).as_chunks().0,
            strings: part(parts.strings, parts.end),
            root: units.first().map_or(Unit::default(), |&unit| Unit(u32::from_le_bytes(unit))),
            continuation_root: None,
        };
        vocab.continuation_root = CONTINUATION_PREFIX
            .iter()
            .try_fold(vocab.root, |unit, &byte| vocab.child(unit, byte))
            .filter(|unit| !unit.is_leaf());
        Ok(vocab)
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.distances.len() - 1
    }

    /// Never: a section without tokens is refused.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bytes of the token `id`, with its `##`.
    ///
    /// `None` if there is no such id. Empty if the id's token appears again under a later id, which then owns it.
    pub fn token(&self, id: u32) -> Option<&'a [u8]> {
        let start = self.string_start(id as usize)?;
        let end = self.string_start(id as usize + 1)?;
        self.strings.get(start..end)
    }

    /// The id of a token, given with its `##`.
    pub fn id(&self, token: &[u8]) -> Option<u32> {
        if token.contains(&0) {
            return None;
        }
        let found = self.longest(self.root, 0, token)?;
        (found.bytes == token.len()).then_some(found.id)
    }

    /// The longest token that `text` starts with, as the start of a word or as its continuation.
    ///
    /// `text` has no byte 0; cleaned text has none.
    #[inline]
    pub(super) fn longest_match(&self, text: &[u8], continues_word: bool) -> Option<Match> {
        if continues_word {
            self.longest(self.continuation_root?, CONTINUATION_PREFIX.len(), text)
        } else {
            self.longest(self.root, 0, text)
        }
    }

    /// Walks down from `unit`, which lies `depth` bytes below the root.
    #[inline]
    fn longest(&self, mut unit: Unit, depth: usize, text: &[u8]) -> Option<Match> {
        let mut ended = None;
        for (i, &byte) in text.iter().enumerate() {
            let Some(child) = self.child(unit, byte) else { break };
            if child.is_leaf() {
                let id = child.payload();
                if child.ends_token() && (id as usize) < self.len() {
                    return Some(Match { id, bytes: i + 1 });
                }
                let rest = self.token(id)?.get(depth + i + 1..)?;
                // A loop, because a call to compare a handful of bytes costs more than the comparison.
                if text.len() > i + rest.len() && text[i + 1..].iter().zip(rest).all(|(a, b)| a == b) {
                    return Some(Match { id, bytes: i + 1 + rest.len() });
                }
                break;
            }
            unit = child;
            if unit.ends_token() {
                ended = Some((unit, i + 1));
            }
        }
        let (unit, bytes) = ended?;
        let id = self.unit(unit.payload())?.payload();
        ((id as usize) < self.len()).then_some(Match { id, bytes })
    }

    #[inline]
    fn unit(&self, index: u32) -> Option<Unit> {
        self.units.get(index as usize).map(|&unit| Unit(u32::from_le_bytes(unit)))
    }

    /// The child for a byte other than 0, the label of free units and of leaves of tokens that end at an inner unit.
    #[inline]
    fn child(&self, unit: Unit, byte: u8) -> Option<Unit> {
        self.unit(unit.payload() ^ u32::from(byte)).filter(|child| child.label() == byte)
    }

    #[inline]
    fn string_start(&self, id: usize) -> Option<usize> {
        let distance = u16::from_le_bytes(*self.distances.get(id)?);
        let anchor = u32::from_le_bytes(*self.anchors.get(id / TOKENS_PER_ANCHOR)?);
        (anchor as usize).checked_add(usize::from(distance))
    }
}

/// A token found at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub id: u32,
    /// Bytes of the text that it covers: its length without `##`.
    pub bytes: usize,
}

/// Where the parts of a section start, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The anchors, which end the units.
    pub anchors: u64,
    /// The distances.
    pub distances: u64,
    /// The strings.
    pub strings: u64,
    /// The end of the section.
    pub end: u64,
}

impl Parts {
    /// The layout of a section with these counts.
    pub const fn new(tokens: u32, units: u32, string_bytes: u32) -> Self {
        let anchors = HEADER_BYTES as u64 + 4 * units as u64;
        let distances = anchors + 4 * (tokens as u64 / TOKENS_PER_ANCHOR as u64 + 1);
        let strings = (distances + 2 * (tokens as u64 + 1)).next_multiple_of(4);
        Self { anchors, distances, strings, end: strings + string_bytes as u64 }
    }
}
