//! Feed-forward block: intermediate layer, activation, output layer, residual and layer norm.
//!
//! The activations are quantised as they are produced: 256 channels of every token share one int8 scale per token, and only
//! one such group exists as int16 at a time.

use super::layer::{add_and_norm, quantize_residual};
use super::workspace::Workspace;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::{GROUP_SIZE, Model};
use crate::ops::activation::{activate, delta_table};
use crate::ops::fixed_point::{rounding_multiply_high, saturate_i16};
use crate::ops::linear::{Linear, QuantizedRows, normalize_scales};
use crate::ops::quantize::{ROW_SHIFT, quantize_row};
use crate::trace::{Observer, Site};

/// Feed-forward block of one layer, on the residual stream in place.
pub(super) fn feed_forward(
    model: &Model<'_>,
    kernels: &Kernels,
    layer: usize,
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) {
    use SectionKind::*;
    let config = &model.manifest().config;
    let (n, h, f) = (workspace.seq_len, usize::from(config.hidden_size), usize::from(config.intermediate_size));
    let Workspace { residual, input, input_scales, group_scales, shifts, scratch, .. } = workspace;

    let constants = model.layer_constants(layer);
    quantize_residual(&model.i16s(IntermediateInput, layer), residual, input, input_scales, shifts, h);
    let rows = QuantizedRows { values: input, scales: input_scales, shifts, group_size: h };
    let intermediate = model.linear(IntermediateParameters, IntermediateWeight, layer, 3, constants.intermediate);
    let delta = delta_table(config.hidden_act);
    for (group, first) in (0..f).step_by(GROUP_SIZE).enumerate() {
        let width = (f - first).min(GROUP_SIZE);
        // The group begins as int16, twice as wide as the int8 it is narrowed to, in room that the next group will use.
        let region = &mut scratch[first * n..][..2 * width * n];
        let wide: &mut [i16] = bytemuck::cast_slice_mut(region);
        intermediate.forward(kernels, &rows, first..first + width, |row, channel, out| {
            for (i, &out) in out.iter().enumerate() {
                wide[row * width + channel - first + i] = activate_channel(&intermediate, delta, channel + i, out);
            }
        });
        for row in wide.chunks_exact(width) {
            observer.row(Site::Activation { layer, channel: first }, row);
        }
        narrow(region, width, &mut group_scales[group * n..][..n]);
    }

    normalize_scales(group_scales, shifts);
    let activations = bytemuck::cast_slice(&scratch[..n * f]);
    let rows = QuantizedRows { values: activations, scales: group_scales, shifts, group_size: GROUP_SIZE };
    let output = model.linear(OutputParameters, OutputWeight, layer, 2, constants.output);
    let shift = constants.output_sum_shift;
    let norm = model.layer_norm(OutputLayerNorm, layer);
    let sites = (Site::OutputSum { layer }, Site::Hidden { layer: layer + 1 });
    add_and_norm(kernels, &rows, &output, residual, shift, &norm, sites, observer);
}

/// One channel through the activation, to the int16 unit of the next layer's input.
#[inline(always)]
pub(crate) fn activate_channel(linear: &Linear<'_>, delta: Option<&[i16; 257]>, channel: usize, out: i32) -> i16 {
    let activated = activate(delta, out);
    saturate_i16(rounding_multiply_high(activated << 8, linear.output_multiplier(channel)))
}

/// Quantises rows of int16 to int8 rows at the beginning of the same region. A row is copied out before its bytes are
/// written over, and what is written never reaches a row that is still to be read.
fn narrow(region: &mut [u8], width: usize, scales: &mut [i32]) {
    let mut row = [0i16; GROUP_SIZE];
    for (i, scale) in scales.iter_mut().enumerate() {
        let wide: &[i16] = bytemuck::cast_slice(&region[2 * width * i..][..2 * width]);
        row[..width].copy_from_slice(wide);
        let out = bytemuck::cast_slice_mut(&mut region[width * i..][..width]);
        *scale = quantize_row(out, |c| i32::from(row[c]) << ROW_SHIFT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_in_place_equals_quantising_apart() {
        const WIDTH: usize = 6;
        let wide: [i16; 4 * WIDTH] = core::array::from_fn(|i| (i as i16 * 977) % 501 - 200);
        let mut memory = [0u64; 6];
        let region = bytemuck::cast_slice_mut(&mut memory);
        region.copy_from_slice(bytemuck::cast_slice(&wide));
        let mut scales = [0; 4];
        narrow(region, WIDTH, &mut scales);
        for (i, row) in wide.chunks(WIDTH).enumerate() {
            let mut expected = [0; WIDTH];
            assert_eq!(quantize_row(&mut expected, |c| i32::from(row[c]) << ROW_SHIFT), scales[i]);
            assert_eq!(bytemuck::cast_slice::<u8, i8>(&region[i * WIDTH..][..WIDTH]), expected);
        }
    }
}
