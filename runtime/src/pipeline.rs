//! From text to answer in one object: tokenizer → encoder → head, in memory that the caller owns.
//!
//! [`Pipeline::fill_mask`] and its kin run to the end. Where an answer takes seconds, [`Pipeline::start`] gives the same in steps:
//!
//! ```
//! # use mbert_runtime::{pipeline::*, storage::Storage};
//! # fn example<S: Storage>(pipeline: &mut Pipeline<'_, '_, S>, feed_watchdog: fn()) -> Result<(), PipelineError> {
//! pipeline.encode("Paris is the [MASK] of France.", None)?;
//! let mut forward = pipeline.start()?;
//! while !forward.step(&mut ())?.is_finished() {
//!     feed_watchdog();
//! }
//! let mut encoded = forward.finish(&mut ())?;
//! let mut answer = MaskAnswer::<5>::at(4);
//! let positions = [answer.position()];
//! let mut head = encoded.start_masked_lm(&positions)?;
//! while !head.step(&mut (), |id, _, logit| answer.add(id, logit))?.is_finished() {
//!     feed_watchdog();
//! }
//! # Ok(())
//! # }
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::BertConfig;
#[cfg(feature = "threads")]
use crate::encoder::threads::Threads;
use crate::encoder::{Encoded, Forward, workspace::Workspace};
use crate::error::{FormatError, ForwardError};
use crate::heads::top_k::{TokenLogit, TopK};
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::log_sum_exp::{LogSumExp, Ratio};
use crate::storage::Storage;
use crate::tokenizer::{Encoding, TokenizerError, Truncation};
use crate::trace::Observer;

/// Why a question was not answered. The next question works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PipelineError {
    /// The text could not be tokenized, or is too long.
    Tokenizer(TokenizerError),
    /// The sequence could not be run through the model.
    Forward(ForwardError),
    /// A text to be filled in has no mask token.
    NoMask,
    /// A text has more mask tokens than there is room for answers.
    TooManyMasks {
        /// Mask tokens in the text.
        masks: usize,
        /// Answers the caller has room for.
        room: usize,
    },
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokenizer(error) => error.fmt(f),
            Self::Forward(error) => error.fmt(f),
            Self::NoMask => write!(f, "the text has no [MASK]: write [MASK] where a word is to be found"),
            Self::TooManyMasks { masks, room } => {
                write!(f, "the text has {masks} masks, but there is room for {room} answers")
            }
        }
    }
}

impl core::error::Error for PipelineError {}

impl From<TokenizerError> for PipelineError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<ForwardError> for PipelineError {
    fn from(error: ForwardError) -> Self {
        Self::Forward(error)
    }
}

/// The answer for one mask token: the K best tokens, and the sum that turns logits into probabilities.
#[derive(Clone, Debug, Default)]
pub struct MaskAnswer<const K: usize> {
    position: usize,
    top: TopK<[TokenLogit; K]>,
    sum: LogSumExp,
}

impl<const K: usize> MaskAnswer<K> {
    /// No answer yet, for the mask token at a position.
    pub fn at(position: usize) -> Self {
        Self { position, ..Default::default() }
    }

    /// Shows it the logit of one token, after those of all smaller ids.
    pub fn add(&mut self, id: u32, logit: i32) {
        self.sum.add(logit);
        self.top.push(TokenLogit { id, logit });
    }

    /// Position of the mask token in the sequence.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The best tokens, best first.
    pub fn best(&self) -> &[TokenLogit] {
        self.top.as_slice()
    }

    /// Probability of a token among the whole vocabulary.
    pub fn probability(&self, token: TokenLogit) -> Ratio {
        self.sum.ratio(token.logit)
    }
}

/// Bytes of memory for sequences of up to `tokens` tokens in one pass over the weights: ids, types, and [`Workspace::bytes`].
pub const fn memory_bytes(config: &BertConfig, tokens: usize) -> usize {
    memory_bytes_in_passes(config, tokens, 1)
}

/// The same for a sequence of exactly so many tokens in several passes: see [`Workspace::bytes_in_passes`].
pub const fn memory_bytes_in_passes(config: &BertConfig, tokens: usize, passes: usize) -> usize {
    id_bytes(tokens) + Workspace::bytes_in_passes(config, tokens, passes)
}

/// Ids and types, and what alignment may take.
const fn id_bytes(tokens: usize) -> usize {
    size_of::<u32>() * (tokens + 1) + tokens
}

