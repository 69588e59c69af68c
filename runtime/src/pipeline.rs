//! From text to answer in one object: tokenizer → encoder → head, in memory that the caller owns.

use core::fmt;

use crate::config::BertConfig;
use crate::encoder::{self, workspace::Workspace};
use crate::error::{FormatError, ForwardError};
use crate::heads::top_k::{TokenLogit, TopK};
use crate::heads::{masked_lm, next_sentence, pooler};
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::log_sum_exp::{LogSumExp, Ratio};
use crate::tokenizer::{Encoding, TokenizerError, Truncation};
use crate::trace::Observer;

/// Why a question was not answered. The next question works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A model with the memory to run it. Sequences are as long as the memory allows.
#[derive(Debug)]
pub struct Pipeline<'m, 'a, 'w> {
    model: &'m Model<'a>,
    kernels: &'static Kernels,
    input_ids: &'w mut [u32],
    token_type_ids: &'w mut [u8],
    memory: &'w mut [u8],
    seq_len: usize,
}

impl<'m, 'a, 'w> Pipeline<'m, 'a, 'w> {
    /// Memory for sequences of up to `tokens` tokens: ids, types, and [`Workspace::bytes`].
    pub const fn bytes(config: &BertConfig, tokens: usize) -> usize {
        size_of::<u32>() * (tokens + 1) + tokens + Workspace::bytes(config, tokens)
    }

    /// The longest sequence that fits into `bytes`, at most `max_position_embeddings`; 0 if none does.
    pub const fn max_tokens(config: &BertConfig, bytes: usize) -> usize {
        let (mut fits, mut too_many) = (0, config.max_position_embeddings as usize + 1);
        while too_many - fits > 1 {
            let tokens = (fits + too_many) / 2;
            if Self::bytes(config, tokens) <= bytes { fits = tokens } else { too_many = tokens }
        }
        fits
    }

    /// Joins a model, the kernels of this CPU and memory. With too little memory for one token, every text is too long.
    ///
    /// # Errors
    ///
    /// If the weights are packed for other kernels.
    pub fn new(model: &'m Model<'a>, kernels: &'static Kernels, memory: &'w mut [u8]) -> Result<Self, FormatError> {
        model.check_layout(kernels)?;
        let tokens = Self::max_tokens(&model.manifest().config, memory.len());
        let mut pipeline =
            Self { model, kernels, input_ids: &mut [], token_type_ids: &mut [], memory: &mut [], seq_len: 0 };
        if tokens > 0 {
            let skip = memory.as_ptr().align_offset(align_of::<u32>());
            let (input_ids, rest) = memory[skip..].split_at_mut(size_of::<u32>() * tokens);
            (pipeline.token_type_ids, pipeline.memory) = rest.split_at_mut(tokens);
            pipeline.input_ids = bytemuck::cast_slice_mut(input_ids);
        }
        Ok(pipeline)
    }

    /// Tokenizes a text, or two as a pair, for [`forward`](Self::forward); returns the token ids.
    ///
    /// # Errors
    ///
    /// If the text is too long for the memory or the model.
    pub fn encode(&mut self, text: &str, pair: Option<&str>) -> Result<&[u32], PipelineError> {
        self.seq_len = 0;
        let mut encoding = Encoding::new(self.input_ids).with_token_type_ids(self.token_type_ids);
        let max = usize::from(self.model.manifest().config.max_position_embeddings);
        self.model.tokenizer().encode(text, pair, Truncation::DoNotTruncate, &mut encoding).map_err(
            |error| match error {
                // It is the model, not the memory, that allows no more.
                TokenizerError::TooManyTokens { needed_tokens, given_tokens } if given_tokens == max => {
                    ForwardError::SequenceTooLong { tokens: needed_tokens, max }.into()
                }
                error => PipelineError::Tokenizer(error),
            },
        )?;
        self.seq_len = encoding.len();
        Ok(&self.input_ids[..self.seq_len])
    }

