//! Token ↔ id, and the search structure that splits words into tokens, read in place in the blob or through a few
//! cached blocks.
//!
//! The section is little-endian and position independent; its parts follow each other, each aligned to 4 bytes:
//!
//! | bytes              | part      | content                                                          |
//! |--------------------|-----------|------------------------------------------------------------------|
//! | 64                 | header    | see [`field`]; the rest is zero                                  |
//! | 4 · units          | units     | a trie over the tokens                                           |
//! | 4 · link words     | links     | where to go on after a failure far behind the last token         |
//! | 4 · (tokens/64 + 1)| anchors   | where the first of each 64 tokens starts in the strings          |
//! | 2 · (tokens + 1)   | distances | where a token starts, counted from its anchor                    |
//! | string bytes       | strings   | all tokens in the order of their ids, with nothing between them  |
//!
//! # The trie
//!
//! A double array over the tokens' bytes, `##` included. A node is a 32-bit unit; its child for byte `b` is the unit
//! at `base XOR b`, if that unit's label is `b`. There are whole blocks of 256 units, so that this is always one of them.
//!
//! | bits   | of an inner unit                             | of a leaf                                    |
//! |--------|----------------------------------------------|----------------------------------------------|
//! | 0..8   | label: the byte that leads here              | the same                                     |
//! | 8      | 0                                            | 1                                            |
//! | 9      | 1 if a token ends here: its leaf has label 0 | 0                                            |
//! | 10     | 1 if it has a link: its leaf has label 0     | 0                                            |
//! | 11..32 | base                                         | id, or the first word of the link            |
//!
//! # Linear time
//!
//! Longest match first reads on past a token while a longer one is possible, and where that fails it takes the token
//! and reads what lies behind it again. If that is at most [`MAX_REREAD_BYTES`], it is simply done. Every node
//! farther behind its last token has a link, which says what those bytes come to: the tokens to take, and the node
//! from which to go on without reading anything again (the failure links and pops of Song and others, "Fast WordPiece
//! Tokenization", 2021, for the few nodes that need them). So a word of n bytes costs at most
//! (3 + [`MAX_REREAD_BYTES`]) · n reads of units and links, whatever the vocabulary holds and the word is made of.
//!
//! | words of a link | content                                                                                    |
//! |-----------------|--------------------------------------------------------------------------------------------|
//! | 1               | the unit to go on from, and in bits 21..32 the number of tokens to take; none: unknown      |
//! | 1               | the leaf of the last token on the way to that unit, and in bits 21..32 the bytes behind it  |
//! | tokens          | id, and in bits 21..32 the bytes of the text that the token covers                         |
//!
//! # What it costs
//!
//! The section of bert-base-multilingual-cased (119,547 tokens) has 2.5 MB. A byte of text costs 1.2
//! reads; through a cache of eight blocks of 512 bytes a token costs 2.5 blocks.
//! `cargo bench -p mbert-tests --bench tokenizer` prints both.
//!
//! Nothing read from the section is trusted: what lies outside reads as 0, and every step of a search consumes a byte
//! of the text or a token, so a damaged section gives wrong ids, never a panic or an endless loop.

use core::fmt;

use crate::storage::{Storage, Unreadable};

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
    /// Number of words in the links, u32.
    pub const LINK_WORDS: Range<usize> = 16..20;
}

/// The first four bytes of a vocabulary section.
pub const MAGIC: [u8; 4] = *b"MBV2";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Tokens that share an anchor.
pub const TOKENS_PER_ANCHOR: usize = 64;
/// Longest token in bytes: what keeps every distance within 16 bits.
pub const MAX_TOKEN_BYTES: usize = 1023;
/// Most tokens, units and link words: a number of 21 bits.
pub const MAX_TOKENS: usize = 1 << 21;
/// What is read again after a failure, at most; nodes farther behind their last token have a link.
pub const MAX_REREAD_BYTES: usize = 20;
/// What precedes a token that continues a word.
pub const CONTINUATION_PREFIX: &[u8] = b"##";

/// Four bytes of the search structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit(pub u32);

impl Unit {
    const LEAF: u32 = 1 << 8;
    const ENDS_TOKEN: u32 = 1 << 9;
    const LINK: u32 = 1 << 10;

    /// An inner unit.
    pub const fn inner(label: u8, base: u32, ends_token: bool, has_link: bool) -> Self {
        Self(label as u32 | (ends_token as u32) << 9 | (has_link as u32) << 10 | base << 11)
    }

