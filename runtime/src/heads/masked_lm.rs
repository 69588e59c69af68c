//! The masked language model: transform, then one logit for every row of the word embeddings.
//!
//! The rows are streamed once, in order, and applied to all answered positions; logits go to a sink one by one and are
//! never kept. Source: `BertOnlyMLMHead` with tied decoder.

use crate::encoder::feed_forward::activate_channel;
use crate::encoder::layer::quantize_residual;
use crate::encoder::workspace::{Workspace, take};
use crate::error::{ForwardError, Head};
use crate::format::layout::TILE_CHANNELS;
use crate::format::section::SectionKind;
use crate::kernels::{Kernels, MatmulShape};
use crate::model::Model;
use crate::ops::activation::delta_table;
use crate::ops::fixed_point::{normalizing_shift, rounding_multiply_high, scale_by_power_of_two};
use crate::ops::layer_norm::layer_norm_i16;
use crate::ops::linear::QuantizedRows;
use crate::ops::quantize::{ROW_SHIFT, quantize_row};
use crate::trace::{Observer, Site};

/// Positions that are multiplied with one tile of word embeddings at a time.
const TILE_POSITIONS: usize = 16;

/// Logits (16 fraction bits) of some positions of the sequence in the workspace, for the whole vocabulary.
///
/// `positions` ascend. `sink` gets token id, index into `positions`, and logit: ids in ascending order, for each id the
/// positions in order.
///
/// # Errors
///
/// If the model has no such head, or a position does not lie after the one before it and inside the sequence.
pub fn masked_lm(
    model: &Model<'_>,
    kernels: &Kernels,
    workspace: &mut Workspace<'_>,
    positions: &[usize],
    observer: &mut impl Observer,
    mut sink: impl FnMut(u32, usize, i32),
) -> Result<(), ForwardError> {
    use SectionKind::{DecoderBias, WordEmbeddings, WordScales};
    let manifest = model.manifest();
    if !manifest.heads.masked_lm {
        return Err(ForwardError::MissingHead(Head::MaskedLm));
    }
    let tokens = workspace.seq_len;
    for (i, &position) in positions.iter().enumerate() {
        if position >= tokens || (i > 0 && position <= positions[i - 1]) {
            return Err(ForwardError::PositionOutOfRange { position, tokens });
        }
    }
    let (h, count) = (usize::from(manifest.config.hidden_size), positions.len());
    let Workspace { residual, input, input_scales, shifts, scratch, .. } = workspace;
    let mut rest = &mut **scratch;
    let transformed: &mut [i16] = take(&mut rest, h);
    let rows: &mut [i8] = take(&mut rest, count * h);
    let scales: &mut [i32] = take(&mut rest, count);
    let exponents: &mut [i32] = take(&mut rest, count);

    let constants = model.constants();
    let shift = constants.decoder_shift;
    for (i, &position) in positions.iter().enumerate() {
        let residual = &residual[position * h..][..h];
        transform(model, kernels, residual, row_of(input, input_scales, shifts, h), transformed, observer);
        let largest = quantize_row(&mut rows[i * h..][..h], |c| i32::from(transformed[c]) << ROW_SHIFT);
        let normalizing = normalizing_shift(largest);
        scales[i] = rounding_multiply_high(largest << normalizing, constants.decoder_multiplier);
        // Three high halves have divided by 2⁹⁶.
        exponents[i] = shift as i32 + normalizing as i32 + constants.decoder_exponent - 96;
    }

    let words = model.matrix(WordEmbeddings, 0);
    let (word_scales, biases) = (model.i32s(WordScales, 0), model.i32s(DecoderBias, 0));
    let vocab_size = manifest.config.vocab_size as usize;
    let mut acc = [0; TILE_CHANNELS * TILE_POSITIONS];
    for id in (0..vocab_size).step_by(TILE_CHANNELS) {
        let n = (vocab_size - id).min(TILE_CHANNELS);
        for first in (0..count).step_by(TILE_POSITIONS) {
            let m = (count - first).min(TILE_POSITIONS);
            let shape = MatmulShape {
                m,
                n,
                k: h,
                input_stride: h,
                weight_stride: h,
                out_stride: TILE_CHANNELS,
                out_tile_stride: 0,
            };
            (kernels.matmul_i8)(&shape, &rows[first * h..], &words.values[id * h..], &mut acc);
            for (token, c) in (id..id + n).zip(0..) {
                let (word_scale, bias) = (word_scales.get(token), biases.get(token));
                for i in 0..m {
                    let t = rounding_multiply_high(acc[i * TILE_CHANNELS + c] << shift, scales[first + i]);
                    let logit = scale_by_power_of_two(rounding_multiply_high(t, word_scale), exponents[first + i]);
                    let logit = logit.saturating_add(bias);
                    observer.prediction_logit(logit);
                    sink(token as u32, first + i, logit);
                }
            }
        }
    }
    Ok(())
}

/// Shows the observer what every token of the sequence in the workspace becomes behind the transform's activation.
///
/// # Errors
///
/// If the model has no such head.
pub fn observe_transform(
    model: &Model<'_>,
    kernels: &Kernels,
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) -> Result<(), ForwardError> {
    if !model.manifest().heads.masked_lm {
        return Err(ForwardError::MissingHead(Head::MaskedLm));
    }
    let h = usize::from(model.manifest().config.hidden_size);
    let Workspace { residual, input, input_scales, shifts, scratch, .. } = workspace;
    let transformed: &mut [i16] = take(&mut &mut **scratch, h);
    for residual in residual.chunks_exact(h) {
        transform(model, kernels, residual, row_of(input, input_scales, shifts, h), transformed, observer);
    }
    Ok(())
}

/// The memory of one row at the beginning of the workspace's.
fn row_of<'r>(
    input: &'r mut [i8],
    scales: &'r mut [i32],
    shifts: &'r mut [u8],
    h: usize,
) -> (&'r mut [i8], &'r mut [i32], &'r mut [u8]) {
    (&mut input[..h], &mut scales[..1], &mut shifts[..1])
}

/// `BertPredictionHeadTransform`: linear layer, activation, layer norm, of one residual row.
fn transform(
    model: &Model<'_>,
    kernels: &Kernels,
    residual: &[i16],
    (input, scales, shifts): (&mut [i8], &mut [i32], &mut [u8]),
    out: &mut [i16],
    observer: &mut impl Observer,
) {
    use SectionKind::{TransformInput, TransformLayerNorm, TransformParameters, TransformWeight};
    let h = residual.len();
    quantize_residual(&model.i16s(TransformInput, 0), residual, input, scales, shifts, h);
    let rows = QuantizedRows { values: input, scales, shifts, group_size: h };
    let linear = model.linear(TransformParameters, TransformWeight, 0, 3, model.constants().transform);
    let delta = delta_table(model.manifest().config.hidden_act);
    linear.forward(kernels, &rows, 0..h, |_, channel, outputs| {
        for (i, &output) in outputs.iter().enumerate() {
            out[channel + i] = activate_channel(&linear, delta, channel + i, output);
        }
    });
    observer.row(Site::Transform, out);
    let norm = model.layer_norm(TransformLayerNorm, 0);
    layer_norm_i16(out, norm.parameters(), norm.scale);
}
