//! Why there is no answer.

use core::fmt;

use mbert_runtime::error::ForwardError;
use mbert_runtime::pipeline::PipelineError;
use mbert_runtime::tokenizer::TokenizerError;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

/// Why a board does not answer a request. The next one works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeviceError {
    /// The message cannot be read.
    Malformed,
    /// There is no usable model.
    NoModel,
    /// The host did not want the answer any more.
    Cancelled,
    /// More tokens for each mask than the board keeps.
    TooManyAnswers {
        /// Asked for.
        top_k: u8,
        /// [`MAX_TOP_K`](super::MAX_TOP_K).
        max: u8,
    },
    /// One item does not fit into a message.
    ItemTooLong,
    /// There is no such item, or the last question has none.
    NothingMore,
    /// The question has no answer.
    Pipeline(PipelineError),
    /// The upload was refused.
    Store(StoreError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "the request cannot be read: is the firmware as new as this program?"),
            Self::NoModel => write!(f, "there is no usable model: upload one"),
            Self::Cancelled => write!(f, "the work was cancelled"),
            Self::TooManyAnswers { top_k, max } => {
                write!(f, "{top_k} answers were asked for, but {max} is the most for a mask")
            }
            Self::ItemTooLong => write!(f, "the answer is too long for a message: shorten the text"),
            Self::NothingMore => write!(f, "the last answer has no such part: ask again"),
            Self::Pipeline(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for DeviceError {}

impl From<PipelineError> for DeviceError {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

impl From<ForwardError> for DeviceError {
    fn from(error: ForwardError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<TokenizerError> for DeviceError {
    fn from(error: TokenizerError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<StoreError> for DeviceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