    /// A unit without children, which holds an id or the first word of a link.
    pub const fn leaf(label: u8, number: u32) -> Self {
        Self(label as u32 | Self::LEAF | number << 11)
    }

    #[inline(always)]
    pub(super) const fn label(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub(super) const fn is_leaf(self) -> bool {
        self.0 & Self::LEAF != 0
    }

    #[inline(always)]
    pub(super) const fn ends_token(self) -> bool {
        self.0 & Self::ENDS_TOKEN != 0
    }

    #[inline(always)]
    pub(super) const fn has_link(self) -> bool {
        self.0 & Self::LINK != 0
    }

    /// The base of an inner unit, the number in a leaf.
    #[inline(always)]
    pub(super) const fn payload(self) -> u32 {
        self.0 >> 11
    }
}

/// A word of a link: 21 bits and 11 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkWord(pub u32);

impl LinkWord {
    /// Joins a unit or an id, below 2²¹, and a count, below 2¹¹.
    pub const fn new(number: u32, count: u32) -> Self {
        Self(number | count << 21)
    }

    pub(super) const fn number(self) -> u32 {
        self.0 & (MAX_TOKENS as u32 - 1)
    }

    pub(super) const fn count(self) -> usize {
        (self.0 >> 21) as usize
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
    /// The device that holds the section fails.
    Unreadable(Unreadable),
}

impl fmt::Display for VocabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { found } => {
                write!(f, "not a vocabulary section of this version: it starts with {found:02x?}: convert again")
            }
            Self::Truncated { needed_bytes, given_bytes } => {
                write!(
                    f,
                    "the vocabulary section needs {needed_bytes} bytes and has {given_bytes}: copy it again whole"
                )
            }
            Self::BadTokenCount { found } => {
                write!(f, "the vocabulary section counts {found} tokens; 1 to {MAX_TOKENS} are possible: convert again")
            }
            Self::Unreadable(unreadable) => unreadable.fmt(f),
        }
    }
}

impl core::error::Error for VocabError {}

impl From<Unreadable> for VocabError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

/// A vocabulary section.
#[derive(Clone, Copy, Debug)]
pub struct Vocab<S> {
    storage: S,
    tokens: u32,
    /// Where the parts behind the units start.
    links: u32,
    anchors: u32,
    distances: u32,
    strings: u32,
    /// The root's unit, and that reached over [`CONTINUATION_PREFIX`]; `None` if no token continues a word.
    root: Unit,
    continuation_root: Option<Unit>,
}

impl<S: Storage> Vocab<S> {
    /// Reads the header and checks that every part lies within the section. Bytes behind the last part are ignored.
    ///
    /// # Errors
    ///
    /// If it is not a vocabulary section, or cut short, or cannot be read.
    pub fn open(storage: S) -> Result<Self, VocabError> {
        let given_bytes = storage.bytes();
        let truncated = |needed_bytes| VocabError::Truncated { needed_bytes, given_bytes };
        if given_bytes < HEADER_BYTES as u64 {
            return Err(truncated(HEADER_BYTES as u64));
        }
        let found = storage.read(field::MAGIC.start as u32)?;
        if found != MAGIC {
            return Err(VocabError::BadMagic { found });
        }
        let number = |field: core::ops::Range<usize>| storage.read_u32(field.start as u32, 0);
        let tokens = number(field::TOKENS)?;
        if tokens == 0 || tokens as usize > MAX_TOKENS {
            return Err(VocabError::BadTokenCount { found: tokens });
        }
        let parts = Parts::new(tokens, number(field::UNITS)?, number(field::LINK_WORDS)?, number(field::STRING_BYTES)?);
        // The sum is done in 64 bits; offsets within a section have 32.
        if parts.end > given_bytes.min(u32::MAX.into()) {
            return Err(truncated(parts.end));
        }
        let mut vocab = Self {
            tokens,
            links: parts.links as u32,
            anchors: parts.anchors as u32,
            distances: parts.distances as u32,
            strings: parts.strings as u32,
            root: Unit(storage.read_u32(HEADER_BYTES as u32, 0)?),
            continuation_root: None,
            storage,
        };
        let mut unit = Some(vocab.root);
        for &byte in CONTINUATION_PREFIX {
            unit = match unit {
                Some(unit) => vocab.child(unit, byte)?.filter(|child| !child.is_leaf()),
                None => None,
            };
        }
        vocab.continuation_root = unit;
        Ok(vocab)
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.tokens as usize
    }

