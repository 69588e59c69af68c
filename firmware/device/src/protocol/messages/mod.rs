//! What is asked and answered. Both sides use this module, and nothing else describes a message.
//!
//! A request is a [`Request`], an answer a `Result` of [`Answer`] and [`DeviceError`], both encoded with postcard. Behind an answer that is
//! a list stand its items, as many as fit; [`Request::More`] asks for the next ones.
//!
//! | request             | answer                         | items                                |
//! |---------------------|--------------------------------|--------------------------------------|
//! | `Hello`             | `Hello`                        |                                      |
//! | `Tokenize`          | `Tokens`                       | [`TokenItem`]                        |
//! | `FillMask`          | `Masks`                        | [`MaskItem`], best first, mask by mask |
//! | `NextSentence`      | `NextSentence`                 |                                      |
//! | `Features`          | `Features`                     | int16, little-endian                 |
//! | `More`              | `More`                         | those of the last question           |
//! | `Bench`, `SelfTest` | `Bench`, `SelfTest`            |                                      |
//! | `UploadBegin`       | `Resume`                       |                                      |
//! | `UploadChunk`       | `Taken`                        |                                      |
//! | `UploadFinish`      | `Verdict`                      |                                      |
//! | `Restart`           | `Restarting`                   |                                      |

mod coding;
mod error;

pub use coding::{AnswerWriter, Outcome, TooLong, decode_answer, encode_outcome, items};
pub use error::DeviceError;

use mbert_runtime::config::{BertConfig, TokenizerConfig};
use mbert_runtime::format::manifest::Heads;
use mbert_runtime::ops::log_sum_exp::Ratio;
use serde::{Deserialize, Serialize};

use crate::store::{Offer, Resume, StoreStatus, Verdict};

/// Tokens that are named for one mask at most.
pub const MAX_TOP_K: usize = 10;
/// Masks of one text at most.
pub const MAX_MASKS: usize = 8;

/// What a host asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Who is there. The first request of a session.
    Hello,
    /// The tokens of a text between `[CLS]` and `[SEP]`, from one of them on.
    Tokenize {
        /// Any text.
        text: &'a str,
        /// The first token that is wanted.
        first: u32,
    },
    /// The best tokens for each mask.
    FillMask {
        /// Text with up to [`MAX_MASKS`] masks.
        text: &'a str,
        /// Tokens for each, up to [`MAX_TOP_K`].
        top_k: u8,
        /// Show the sequences with `[CLS]` and `[SEP]`; with several masks they always are.
        special_tokens: bool,
        /// Compute the hash over hidden states and logits, too.
        trace: bool,
    },
    /// Whether the second text follows the first.
    NextSentence {
        /// The first.
        text: &'a str,
        /// The second.
        pair: &'a str,
        /// Compute the hash over hidden states and logits, too.
        trace: bool,
    },
    /// The last hidden states, or what the pooler makes of them.
    Features {
        /// Any text.
        text: &'a str,
        /// The pooled output instead.
        pooled: bool,
        /// Compute the hash over hidden states, too.
        trace: bool,
    },
    /// More items of the last answer of `FillMask` or `Features`.
    More {
        /// The first that is wanted.
        first: u32,
    },
    /// What a sequence takes.
    Bench {
        /// Its length, special tokens included.
        tokens: u16,
    },
    /// Whether kernels and model answer as they must.
    SelfTest,
    /// A model is to be uploaded.
    UploadBegin(Offer),
    /// The next bytes of it.
    UploadChunk {
        /// Where they belong.
        offset: u32,
        /// Some bytes.
        bytes: &'a [u8],
    },
    /// All bytes are sent: verify them, and switch.
    UploadFinish,
    /// Start anew, with the model that an upload has brought.
    Restart,
}

