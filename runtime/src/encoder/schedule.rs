//! What a forward pass does, step by step: the order of its stages, and how many steps there are.
//!
//! A step takes one piece of the weights and applies it to every token, or does some work between two such pieces. So weights are read
//! in the order in which they lie in the blob, and a step is short: its length is that of a tile of weights times the tokens.

use super::share::Share;
use super::workspace::QUERY_ROWS;
use crate::config::BertConfig;
use crate::format::layout::TILE_CHANNELS;

/// How far a forward pass or a head has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress {
    /// Steps done.
    pub done: u32,
    /// Steps there are.
    pub total: u32,
}

impl Progress {
    /// Whether nothing is left to do.
    pub const fn is_finished(&self) -> bool {
        self.done >= self.total
    }
}

/// One step of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// The sum of the embeddings of one token.
    Embeddings {
        /// Its position, counted from the first token of the thread.
        position: usize,
    },
    /// Some channels of the embeddings' layer norm.
    EmbeddingsNorm {
        /// Which.
        chunk: usize,
    },
    /// The residual stream becomes int8.
    QkvInput,
    /// A tile of the query (0), key (1) or value (2) of a head; the last one quantises all.
    Qkv {
        /// The head.
        head: usize,
        /// Query, key or value.
        part: usize,
        /// The tile.
        tile: usize,
    },
    /// Scores, softmax and context of a few query rows.
    Attention {
        /// The head.
        head: usize,
        /// The first of the rows.
        query: usize,
    },
    /// The context becomes int8.
    Context,
    /// A tile of the output projection, added to the residual stream.
    AttentionOutput {
        /// The tile.
        tile: usize,
    },
    /// Some channels of the layer norm after attention.
    AttentionNorm {
        /// Which.
        chunk: usize,
    },
    /// The residual stream of a pass becomes int8.
    IntermediateInput {
        /// The pass.
        pass: usize,
    },
    /// A tile of the intermediate layer and its activation; the last one of 256 channels quantises them.
    Intermediate {
        /// The pass.
        pass: usize,
        /// The tile.
        tile: usize,
    },
    /// A tile of the output layer, added to the residual stream.
    Output {
        /// The pass.
        pass: usize,
        /// The tile.
        tile: usize,
    },
    /// Some channels of the layer norm after the feed-forward block.
    OutputNorm {
        /// The pass.
        pass: usize,
        /// Which.
        chunk: usize,
    },
}

impl Stage {
    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embeddings { .. } => "embeddings",
            Self::EmbeddingsNorm { .. } => "embeddings_norm",
            Self::QkvInput => "qkv_input",
            Self::Qkv { .. } => "qkv",
            Self::Attention { .. } => "attention",
            Self::Context => "context",
            Self::AttentionOutput { .. } => "attention_output",
            Self::AttentionNorm { .. } => "attention_norm",
            Self::IntermediateInput { .. } => "intermediate_input",
            Self::Intermediate { .. } => "intermediate",
            Self::Output { .. } => "output",
            Self::OutputNorm { .. } => "output_norm",
        }
    }
}

/// The stages of a forward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    share: Share,
    layers: usize,
    head_tiles: usize,
    hidden_tiles: usize,
    intermediate_tiles: usize,
    passes: usize,
    /// Channels of a layer norm whose parameters fit the window together.
    pub chunk_channels: usize,
    chunks: usize,
}

impl Schedule {
    /// Stages of a share whose feed-forward blocks take `pass_tokens` tokens at a time.
    pub fn new(config: &BertConfig, share: Share, pass_tokens: usize, window_bytes: usize) -> Self {
        let h = usize::from(config.hidden_size);
        let chunk_channels = chunk_channels(h, window_bytes);
        Self {
            share,
            layers: config.num_hidden_layers.into(),
            head_tiles: config.head_dim().div_ceil(TILE_CHANNELS),
            hidden_tiles: h.div_ceil(TILE_CHANNELS),
            intermediate_tiles: usize::from(config.intermediate_size).div_ceil(TILE_CHANNELS),
            // The last passes may have no tokens left.
            passes: share.tokens.div_ceil(pass_tokens.max(1)),
            chunk_channels,
            chunks: h.div_ceil(chunk_channels),
        }
    }

