//! Word + position + token type embeddings, then layer norm.
//!
//! Words are int8 with a scale each. Positions and types, few and added to every word, are int16 in the unit of the sum.

use crate::format::section::SectionKind;
use crate::model::Model;
use crate::ops::fixed_point::{rounding_multiply_high, rounding_shift_right, saturate_i16};
use crate::ops::layer_norm::layer_norm_i16;
use crate::trace::{Observer, Site};

/// Fraction bits of a word's multiplier.
pub const EMBEDDING_FRACTION_BITS: u32 = 15;

/// Writes the residual stream `[seq_len, H]` of a sequence whose ids have been checked.
pub(super) fn embeddings(
    model: &Model<'_>,
    input_ids: &[u32],
    token_type_ids: &[u8],
    residual: &mut [i16],
    observer: &mut impl Observer,
) {
    use SectionKind::*;
    let word_multiplier = model.constants().embedding_multiplier;
    let (words, word_scales) = (model.matrix(WordEmbeddings, 0), model.i32s(WordScales, 0));
    let (positions, types) = (model.i16s(PositionEmbeddings, 0), model.i16s(TokenTypeEmbeddings, 0));
    let layer_norm = model.layer_norm(EmbeddingsLayerNorm, 0);
    let h = words.columns;
    for (position, row) in residual.chunks_exact_mut(h).enumerate() {
        let (id, token_type) = (input_ids[position] as usize, usize::from(token_type_ids[position]));
        let multiplier = rounding_multiply_high(word_scales.get(id), word_multiplier);
        for (channel, (out, &word)) in row.iter_mut().zip(words.row(id)).enumerate() {
            let word = rounding_shift_right(i32::from(word).wrapping_mul(multiplier), EMBEDDING_FRACTION_BITS);
            let position = i32::from(positions.get(position * h + channel));
            let token_type = i32::from(types.get(token_type * h + channel));
            *out = saturate_i16(word + position + token_type);
        }
        layer_norm_i16(row, layer_norm.parameters(), layer_norm.scale);
        observer.row(Site::Hidden { layer: 0 }, row);
    }
}