/// The longest sequence that fits into `bytes` in as many passes as it takes, at most `max_position_embeddings`; 0 if none does.
pub const fn max_tokens(config: &BertConfig, bytes: usize) -> usize {
    let (mut fits, mut too_many) = (0, config.max_position_embeddings as usize + 1);
    while too_many - fits > 1 {
        let tokens = (fits + too_many) / 2;
        if memory_bytes_in_passes(config, tokens, tokens) <= bytes { fits = tokens } else { too_many = tokens }
    }
    fits
}

/// A model with the memory to run it. Sequences are as long as the memory allows.
#[derive(Debug)]
pub struct Pipeline<'m, 'w, S> {
    model: &'m Model<S>,
    kernels: &'static Kernels,
    /// Token ids, token type ids, and then the workspace: see [`divide`].
    memory: &'w mut [u8],
    max_tokens: usize,
    seq_len: usize,
}

/// Divides memory into the ids and types of so many tokens, and the rest.
fn divide(memory: &mut [u8], tokens: usize) -> (&mut [u32], &mut [u8], &mut [u8]) {
    let (input_ids, rest) = memory.split_at_mut_checked(size_of::<u32>() * tokens).unwrap_or_default();
    let (token_type_ids, rest) = rest.split_at_mut_checked(tokens).unwrap_or_default();
    (bytemuck::try_cast_slice_mut(input_ids).unwrap_or_default(), token_type_ids, rest)
}

impl<'m, 'w, S: Storage> Pipeline<'m, 'w, S> {
    /// Joins a model, the kernels of this CPU and memory. With too little memory for one token, every text is too long.
    ///
    /// # Errors
    ///
    /// If the weights are packed for other kernels.
    pub fn new(model: &'m Model<S>, kernels: &'static Kernels, memory: &'w mut [u8]) -> Result<Self, FormatError> {
        model.check_layout(kernels)?;
        let max_tokens = max_tokens(model.config(), memory.len());
        let skip = memory.as_ptr().align_offset(align_of::<u32>());
        Ok(Self { model, kernels, memory: memory.get_mut(skip..).unwrap_or_default(), max_tokens, seq_len: 0 })
    }

    /// The longest sequence that its memory allows.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// What was written for the longest sequence becomes that of a shorter one: the workspace begins earlier.
    fn shorten(&mut self, tokens: usize) {
        let (from, to) = (size_of::<u32>() * self.max_tokens, size_of::<u32>() * tokens);
        for index in 0..tokens {
            let token_type = self.memory.get(from + index).copied().unwrap_or(0);
            self.memory.iter_mut().skip(to + index).take(1).for_each(|byte| *byte = token_type);
        }
        self.seq_len = tokens;
    }

    /// Tokenizes a text, or two as a pair, for [`forward`](Self::forward); returns the token ids.
    ///
    /// # Errors
    ///
    /// If the text is too long for the memory or the model, or the device fails.
    pub fn encode(&mut self, text: &str, pair: Option<&str>) -> Result<&[u32], PipelineError> {
        self.seq_len = 0;
        let (input_ids, token_type_ids, _) = divide(self.memory, self.max_tokens);
        let mut encoding = Encoding::new(input_ids).with_token_type_ids(token_type_ids);
        let max = usize::from(self.model.config().max_position_embeddings);
        self.model.tokenizer().encode(text, pair, Truncation::DoNotTruncate, &mut encoding).map_err(
            |error| match error {
                // It is the model, not the memory, that allows no more.
                TokenizerError::TooManyTokens { needed_tokens, given_tokens } if given_tokens == max => {
                    ForwardError::SequenceTooLong { tokens: needed_tokens, max }.into()
                }
                error => PipelineError::Tokenizer(error),
            },
        )?;
        let tokens = encoding.len();
        self.shorten(tokens);
        Ok(self.input_ids())
    }