    /// Steps of a whole forward pass.
    pub fn steps(&self) -> u32 {
        let Share { seq_len, tokens, heads, .. } = self.share;
        let attention = heads * (3 * self.head_tiles + seq_len.div_ceil(QUERY_ROWS));
        let feed_forward = self.passes * (1 + self.intermediate_tiles + self.hidden_tiles + self.chunks);
        let layer = 1 + attention + 1 + self.hidden_tiles + self.chunks + feed_forward;
        (tokens + self.chunks + self.layers * layer) as u32
    }

    /// The layer and stage that follow; `None` behind the last.
    pub fn after(&self, layer: usize, stage: Stage) -> Option<(usize, Stage)> {
        use Stage::*;
        let next_layer = |layer| (layer < self.layers).then_some((layer, QkvInput));
        let Share { seq_len, tokens, first_head, heads, .. } = self.share;
        let stage = match stage {
            Embeddings { position } if position + 1 < tokens => Embeddings { position: position + 1 },
            Embeddings { .. } => EmbeddingsNorm { chunk: 0 },
            EmbeddingsNorm { chunk } if chunk + 1 < self.chunks => EmbeddingsNorm { chunk: chunk + 1 },
            EmbeddingsNorm { .. } => return next_layer(0),
            QkvInput if heads == 0 => Context,
            QkvInput => Qkv { head: first_head, part: 0, tile: 0 },
            Qkv { head, part, tile } if tile + 1 < self.head_tiles => Qkv { head, part, tile: tile + 1 },
            Qkv { head, part, .. } if part + 1 < 3 => Qkv { head, part: part + 1, tile: 0 },
            Qkv { head, .. } => Attention { head, query: 0 },
            Attention { head, query } if query + QUERY_ROWS < seq_len => Attention { head, query: query + QUERY_ROWS },
            Attention { head, .. } if head + 1 < first_head + heads => Qkv { head: head + 1, part: 0, tile: 0 },
            Attention { .. } => Context,
            Context => AttentionOutput { tile: 0 },
            AttentionOutput { tile } if tile + 1 < self.hidden_tiles => AttentionOutput { tile: tile + 1 },
            AttentionOutput { .. } => AttentionNorm { chunk: 0 },
            AttentionNorm { chunk } if chunk + 1 < self.chunks => AttentionNorm { chunk: chunk + 1 },
            AttentionNorm { .. } => IntermediateInput { pass: 0 },
            IntermediateInput { pass } => Intermediate { pass, tile: 0 },
            Intermediate { pass, tile } if tile + 1 < self.intermediate_tiles => Intermediate { pass, tile: tile + 1 },
            Intermediate { pass, .. } => Output { pass, tile: 0 },
            Output { pass, tile } if tile + 1 < self.hidden_tiles => Output { pass, tile: tile + 1 },
            Output { pass, .. } => OutputNorm { pass, chunk: 0 },
            OutputNorm { pass, chunk } if chunk + 1 < self.chunks => OutputNorm { pass, chunk: chunk + 1 },
            OutputNorm { pass, .. } if pass + 1 < self.passes => IntermediateInput { pass: pass + 1 },
            OutputNorm { .. } => return next_layer(layer + 1),
        };
        Some((layer, stage))
    }
}

/// The steps of a forward pass in their order, each with its encoder layer: of `tokens` tokens, in `passes` passes over the weights of the
/// feed-forward blocks, from a storage with a window of `window_bytes`.
pub fn steps(
    config: &BertConfig,
    tokens: usize,
    passes: usize,
    window_bytes: usize,
) -> impl Iterator<Item = (usize, Stage)> {
    let pass_tokens = tokens.div_ceil(passes.max(1));
    let schedule = Schedule::new(config, Share::whole(config, tokens), pass_tokens, window_bytes);
    let first = (tokens > 0).then_some((0, Stage::Embeddings { position: 0 }));
    core::iter::successors(first, move |&(layer, stage)| schedule.after(layer, stage))
}

/// Channels of a layer norm of `h` whose γ and β fit the window together.
pub fn chunk_channels(h: usize, window_bytes: usize) -> usize {
    (window_bytes / 8).clamp(1, h.max(1))
}