    /// Takes token ids as they are for [`forward`](Self::forward). Ids and types are checked there.
    ///
    /// # Errors
    ///
    /// If they are too many for the memory or the model, or differ in number.
    pub fn set_ids(&mut self, input_ids: &[u32], token_type_ids: &[u8]) -> Result<(), PipelineError> {
        self.seq_len = 0;
        let (tokens, max) = (input_ids.len(), self.input_ids.len());
        let config = &self.model.manifest().config;
        if tokens > usize::from(config.max_position_embeddings) {
            return Err(ForwardError::SequenceTooLong { tokens, max: config.max_position_embeddings.into() }.into());
        }
        if tokens > max {
            let (needed_bytes, given_bytes) = (Self::bytes(config, tokens), Self::bytes(config, max));
            return Err(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes }.into());
        }
        if token_type_ids.len() != tokens {
            return Err(ForwardError::LengthMismatch { input_ids: tokens, token_type_ids: token_type_ids.len() }.into());
        }
        self.input_ids[..tokens].copy_from_slice(input_ids);
        self.token_type_ids[..tokens].copy_from_slice(token_type_ids);
        self.seq_len = tokens;
        Ok(())
    }

    /// Token ids of the sequence at hand.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids[..self.seq_len]
    }

    /// Runs the sequence at hand through the encoder.
    ///
    /// # Errors
    ///
    /// If there is none, or an id is out of range.
    pub fn forward(&mut self, observer: &mut impl Observer) -> Result<Encoded<'_, 'a>, PipelineError> {
        let (ids, types) = (&self.input_ids[..self.seq_len], &self.token_type_ids[..self.seq_len]);
        let mut workspace = Workspace::new(self.memory, &self.model.manifest().config, self.seq_len)?;
        encoder::forward(self.model, self.kernels, ids, types, &mut workspace, observer)?;
        Ok(Encoded { model: self.model, kernels: self.kernels, workspace })
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
        let mask = self.model.manifest().tokenizer.mask_token_id;
        let (mut positions, mut masks) = ([0; M], 0);
        for (position, _) in self.input_ids().iter().enumerate().filter(|&(_, &id)| id == mask) {
            if let Some(entry) = positions.get_mut(masks) {
                *entry = position;
            }
            masks += 1;
        }
        match masks {
            0 => return Err(PipelineError::NoMask),
            _ if masks > M => return Err(PipelineError::TooManyMasks { masks, room: M }),
            _ => {}
        }
        for (answer, position) in answers.iter_mut().zip(positions) {
            *answer = MaskAnswer { position, ..Default::default() };
        }
        self.forward(&mut ())?.masked_lm(&positions[..masks], &mut (), |id, index, logit| {
            answers[index].sum.add(logit);
            answers[index].top.push(TokenLogit { id, logit });
        })?;
        Ok(&answers[..masks])
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

/// A sequence behind the encoder, ready for the heads.
#[derive(Debug)]
pub struct Encoded<'p, 'a> {
    model: &'p Model<'a>,
    kernels: &'static Kernels,
    workspace: Workspace<'p>,
}

impl Encoded<'_, '_> {
    /// The last hidden states, `[seq_len, hidden_size]`; one step is `2^−hidden_fraction_bits` of the last layer.
    pub fn last_hidden_state(&self) -> &[i16] {
        self.workspace.residual()
    }

    /// See [`masked_lm`](masked_lm::masked_lm).
    ///
    /// # Errors
    ///
    /// If the model has no such head, or a position is out of range.
    pub fn masked_lm(
        &mut self,
        positions: &[usize],
        observer: &mut impl Observer,
        sink: impl FnMut(u32, usize, i32),
    ) -> Result<(), ForwardError> {
        masked_lm::masked_lm(self.model, self.kernels, &mut self.workspace, positions, observer, sink)
    }

    /// See [`next_sentence`](next_sentence::next_sentence).
    ///
    /// # Errors
    ///
    /// If the model has no such head.
    pub fn next_sentence(&mut self, observer: &mut impl Observer) -> Result<[i32; 2], ForwardError> {
        next_sentence::next_sentence(self.model, self.kernels, &mut self.workspace, observer)
    }

    /// See [`pool`](pooler::pool).
    ///
    /// # Errors
    ///
    /// If the model has no pooler.
    pub fn pooled(&mut self) -> Result<&[i16], ForwardError> {
        pooler::pool(self.model, self.kernels, &mut self.workspace)
    }
}