    /// Takes token ids as they are for [`forward`](Self::forward). Ids and types are checked there.
    ///
    /// # Errors
    ///
    /// If they are too many for the memory or the model, or differ in number.
    pub fn set_ids(&mut self, input_ids: &[u32], token_type_ids: &[u8]) -> Result<(), PipelineError> {
        self.seq_len = 0;
        let (tokens, max) = (input_ids.len(), self.max_tokens);
        let config = self.model.config();
        if tokens > usize::from(config.max_position_embeddings) {
            return Err(ForwardError::SequenceTooLong { tokens, max: config.max_position_embeddings.into() }.into());
        }
        if tokens > max {
            let needed_bytes = memory_bytes_in_passes(config, tokens, tokens);
            let given_bytes = self.memory.len();
            return Err(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes }.into());
        }
        if token_type_ids.len() != tokens {
            return Err(ForwardError::LengthMismatch { input_ids: tokens, token_type_ids: token_type_ids.len() }.into());
        }
        let (ids, types, _) = divide(self.memory, tokens);
        ids.iter_mut().zip(input_ids).for_each(|(id, &given)| *id = given);
        types.iter_mut().zip(token_type_ids).for_each(|(id, &given)| *id = given);
        self.seq_len = tokens;
        Ok(())
    }

    /// Token ids of the sequence at hand.
    pub fn input_ids(&self) -> &[u32] {
        let ids = self.memory.get(..size_of::<u32>() * self.seq_len).unwrap_or_default();
        bytemuck::try_cast_slice(ids).unwrap_or_default()
    }

    /// Begins to run the sequence at hand through the encoder, step by step.
    ///
    /// # Errors
    ///
    /// If there is none, an id is out of range, or the device fails.
    pub fn start(&mut self) -> Result<Forward<'_, S>, PipelineError> {
        let (ids, types, memory) = divide(self.memory, self.seq_len);
        let workspace = Workspace::new(memory, self.model.config(), self.seq_len)?;
        Ok(Forward::new(self.model, self.kernels, ids, types, workspace)?)
    }

    /// Runs the sequence at hand through the encoder.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start).
    pub fn forward(&mut self, observer: &mut impl Observer) -> Result<Encoded<'_, S>, PipelineError> {
        Ok(self.start()?.finish(observer)?)
    }

    /// Runs the sequence at hand through the encoder on several threads, with the same bits.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start).
    #[cfg(feature = "threads")]
    pub fn forward_on(
        &mut self,
        threads: &mut Threads,
        observer: &mut impl Observer,
    ) -> Result<Encoded<'_, S>, PipelineError>
    where
        S: Send + Sync,
    {
        let (ids, types, memory) = divide(self.memory, self.seq_len);
        let workspace = Workspace::new(memory, self.model.config(), self.seq_len)?;
        Ok(threads.forward(self.model, self.kernels, (ids, types), workspace, observer)?)
    }

    /// Positions of the mask tokens of the sequence at hand, as many as `positions` has room for; returns how many there are.
    ///
    /// # Errors
    ///
    /// If there is none, or no room for all.
    pub fn mask_positions(&self, positions: &mut [usize]) -> Result<usize, PipelineError> {
        let mask = self.model.manifest().tokenizer.mask_token_id;
        let found = || self.input_ids().iter().enumerate().filter(|&(_, &id)| id == mask).map(|(position, _)| position);
        positions.iter_mut().zip(found()).for_each(|(entry, position)| *entry = position);
        match (found().count(), positions.len()) {
            (0, _) => Err(PipelineError::NoMask),
            (masks, room) if masks > room => Err(PipelineError::TooManyMasks { masks, room }),
            (masks, _) => Ok(masks),
        }
    }

    /// Fills in every `[MASK]` of a text: the K best tokens for each of up to M, in `answers`; returns those used.
    ///
    /// # Errors
    ///
    /// No mask, more masks than answers, too long a text, or a model without this head.
    pub fn fill_mask<'b, const K: usize, const M: usize>(
        &mut self,
        text: &str,
        answers: &'b mut [MaskAnswer<K>; M],
    ) -> Result<&'b [MaskAnswer<K>], PipelineError> {
        self.encode(text, None)?;
        let mut positions = [0; M];
        let masks = self.mask_positions(&mut positions)?;
        let positions = positions.get(..masks).unwrap_or_default();
        let answers = answers.get_mut(..masks).unwrap_or_default();
        answers.iter_mut().zip(positions).for_each(|(answer, &position)| *answer = MaskAnswer::at(position));
        self.forward(&mut ())?.masked_lm(positions, &mut (), |id, index, logit| {
            answers.iter_mut().skip(index).take(1).for_each(|answer| answer.add(id, logit));
        })?;
        Ok(answers)
    }

    /// The logits (16 fraction bits) that the second text follows the first, and that it does not.
    ///
    /// # Errors
    ///
    /// Too long texts, or a model without this head.
    pub fn next_sentence(&mut self, text: &str, pair: &str) -> Result<[i32; 2], PipelineError> {
        self.encode(text, Some(pair))?;
        Ok(self.forward(&mut ())?.next_sentence(&mut ())?)
    }
}
