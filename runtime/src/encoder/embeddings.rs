//! Word + position + token type embeddings.
//!
//! Words are int8 with a scale each. Positions and types, few and added to every word, are int16 in the unit of the sum.

use crate::format::layout::TILE_CHANNELS;
use crate::format::section::SectionKind;
use crate::model::Model;
use crate::ops::fixed_point::{rounding_multiply_high, rounding_shift_right, saturate_i16};
use crate::storage::{Storage, Unreadable};

/// Fraction bits of a word's multiplier.
pub const EMBEDDING_FRACTION_BITS: u32 = 15;

/// Writes the sum of the embeddings of one token: `[H]`. Its ids have been checked.
pub(super) fn embeddings<S: Storage>(
    model: &Model<S>,
    word_multiplier: i32,
    (position, id, token_type): (usize, u32, u8),
    row: &mut [i16],
) -> Result<(), Unreadable> {
    use SectionKind::{PositionEmbeddings, TokenTypeEmbeddings, WordEmbeddings};
    let (words, h) = (model.tiles(WordEmbeddings, 0), row.len());
    let tile = words.tile(0, id as usize / TILE_CHANNELS);
    let within = (id as usize % TILE_CHANNELS) as u32;
    // Bias and scale of the word, of which the bias is for the decoder.
    let scale = model.blob().read_u32(tile.offset, 2 * within + 1)? as i32;
    let multiplier = rounding_multiply_high(scale, word_multiplier);
    model.values(tile.weights + within * h as u32, h, |word: &[i8]| {
        for (out, &word) in row.iter_mut().zip(word) {
            // int8 times a multiplier that brings it into int16.
            let word = rounding_shift_right(i32::from(word).wrapping_mul(multiplier), EMBEDDING_FRACTION_BITS);
            *out = saturate_i16(word);
        }
    })?;
    for (kind, index) in [(PositionEmbeddings, position), (TokenTypeEmbeddings, token_type.into())] {
        model.values(model.offset(kind, 0) + (2 * index * h) as u32, h, |values: &[i16]| {
            for (out, &value) in row.iter_mut().zip(values) {
                *out = saturate_i16(i32::from(*out) + i32::from(value));
            }
        })?;
    }
    Ok(())
}