/// What a board answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer<'a> {
    /// Who is there.
    Hello(#[serde(borrow)] Hello<'a>),
    /// Tokens follow.
    Tokens {
        /// All there are.
        total: u32,
    },
    /// Tokens for masks follow.
    Masks {
        /// Masks of the text.
        masks: u8,
        /// Items there are for all masks.
        total: u32,
        /// The hash, where it was asked for.
        trace_sha256: Option<[u8; 32]>,
    },
    /// Whether the second text follows.
    NextSentence {
        /// The logits that it does, and that it does not; 16 fraction bits.
        logits: [i32; 2],
        /// The hash, where it was asked for.
        trace_sha256: Option<[u8; 32]>,
    },
    /// Values follow.
    Features {
        /// Token ids of the sequence are of this number.
        tokens: u16,
        /// Values of a row.
        columns: u16,
        /// Values there are.
        total: u32,
        /// One step is `2^−fraction_bits`.
        fraction_bits: i8,
        /// The hash, where it was asked for.
        trace_sha256: Option<[u8; 32]>,
    },
    /// More items follow.
    More,
    /// What a sequence takes.
    Bench(Bench),
    /// Kernels and model answer as they must, or not.
    SelfTest(#[serde(borrow)] SelfTest<'a>),
    /// Where the upload begins or goes on.
    Resume(Resume),
    /// The bytes are in the flash.
    Taken,
    /// What has become of the upload.
    Verdict(Verdict),
    /// The board starts anew.
    Restarting,
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// What stands on the box.
    pub board: &'a str,
    /// Version of the firmware.
    pub firmware: &'a str,
    /// Name of the kernels in use.
    pub kernels: &'a str,
    /// The version of the model format that is read.
    pub format_version: u16,
    /// Codes of the weight layouts that the kernels read, the fastest first.
    pub layouts: &'a [u8],
    /// Bytes of the longest request.
    pub max_request_bytes: u16,
    /// Working memory for a model.
    pub workspace_bytes: u32,
    /// Where models lie.
    pub store: StoreStatus,
    /// The model that answers; `None` where there is no usable one.
    #[serde(borrow)]
    pub model: Option<ModelInfo<'a>>,
}

/// A model, as a board tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo<'a> {
    /// Name of the checkpoint.
    pub name: &'a str,
    /// Its licence.
    pub licence: &'a str,
    /// Length of the file.
    pub bytes: u32,
    /// The hash in its header, which tells it from any other.
    pub header_sha256: [u8; 32],
    /// Its counter against roll-back.
    pub rollback_counter: u32,
    /// Geometry.
    pub config: BertConfig,
    /// Flags and special ids.
    pub tokenizer: TokenizerConfig,
    /// Which heads it has.
    pub heads: Heads,
    /// The longest sequence on this board.
    pub max_tokens: u16,
}

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenItem<'a> {
    /// Its id.
    pub id: u32,
    /// Its first byte in the text.
    pub start: u32,
    /// The byte behind its last.
    pub end: u32,
    /// As the vocabulary has it.
    pub token: &'a [u8],
}

/// A token for a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskItem<'a> {
    /// Which of the masks.
    pub mask: u8,
    /// Its id.
    pub token: u32,
    /// Its probability is `numerator · 2^−shift / denominator`.
    pub numerator: u32,
    /// Not 0.
    pub denominator: u64,
    /// How far the numerator is to be shifted right.
    pub shift: u32,
    /// The token as text.
    pub token_str: &'a str,
    /// The text with the token in the mask's place.
    pub sequence: &'a str,
}

impl MaskItem<'_> {
    /// Its probability.
    pub fn probability(&self) -> Ratio {
        Ratio { numerator: self.numerator, denominator: self.denominator.max(1), shift: self.shift }
    }
}

/// What a sequence takes. Instructions where the board's counter counts those, as in QEMU; else its ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bench {
    /// Its length.
    pub tokens: u16,
    /// Passes over the weights of the feed-forward blocks.
    pub passes: u16,
    /// The encoder.
    pub encoder_instructions: u64,
    /// The masked-LM head for one mask, behind the encoder.
    pub masked_lm_instructions: Option<u64>,
    /// The next-sentence head, behind the encoder.
    pub next_sentence_instructions: Option<u64>,
    /// The longest step of all: between two, a watchdog can be fed.
    pub longest_step_instructions: u64,
    /// Working memory that it needs.
    pub workspace_bytes: u32,
    /// The deepest stack since the start.
    pub stack_bytes: u32,
}

/// What a self-test has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest<'a> {
    /// Name of the kernels.
    pub kernels: &'a str,
    /// Calls that were compared with `scalar`.
    pub kernel_calls: u32,
    /// The entry of the kernels that differs from `scalar`.
    pub wrong_kernel: Option<&'a str>,
    /// Known answers that the model carries; 0 where there is no model.
    pub cases: u32,
    /// The first of them that it does not give.
    pub wrong_case: Option<u32>,
}

impl SelfTest<'_> {
    /// Whether all is as it must be.
    pub fn has_passed(&self) -> bool {
        self.wrong_kernel.is_none() && self.wrong_case.is_none()
    }
}
