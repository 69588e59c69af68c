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

use core::fmt;

use mbert_runtime::config::{BertConfig, TokenizerConfig};
use mbert_runtime::error::ForwardError;
use mbert_runtime::format::manifest::Heads;
use mbert_runtime::ops::log_sum_exp::Ratio;
use mbert_runtime::pipeline::PipelineError;
use mbert_runtime::tokenizer::TokenizerError;
use serde::{Deserialize, Serialize};

use crate::store::{Offer, Resume, StoreError, StoreStatus, Verdict};

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
        /// [`MAX_TOP_K`].
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

/// What is in an answer's message.
pub type Outcome<'a> = Result<Answer<'a>, DeviceError>;

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is none of this version, or something follows it.
    pub fn decode(message: &'a [u8]) -> Result<Self, DeviceError> {
        match postcard::take_from_bytes(message) {
            Ok((request, [])) => Ok(request),
            _ => Err(DeviceError::Malformed),
        }
    }

    /// Writes a request.
    ///
    /// # Errors
    ///
    /// If the memory is too small.
    pub fn encode<'m>(&self, memory: &'m mut [u8]) -> Result<&'m [u8], TooLong> {
        postcard::to_slice(self, memory).map(|bytes| &*bytes).map_err(|_| TooLong)
    }
}

/// A message does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request is too long for a message: shorten the text")
    }
}

impl core::error::Error for TooLong {}

/// Reads an answer: what it is, and its items.
///
/// # Errors
///
/// What the board says, or that it cannot be read.
pub fn decode_answer(message: &[u8]) -> Result<(Answer<'_>, &[u8]), DeviceError> {
    let (outcome, items) = postcard::take_from_bytes::<Outcome<'_>>(message).map_err(|_| DeviceError::Malformed)?;
    Ok((outcome?, items))
}

/// The items behind an answer.
///
/// # Errors
///
/// Each is an error, and the last, if it cannot be read.
pub fn items<'a, T: Deserialize<'a>>(mut bytes: &'a [u8]) -> impl Iterator<Item = Result<T, DeviceError>> {
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let item = postcard::take_from_bytes(core::mem::take(&mut bytes));
        Some(
            item.map(|(item, rest)| {
                bytes = rest;
                item
            })
            .map_err(|_| DeviceError::Malformed),
        )
    })
}

/// Room for an answer in front of its items.
const ANSWER_BYTES: usize = 64;

/// Writes an answer's message: first its items, as many as fit, then what they are.
#[derive(Debug)]
pub struct AnswerWriter<'m> {
    memory: &'m mut [u8],
    end: usize,
}

impl<'m> AnswerWriter<'m> {
    /// No items yet.
    pub fn new(memory: &'m mut [u8]) -> Self {
        Self { memory, end: ANSWER_BYTES }
    }

    /// Adds an item; `false` if there is no room for it.
    pub fn push(&mut self, item: &impl Serialize) -> bool {
        let room = self.memory.get_mut(self.end..).unwrap_or_default();
        let Ok(written) = postcard::to_slice(item, room) else { return false };
        self.end += written.len();
        true
    }

    /// Whether no item has been added.
    pub fn is_empty(&self) -> bool {
        self.end == ANSWER_BYTES
    }

    /// Puts the answer in front of its items; returns the bytes of the message.
    ///
    /// # Panics
    ///
    /// If it is one that has no items, and is long.
    pub fn finish(self, answer: &Answer<'_>) -> usize {
        let mut head = [0; ANSWER_BYTES];
        let outcome: Outcome<'_> = Ok(*answer);
        let head = postcard::to_slice(&outcome, &mut head).expect("what stands before items is short");
        self.memory[..head.len()].copy_from_slice(head);
        self.memory.copy_within(ANSWER_BYTES..self.end, head.len());
        head.len() + self.end - ANSWER_BYTES
    }
}

/// Writes an answer without items; returns the bytes of the message, 0 if it does not fit.
pub fn encode_outcome(outcome: &Outcome<'_>, memory: &mut [u8]) -> usize {
    postcard::to_slice(outcome, memory).map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn a_list_is_read_as_it_was_written_as_far_as_it_fits() {
        let mut memory = [0; 200];
        let mut writer = AnswerWriter::new(&mut memory);
        assert!(writer.is_empty());
        let token = |id| TokenItem { id, start: id, end: id + 1, token: b"token" };
        let written = (0..100).take_while(|&id| writer.push(&token(id))).count();
        assert!((10..30).contains(&written), "{written}");
        let bytes = writer.finish(&Answer::Tokens { total: 100 });
        let (answer, rest) = decode_answer(&memory[..bytes]).unwrap();
        assert_eq!(answer, Answer::Tokens { total: 100 });
        let read: Vec<_> = items::<TokenItem<'_>>(rest).map(Result::unwrap).collect();
        assert_eq!(read, (0..written as u32).map(token).collect::<Vec<_>>());
        assert_eq!(items::<TokenItem<'_>>(&rest[..rest.len() - 1]).last(), Some(Err(DeviceError::Malformed)));
    }

    #[test]
    fn the_longest_answers_before_items_fit_in_front_of_them() {
        let trace_sha256 = Some([0xff; 32]);
        let masks = Answer::Masks { masks: 255, total: u32::MAX, trace_sha256 };
        let features = Answer::Features {
            tokens: u16::MAX,
            columns: u16::MAX,
            total: u32::MAX,
            fraction_bits: i8::MIN,
            trace_sha256,
        };
        for answer in [masks, features, Answer::Tokens { total: u32::MAX }, Answer::More] {
            let mut memory = [0; 100];
            let mut writer = AnswerWriter::new(&mut memory);
            assert!(writer.push(&[7u8, 9]));
            let bytes = writer.finish(&answer);
            assert_eq!(decode_answer(&memory[..bytes]), Ok((answer, &[7, 9][..])));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_a_board_s_error_comes_through() {
        assert_eq!(Request::decode(&[99]), Err(DeviceError::Malformed));
        assert_eq!(Request::decode(&[0, 0]), Err(DeviceError::Malformed), "more than a message");
        assert_eq!(decode_answer(&[]), Err(DeviceError::Malformed));
        let mut memory = [0; 100];
        for error in [
            DeviceError::NoModel,
            PipelineError::TooManyMasks { masks: 9, room: 8 }.into(),
            ForwardError::SequenceTooLong { tokens: 600, max: 512 }.into(),
            TokenizerError::InvalidUtf8 { at: 7 }.into(),
            StoreError::RolledBack { found: 1, minimum: 2 }.into(),
        ] {
            let bytes = encode_outcome(&Err(error), &mut memory);
            assert_eq!(decode_answer(&memory[..bytes]), Err(error));
            assert!(error.to_string().len() > 20);
        }
        assert_eq!(Request::UploadChunk { offset: 0, bytes: &[0; 99] }.encode(&mut memory), Err(TooLong));
    }
}
