//! What can go wrong, one enum per stage. All are small, `Copy` and without strings.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::ConfigOutOfRange;
use crate::format::layout::WeightLayout;
use crate::format::section::SectionKind;
use crate::storage::Unreadable;

/// Why a model blob was refused. Nothing is read from a blob that failed to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FormatError {
    /// Shorter than a header: not a blob, or an empty flash region.
    TooShort {
        /// Bytes given.
        found_bytes: u64,
    },
    /// Longer than 4 GiB.
    TooLong {
        /// Bytes given.
        found_bytes: u64,
    },
    /// The first four bytes are not `MBQ1`: not a blob, or read from the wrong address.
    BadMagic {
        /// What they are.
        found: [u8; 4],
    },
    /// Written by another version of the converter.
    UnsupportedVersion {
        /// The blob's version.
        found: u16,
        /// The only version this reader knows.
        expected: u16,
    },
    /// The header tells another length than there is: usually a truncated copy.
    WrongLength {
        /// Length in the header.
        header_bytes: u64,
        /// Bytes given.
        found_bytes: u64,
    },
    /// Header or section table is damaged: its SHA-256 differs.
    DamagedHeader,
    /// A section entry has an unknown kind, element type or layout code.
    BadSectionEntry {
        /// Number of the entry in the table.
        index: u16,
    },
    /// A section is not aligned, reaches past the end, or overlaps the one before it.
    SectionOutOfBounds {
        /// Number of the entry in the table.
        index: u16,
        /// Its first byte.
        offset_bytes: u64,
        /// Its length.
        length_bytes: u64,
    },
    /// A section that this model needs is absent or there twice.
    MissingSection {
        /// Its kind.
        kind: SectionKind,
        /// Its encoder layer (0 outside the encoder).
        layer: u16,
    },
    /// A section has another size than the configuration asks for.
    WrongSectionSize {
        /// Its kind.
        kind: SectionKind,
        /// Its encoder layer (0 outside the encoder).
        layer: u16,
        /// Bytes it has.
        found_bytes: u64,
        /// Bytes it should have.
        expected_bytes: u64,
    },
    /// The bytes of a section are damaged: their SHA-256 differs.
    DamagedSection {
        /// Its kind.
        kind: SectionKind,
        /// Its encoder layer (0 outside the encoder).
        layer: u16,
    },
    /// A byte between two sections is not zero.
    NonZeroPadding {
        /// Where it is.
        offset_bytes: u64,
    },
    /// The manifest cannot be decoded.
    BadManifest,
    /// The self-test section cannot be decoded.
    BadSelfTest,
    /// The vocabulary section cannot be searched, or has not as many entries as the model has embeddings.
    BadVocabulary,
    /// A fixed-point parameter lies outside its range.
    BadParameter {
        /// The section it is in.
        kind: SectionKind,
        /// Its encoder layer (0 outside the encoder).
        layer: u16,
    },
    /// The configuration lies outside what the runtime computes exactly.
    Config(ConfigOutOfRange),
    /// The device that the blob lies on did not give some bytes.
    Unreadable {
        /// The first of them.
        offset_bytes: u32,
    },
    /// The blob's place in memory is not a multiple of 8.
    Misaligned,
    /// The storage's window is smaller than the longest piece of the model that is needed at once.
    WindowTooSmall {
        /// Bytes of that piece.
        needed_bytes: usize,
        /// Bytes of the window.
        given_bytes: usize,
    },
    /// Weights are packed for another kind of CPU: convert again with this target.
    UnsupportedLayout {
        /// How they are packed.
        found: WeightLayout,
        /// What these kernels want; they read row-major weights, too.
        native: WeightLayout,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { found_bytes } => {
                write!(f, "{found_bytes} bytes are too few for a model: not a .mbert file, or an empty flash region")
            }
            Self::TooLong { found_bytes } => {
                write!(f, "{found_bytes} bytes are more than a model can have, which is 4 GiB")
            }
            Self::BadMagic { found } => write!(
                f,
                "not a .mbert model: it begins with {found:02x?} instead of \"MBQ1\"; check the file or the flash address"
            ),
            Self::UnsupportedVersion { found, expected } => {
                write!(f, "format version {found}, but this program reads version {expected}: convert the model again")
            }
            Self::WrongLength { header_bytes, found_bytes } => write!(
                f,
                "the header says {header_bytes} bytes, but there are {found_bytes}: the copy is not whole, copy it again"
            ),
            Self::DamagedHeader => {
                write!(f, "header or section table is damaged (SHA-256 differs): copy or convert the model again")
            }
            Self::BadSectionEntry { index } => {
                write!(f, "section entry {index} has an unknown kind, element type or layout")
            }
            Self::SectionOutOfBounds { index, offset_bytes, length_bytes } => write!(
                f,
                "section entry {index} ({length_bytes} bytes at {offset_bytes}) is not aligned, overlaps another or reaches past the end"
            ),
            Self::MissingSection { kind, layer } => {
                write!(f, "section {kind:?} of layer {layer} is missing or doubled")
            }
            Self::WrongSectionSize { kind, layer, found_bytes, expected_bytes } => {
                write!(f, "section {kind:?} of layer {layer} has {found_bytes} bytes instead of {expected_bytes}")
            }
            Self::DamagedSection { kind, layer } => write!(
                f,
                "section {kind:?} of layer {layer} is damaged (SHA-256 differs): copy or convert the model again"
            ),
            Self::NonZeroPadding { offset_bytes } => {
                write!(f, "byte {offset_bytes} is padding but not zero: copy or convert the model again")
            }
            Self::BadManifest => write!(f, "the manifest cannot be decoded: convert the model again"),
            Self::BadSelfTest => write!(f, "the self-test section cannot be decoded: convert the model again"),
            Self::BadVocabulary => write!(f, "the vocabulary does not fit the model: convert the model again"),
            Self::BadParameter { kind, layer } => {
                write!(f, "a parameter in section {kind:?} of layer {layer} is out of range: convert the model again")
            }
            Self::Config(error) => write!(f, "unsupported model: {error}"),
            Self::Unreadable { offset_bytes } => {
                write!(f, "byte {offset_bytes} of the model cannot be read: check the device that it lies on")
            }
            Self::Misaligned => write!(f, "the model's place in memory is not a multiple of 8 bytes: move it"),
            Self::WindowTooSmall { needed_bytes, given_bytes } => write!(
                f,
                "this model is read in pieces of up to {needed_bytes} bytes, but the storage's window has {given_bytes}: give its cache more blocks"
            ),
            Self::UnsupportedLayout { found, native } => write!(
                f,
                "weights are packed as {}, but these kernels want them as {}: convert the model with the --target of this core",
                found.name(),
                native.name()
            ),
        }
    }
}

