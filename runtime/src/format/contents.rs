//! Which sections a model has, in their order, and what each holds.

use super::constants::{Constants, LayerConstants};
use super::manifest::Manifest;
use super::section::{Element, SectionKind};
use super::signature::SIGNATURE_BYTES;
use super::tiles::Tiles;
use crate::config::BertConfig;
use crate::format::layout::{TILE_CHANNELS, WeightLayout};

/// Bytes before γ and β in a layer norm section.
pub const LAYER_NORM_HEADER_BYTES: usize = 16;

/// Sections before the encoder layers.
const BEFORE: [SectionKind; 9] = [
    SectionKind::Manifest,
    SectionKind::SelfTest,
    SectionKind::Signature,
    SectionKind::Vocabulary,
    SectionKind::Constants,
    SectionKind::WordEmbeddings,
    SectionKind::PositionEmbeddings,
    SectionKind::TokenTypeEmbeddings,
    SectionKind::EmbeddingsLayerNorm,
];
/// Sections of each encoder layer.
const LAYER: [SectionKind; 7] = [
    SectionKind::LayerConstants,
    SectionKind::Qkv,
    SectionKind::AttentionOutput,
    SectionKind::AttentionLayerNorm,
    SectionKind::Intermediate,
    SectionKind::Output,
    SectionKind::OutputLayerNorm,
];
const POOLER: [SectionKind; 2] = [SectionKind::PoolerInput, SectionKind::Pooler];
const NEXT_SENTENCE: [SectionKind; 1] = [SectionKind::SeqRelationship];
const MASKED_LM: [SectionKind; 3] =
    [SectionKind::TransformInput, SectionKind::Transform, SectionKind::TransformLayerNorm];

/// Kind and encoder layer (0 outside the encoder) of every section of a model, in the order of the blob.
pub fn sections(manifest: &Manifest) -> impl Iterator<Item = (SectionKind, u16)> {
    let heads = manifest.heads;
    let of = |there: bool, kinds: &'static [SectionKind]| if there { kinds } else { &[] }.iter();
    let layers = (0..u16::from(manifest.config.num_hidden_layers))
        .flat_map(|layer| LAYER.iter().map(move |&kind| (kind, layer)));
    let behind =
        of(heads.pooler, &POOLER).chain(of(heads.next_sentence, &NEXT_SENTENCE)).chain(of(heads.masked_lm, &MASKED_LM));
    BEFORE.iter().map(|&kind| (kind, 0)).chain(layers).chain(behind.map(|&kind| (kind, 0)))
}

/// Element, rows and columns of a section; `None` where its length is free. Layer norms are counted in bytes.
pub fn shape(kind: SectionKind, config: &BertConfig) -> Option<(Element, usize, usize)> {
    use Element::{Bytes, I16, I32, Tiles};
    let (h, f) = (usize::from(config.hidden_size), usize::from(config.intermediate_size));
    Some(match kind {
        SectionKind::Manifest | SectionKind::SelfTest | SectionKind::Vocabulary => return None,
        SectionKind::Signature => (Bytes, SIGNATURE_BYTES, 1),
        SectionKind::Constants => (I32, Constants::COUNT, 1),
        SectionKind::WordEmbeddings => (Tiles, config.vocab_size as usize, h),
        SectionKind::PositionEmbeddings => (I16, config.max_position_embeddings.into(), h),
        SectionKind::TokenTypeEmbeddings => (I16, config.type_vocab_size.into(), h),
        SectionKind::LayerConstants => (I32, LayerConstants::COUNT, 1),
        SectionKind::PoolerInput | SectionKind::TransformInput => (I16, h, 1),
        SectionKind::Qkv => (Tiles, 3 * h, h),
        SectionKind::AttentionOutput | SectionKind::Pooler | SectionKind::Transform => (Tiles, h, h),
        SectionKind::Intermediate => (Tiles, f, h),
        SectionKind::Output => (Tiles, h, f),
        SectionKind::SeqRelationship => (Tiles, 2, h),
        SectionKind::EmbeddingsLayerNorm
        | SectionKind::AttentionLayerNorm
        | SectionKind::OutputLayerNorm
        | SectionKind::TransformLayerNorm => (Bytes, LAYER_NORM_HEADER_BYTES + 8 * h, 1),
    })
}

/// The tiles of a linear layer that begins at `offset`: those of query, key and value of each head are parts of their own.
pub fn tiles(kind: SectionKind, config: &BertConfig, offset: u32, layout: WeightLayout) -> Tiles {
    let (_, rows, inputs) = shape(kind, config).unwrap_or((Element::Tiles, 0, 0));
    let channels = if kind as u16 == SectionKind::Qkv as u16 { config.head_dim() } else { rows };
    Tiles { offset, channels, inputs, parameters: kind.parameters(), layout }
}

/// Whether a section may have this layout. Word embeddings are read row by row, so they are never packed.
pub fn packable(kind: SectionKind, config: &BertConfig, layout: WeightLayout) -> bool {
    let tiles = tiles(kind, config, 0, layout);
    match layout {
        WeightLayout::RowMajor => true,
        _ => {
            matches!(shape(kind, config), Some((Element::Tiles, ..)))
                && kind != SectionKind::WordEmbeddings
                && tiles.channels.is_multiple_of(TILE_CHANNELS)
                && layout.fits(TILE_CHANNELS, tiles.inputs)
        }
    }
}

/// The longest piece of a section that must lie in the window at once.
pub fn window_bytes(config: &BertConfig) -> usize {
    let (h, f) = (usize::from(config.hidden_size), usize::from(config.intermediate_size));
    // A row of weights, the smoothing multipliers, a few channels of a layer norm or the parameters of a tile.
    (2 * h).max(f).max(TILE_CHANNELS * 3 * size_of::<i32>())
}
