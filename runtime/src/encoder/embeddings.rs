//! Word + position + token type embeddings, then layer norm.

use crate::format::section::SectionKind;
use crate::model::Model;
use crate::ops::fixed_point::{rounding_multiply_high, rounding_shift_right, saturate_i16};
use crate::ops::layer_norm::layer_norm_i16;
use crate::trace::{Observer, Site};

/// Fraction bits of the three multipliers.
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
    let table = |rows, scales| (model.matrix(rows, 0), model.i32s(scales, 0));
    let (words, word_scales) = table(WordEmbeddings, WordScales);
    let (positions, position_scales) = table(PositionEmbeddings, PositionScales);
    let (types, type_scales) = table(TokenTypeEmbeddings, TokenTypeScales);
    let layer_norm = model.layer_norm(EmbeddingsLayerNorm, 0);
    for (position, row) in residual.chunks_exact_mut(words.columns).enumerate() {
        let (id, kind) = (input_ids[position] as usize, usize::from(token_type_ids[position]));
        let multipliers = [
            rounding_multiply_high(word_scales.get(id), word_multiplier),
            position_scales.get(position),
            type_scales.get(kind),
        ];
        let rows = words.row(id).iter().zip(positions.row(position)).zip(types.row(kind));
        for (out, ((&w, &p), &t)) in row.iter_mut().zip(rows) {
            let sum = i32::from(w)
                .wrapping_mul(multipliers[0])
                .wrapping_add(i32::from(p).wrapping_mul(multipliers[1]))
                .wrapping_add(i32::from(t).wrapping_mul(multipliers[2]));
            *out = saturate_i16(rounding_shift_right(sum, EMBEDDING_FRACTION_BITS));
        }
        layer_norm_i16(row, layer_norm.parameters(), layer_norm.scale);
        observer.row(Site::Hidden { layer: 0 }, row);
    }
}