impl core::error::Error for FormatError {}

impl From<Unreadable> for FormatError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable { offset_bytes: error.offset }
    }
}

impl From<ConfigOutOfRange> for FormatError {
    fn from(error: ConfigOutOfRange) -> Self {
        Self::Config(error)
    }
}

/// Why a sequence could not be run through the model. The next sequence works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ForwardError {
    /// No token at all.
    EmptySequence,
    /// More tokens than the model has positions.
    SequenceTooLong {
        /// Tokens given.
        tokens: usize,
        /// `max_position_embeddings`.
        max: usize,
    },
    /// A token id that is not in the vocabulary.
    TokenOutOfRange {
        /// Its position.
        position: usize,
        /// The id.
        id: u32,
        /// `vocab_size`.
        vocab_size: u32,
    },
    /// A token type id that the model does not have.
    TokenTypeOutOfRange {
        /// Its position.
        position: usize,
        /// The id.
        id: u8,
        /// `type_vocab_size`.
        type_vocab_size: u8,
    },
    /// `token_type_ids` has another length than `input_ids`.
    LengthMismatch {
        /// Length of `input_ids`.
        input_ids: usize,
        /// Length of `token_type_ids`.
        token_type_ids: usize,
    },
    /// The caller's memory is too small for this sequence.
    WorkspaceTooSmall {
        /// What [`Workspace::bytes`](crate::encoder::workspace::Workspace::bytes) tells.
        needed_bytes: usize,
        /// What was given.
        given_bytes: usize,
    },
    /// The model was converted without this head.
    MissingHead(Head),
    /// The device that the model lies on did not give some bytes.
    Unreadable {
        /// The first of them, from the beginning of the blob.
        offset_bytes: u32,
    },
    /// A position at or after the end of the sequence.
    PositionOutOfRange {
        /// The position.
        position: usize,
        /// Tokens of the sequence.
        tokens: usize,
    },
}

/// A part of the model beyond the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Head {
    /// `pooler`: the first token through a linear layer and tanh.
    Pooler,
    /// `cls.predictions`: masked language model.
    MaskedLm,
    /// `cls.seq_relationship`: next sentence.
    NextSentence,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EmptySequence => write!(f, "the sequence has no token"),
            Self::SequenceTooLong { tokens, max } => {
                write!(f, "the text has {tokens} tokens, but the model reads {max} at most: shorten it")
            }
            Self::TokenOutOfRange { position, id, vocab_size } => {
                write!(f, "token id {id} at position {position} is not in the vocabulary of {vocab_size}")
            }
            Self::TokenTypeOutOfRange { position, id, type_vocab_size } => {
                write!(f, "token type id {id} at position {position}: the model has {type_vocab_size} types")
            }
            Self::LengthMismatch { input_ids, token_type_ids } => {
                write!(f, "{input_ids} token ids, but {token_type_ids} token type ids")
            }
            Self::WorkspaceTooSmall { needed_bytes, given_bytes } => {
                write!(f, "this sequence needs {needed_bytes} bytes of workspace, {given_bytes} were given")
            }
            Self::MissingHead(head) => {
                let name = match head {
                    Head::Pooler => "pooler",
                    Head::MaskedLm => "masked-LM head",
                    Head::NextSentence => "next-sentence head",
                };
                write!(f, "the model has no {name}: convert a checkpoint that has one")
            }
            Self::Unreadable { offset_bytes } => {
                write!(f, "byte {offset_bytes} of the model cannot be read: check the device that it lies on")
            }
            Self::PositionOutOfRange { position, tokens } => {
                write!(f, "position {position} lies outside the sequence of {tokens} tokens")
            }
        }
    }
}

impl core::error::Error for ForwardError {}

impl From<Unreadable> for ForwardError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable { offset_bytes: error.offset }
    }
}
