//! Why a text was not tokenized.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::special_tokens::MAX_SPELLING_BYTES;
use crate::storage::Unreadable;

/// Why a text was not tokenized. Nothing is truncated that the caller did not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TokenizerError {
    /// The configuration names a special token that the vocabulary has not.
    SpecialTokenMissing {
        /// The id that the configuration gives.
        id: u32,
        /// Ids in the vocabulary.
        vocab_size: u32,
    },
    /// The text has more tokens than there is room for.
    TooManyTokens {
        /// Tokens of the text or texts, `[CLS]` and `[SEP]` included.
        needed_tokens: usize,
        /// Room given.
        given_tokens: usize,
    },
    /// There is no room for `[CLS]` and `[SEP]`.
    NoRoomForSpecialTokens {
        /// Special tokens.
        needed_tokens: usize,
        /// Room given.
        given_tokens: usize,
    },
    /// Only one text may be shortened, and it would have no token left.
    NothingLeft {
        /// Tokens too many.
        excess_tokens: usize,
        /// Tokens of the text that may be shortened.
        text_tokens: usize,
    },
    /// Only the second text may be shortened, and there is none.
    SecondTextMissing,
    /// Offsets count bytes in 32 bits.
    TextTooLong {
        /// Bytes of the text.
        bytes: usize,
    },
    /// A special token has more bytes than [`MAX_SPELLING_BYTES`](super::MAX_SPELLING_BYTES).
    SpecialTokenTooLong {
        /// Its id.
        id: u32,
    },
    /// The text is not UTF-8, or ends within a character.
    InvalidUtf8 {
        /// Bytes of the text before that.
        at: usize,
    },
    /// The vocabulary cannot be read from its device.
    Unreadable(Unreadable),
    /// What decoded text is written to fails.
    Output,
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpecialTokenMissing { id, vocab_size } => write!(
                f,
                "special token {id} is not among the vocabulary's {vocab_size} tokens: convert the model again"
            ),
            Self::TooManyTokens { needed_tokens, given_tokens } => write!(
                f,
                "{needed_tokens} tokens do not fit into {given_tokens}: give more room, shorten the text or allow truncation"
            ),
            Self::NoRoomForSpecialTokens { needed_tokens, given_tokens } => {
                write!(f, "room for {given_tokens} tokens; the special tokens alone need {needed_tokens}")
            }
            Self::NothingLeft { excess_tokens, text_tokens } => write!(
                f,
                "{excess_tokens} tokens too many, and the text that may be truncated has {text_tokens}: \
                 shorten the other text or truncate the longest first"
            ),
            Self::SecondTextMissing => write!(f, "only the second text may be truncated, and there is none"),
            Self::SpecialTokenTooLong { id } => write!(
                f,
                "special token {id} has more than {MAX_SPELLING_BYTES} bytes: is it really one? See tokenizer_config.json"
            ),
            Self::InvalidUtf8 { at } => write!(f, "the text is not UTF-8 at byte {at}: convert it first"),
            Self::Output => write!(f, "the decoded text cannot be written"),
            Self::Unreadable(unreadable) => write!(f, "vocabulary: {unreadable}"),
            Self::TextTooLong { bytes } => write!(f, "a text of {bytes} bytes; encode it in parts below 4 GiB"),
        }
    }
}

impl core::error::Error for TokenizerError {}

impl From<Unreadable> for TokenizerError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<fmt::Error> for TokenizerError {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}
