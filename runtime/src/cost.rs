//! What an answer reads of its model, in bytes: a formula of the geometry and the length of the sequence.
//!
//! Counted is what the forward pass and a head ask their storage for, each byte as often as it is asked for. A memory-mapped model is read
//! byte by byte like that; a device is read in blocks, which adds those at the edges, and keeps none but those of its cache. The tokenizer's
//! search in the vocabulary depends on the text and is not counted.

use crate::config::BertConfig;
use crate::encoder::schedule::{Stage, chunk_channels};
use crate::format::constants::Constants;
use crate::format::contents::{LAYER_NORM_HEADER_BYTES, shape, tiles};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::format::section::{Section, SectionKind};

/// The constants outside the layers, which whoever begins a forward pass or a head reads.
pub const CONSTANTS_BYTES: u64 = (size_of::<i32>() * Constants::COUNT) as u64;
/// A word's scale.
const WORD_SCALE_BYTES: u64 = 4;

/// Bytes that a forward pass over `tokens` tokens reads, in `passes` passes over the weights of the feed-forward blocks.
pub fn forward_bytes(config: &BertConfig, tokens: usize, passes: usize) -> u64 {
    use SectionKind::*;
    // The last passes may have no tokens left.
    let passes = tokens.div_ceil(tokens.div_ceil(passes.max(1)).max(1)) as u64;
    let sections = |kinds: &[SectionKind]| kinds.iter().map(|&kind| section_bytes(config, kind)).sum::<u64>();
    let once = sections(&[LayerConstants, Qkv, AttentionOutput, AttentionLayerNorm]);
    let each_pass = sections(&[Intermediate, Output, OutputLayerNorm]);
    let layers = u64::from(config.num_hidden_layers) * (once + passes * each_pass);
    CONSTANTS_BYTES + tokens as u64 * embedding_bytes(config) + sections(&[EmbeddingsLayerNorm]) + layers
}

/// Bytes that the masked-LM head reads, for one position or many.
pub fn masked_lm_bytes(config: &BertConfig) -> u64 {
    use SectionKind::*;
    let kinds = [TransformInput, Transform, TransformLayerNorm, WordEmbeddings];
    CONSTANTS_BYTES + kinds.into_iter().map(|kind| section_bytes(config, kind)).sum::<u64>()
}

/// Bytes that the pooler reads, and behind it the next-sentence head if that is wanted.
pub fn pooler_bytes(config: &BertConfig, with_next_sentence: bool) -> u64 {
    use SectionKind::*;
    let kinds: &[_] = if with_next_sentence { &[PoolerInput, Pooler, SeqRelationship] } else { &[PoolerInput, Pooler] };
    CONSTANTS_BYTES + kinds.iter().map(|&kind| section_bytes(config, kind)).sum::<u64>()
}

impl Stage {
    /// Bytes that the step reads, from a storage with a window of `window_bytes`.
    pub fn bytes_read(self, config: &BertConfig, window_bytes: usize) -> u64 {
        use SectionKind::*;
        match self {
            Self::Embeddings { .. } => embedding_bytes(config),
            Self::QkvInput => section_bytes(config, LayerConstants),
            Self::Qkv { tile, .. } => tile_bytes(config, Qkv, tile),
            Self::Attention { .. } | Self::Context | Self::IntermediateInput { .. } => 0,
            Self::AttentionOutput { tile } => tile_bytes(config, AttentionOutput, tile),
            Self::Intermediate { tile, .. } => tile_bytes(config, Intermediate, tile),
            Self::Output { tile, .. } => tile_bytes(config, Output, tile),
            Self::EmbeddingsNorm { chunk } | Self::AttentionNorm { chunk } | Self::OutputNorm { chunk, .. } => {
                let h = usize::from(config.hidden_size);
                let channels = chunk_channels(h, window_bytes);
                let header = if chunk == 0 { LAYER_NORM_HEADER_BYTES } else { 0 };
                (header + 8 * channels.min(h.saturating_sub(chunk * channels))) as u64
            }
        }
    }
}

/// Bytes of one tile of a linear layer with its parameters; its layout changes nothing.
pub fn tile_bytes(config: &BertConfig, kind: SectionKind, index: usize) -> u64 {
    let tiles = tiles(kind, config, 0, WeightLayout::RowMajor);
    let channels = tiles.channels.saturating_sub(index * TILE_CHANNELS).min(TILE_CHANNELS);
    (channels * (tiles.inputs + size_of::<i32>() * tiles.parameters)) as u64
}

/// What one token's embeddings take: int8 of the word with its scale, int16 of position and type.
fn embedding_bytes(config: &BertConfig) -> u64 {
    WORD_SCALE_BYTES + (1 + 2 + 2) * u64::from(config.hidden_size)
}

/// Bytes of a section that follow from the geometry.
fn section_bytes(config: &BertConfig, kind: SectionKind) -> u64 {
    shape(kind, config).map_or(0, |(element, rows, columns)| Section::expected_bytes(kind, element, rows, columns))
}