    /// Never: a section without tokens is refused.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Copies the token `id`, with its `##`, to the start of `buffer`, cut off where that ends; returns what was
    /// copied.
    ///
    /// `None` if there is no such id. Empty if the id's token appears again under a later id, which then owns it.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn copy_token<'b>(&self, id: u32, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Unreadable> {
        let Some((start, end)) = self.string(id)? else { return Ok(None) };
        let mut copied = 0;
        for (byte, at) in buffer.iter_mut().zip(start..end) {
            [*byte] = self.storage.read(at)?;
            copied += 1;
        }
        Ok(buffer.get(..copied))
    }

    /// The id of a token, given with its `##`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn id(&self, token: &[u8]) -> Result<Option<u32>, Unreadable> {
        let mut unit = self.root;
        for (at, &byte) in token.iter().enumerate() {
            if byte == 0 {
                return Ok(None);
            }
            let Some(child) = self.child(unit, byte)? else { return Ok(None) };
            if child.is_leaf() {
                let is_whole = at + 1 == token.len();
                return Ok(is_whole.then_some(child.payload()).filter(|&id| id < self.tokens));
            }
            unit = child;
        }
        if token.is_empty() || !unit.ends_token() {
            return Ok(None);
        }
        Ok(Some(self.unit(unit.payload())?.payload()).filter(|&id| id < self.tokens))
    }

    /// The unit from which a word is read, or what continues one.
    #[inline(always)]
    pub(super) fn root(&self) -> Unit {
        self.root
    }

    /// The unit behind [`CONTINUATION_PREFIX`].
    #[inline(always)]
    pub(super) fn continuation_root(&self) -> Option<Unit> {
        self.continuation_root
    }

    #[inline(always)]
    pub(super) fn unit(&self, index: u32) -> Result<Unit, Unreadable> {
        // An index has 21 bits. In a damaged section it may lie in the parts behind the units.
        self.storage.read_u32(HEADER_BYTES as u32, index).map(Unit)
    }

    /// The child for a byte other than 0, the label of free units and of leaves of inner units.
    #[inline(always)]
    pub(super) fn child(&self, unit: Unit, byte: u8) -> Result<Option<Unit>, Unreadable> {
        let child = self.unit(unit.payload() ^ u32::from(byte))?;
        Ok((child.label() == byte).then_some(child))
    }

    /// A word of the links.
    pub(super) fn link_word(&self, index: u32) -> Result<LinkWord, Unreadable> {
        // An index has 21 bits and a few; a damaged one reads other parts, or 0.
        self.storage.read_u32(self.links, index).map(LinkWord)
    }

    /// Where a token starts and ends in the section.
    fn string(&self, id: u32) -> Result<Option<(u32, u32)>, Unreadable> {
        if id >= self.tokens {
            return Ok(None);
        }
        let start_of = |id: u32| -> Result<u32, Unreadable> {
            let distance = u16::from_le_bytes(self.storage.read(self.distances + 2 * id)?);
            let anchor = self.storage.read_u32(self.anchors, id / TOKENS_PER_ANCHOR as u32)?;
            Ok(self.strings.saturating_add(anchor).saturating_add(distance.into()))
        };
        Ok(Some((start_of(id)?, start_of(id + 1)?)))
    }
}

impl<'a> Vocab<&'a [u8]> {
    /// The bytes of the token `id`, with its `##`, in place; see [`copy_token`](Self::copy_token).
    pub fn token(&self, id: u32) -> Option<&'a [u8]> {
        let (start, end) = self.string(id).ok()??;
        self.storage.get(start as usize..end as usize)
    }
}

/// Where the parts of a section start, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The links, which end the units.
    pub links: u64,
    /// The anchors.
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
    pub const fn new(tokens: u32, units: u32, link_words: u32, string_bytes: u32) -> Self {
        let links = HEADER_BYTES as u64 + 4 * units as u64;
        let anchors = links + 4 * link_words as u64;
        let distances = anchors + 4 * (tokens as u64 / TOKENS_PER_ANCHOR as u64 + 1);
        let strings = (distances + 2 * (tokens as u64 + 1)).next_multiple_of(4);
        Self { links, anchors, distances, strings, end: strings + string_bytes as u64 }
    }
}
