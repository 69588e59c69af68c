//! A linear layer: exact int8 products, then one multiply per row, one per output channel, and the bias.
//!
//! `t[m][n] = Σ_groups rmh(acc << s, scale[m])` and `out[m][n] = bias[n] + rmh(t[m][n], multiplier[n]) · 2^(x − shift[m])`, where
//! `rmh` is [`rounding_multiply_high`]. A row's scales are normalised to 31 bits by its own `shift[m]`, so a row of small values
//! keeps as many bits as one of large values. `s`, the accumulator shift, is as large as the weights allow:
//! `127 · Σₖ |w[n][k]| · 2^s < 2³¹` for every channel, so that no input can overflow `t`, however it is grouped. `x`, the output
//! shift, lets the largest multiplier be 31 bits wide.
//!
//! With rows quantised from values of a real `unit`, a scale being the magnitude that [`quantize_row`](super::quantize::quantize_row)
//! returned, one step of `t` is `2^(32 − s − shift[m]) · unit · s_w[n] / 127`.

use core::ops::Range;

use super::fixed_point::{normalizing_shift, rounding_multiply_high, scale_by_power_of_two};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::format::tensor::{I8Matrix, I32s};
use crate::kernels::{Kernels, MatmulShape};

/// Rows that are multiplied by one tile of weights at a time.
const TILE_ROWS: usize = 16;

/// int8 rows with their scales.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// Group after group, each `[rows, group_size]`; the last group may be narrower.
    pub values: &'a [i8],
    /// `[groups, rows]`: the magnitudes that `quantize_row` returned, after [`normalize_scales`].
    pub scales: &'a [i32],
    /// `[rows]`: what `normalize_scales` shifted them by.
    pub shifts: &'a [u8],
    /// Channels that share a scale; all of them where there is one group.
    pub group_size: usize,
}

/// Shifts the scales `[groups, rows]` of each row left together, until the largest is 31 bits wide; writes down by how much.
pub fn normalize_scales(scales: &mut [i32], shifts: &mut [u8]) {
    let rows = shifts.len();
    for (row, shift) in shifts.iter_mut().enumerate() {
        let of_row = |scales: &[i32]| scales.iter().skip(row).step_by(rows).copied().max().unwrap_or(0);
        *shift = normalizing_shift(of_row(scales)) as u8;
        scales.iter_mut().skip(row).step_by(rows).for_each(|scale| *scale <<= *shift);
    }
}

/// How the sums of a linear layer are shifted: see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinearShifts {
    /// `s`, below 32.
    pub accumulator: u32,
    /// `x`.
    pub output: i32,
}

/// The weights of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// int8 `[N, K]`.
    pub weight: I8Matrix<'a>,
    /// int32 `[N, parameter_stride]`: bias in the unit of the output, multiplier, …
    pub parameters: I32s<'a>,
    /// Parameters of one channel.
    pub parameter_stride: usize,
    /// See the module.
    pub shifts: LinearShifts,
}

impl Linear<'_> {
    #[inline(always)]
    fn bias_and_multiplier(&self, channel: usize) -> (i32, i32) {
        let at = channel * self.parameter_stride;
        (self.parameters.get(at), self.parameters.get(at + 1))
    }

    /// Second multiplier of a channel, behind the activation.
    ///
    /// # Panics
    ///
    /// If the layer has none.
    #[inline(always)]
    pub fn output_multiplier(&self, channel: usize) -> i32 {
        self.parameters.get(channel * self.parameter_stride + 2)
    }

    /// Computes some output channels of every row, tile by tile in ascending channel order: each weight is read once.
    ///
    /// `sink` gets the row, the first channel, and the outputs of up to 16 channels from there.
    ///
    /// # Panics
    ///
    /// If shapes disagree, or the weights are packed for other kernels.
    pub fn forward(
        &self,
        kernels: &Kernels,
        input: &QuantizedRows<'_>,
        channels: Range<usize>,
        mut sink: impl FnMut(usize, usize, &[i32]),
    ) {
        let (rows, k) = (input.shifts.len(), self.weight.columns);
        let mut acc = [0; TILE_ROWS * TILE_CHANNELS];
        for channel in channels.clone().step_by(TILE_CHANNELS) {
            let n = (channels.end - channel).min(TILE_CHANNELS);
            let mut parameters = [(0, 0); TILE_CHANNELS];
            for (c, parameters) in parameters[..n].iter_mut().enumerate() {
                *parameters = self.bias_and_multiplier(channel + c);
            }
            for row in (0..rows).step_by(TILE_ROWS) {
                let m = (rows - row).min(TILE_ROWS);
                let mut tile = [[0i32; TILE_CHANNELS]; TILE_ROWS];
                for (group, first) in (0..k).step_by(input.group_size).enumerate() {
                    let width = (k - first).min(input.group_size);
                    let shape = MatmulShape {
                        m,
                        n,
                        k: width,
                        input_stride: width,
                        weight_stride: k,
                        out_stride: TILE_CHANNELS,
                        out_tile_stride: 0,
                    };
                    let values = &input.values[first * rows + row * width..];
                    let in_tile =
                        if self.weight.layout == WeightLayout::RowMajor { first } else { first * TILE_CHANNELS };
                    let weight = &self.weight.values[channel * k + in_tile..];
                    kernels.matmul(self.weight.layout, &shape, values, weight, &mut acc);
                    let scales = &input.scales[group * rows + row..][..m];
                    for ((t, acc), &scale) in tile.iter_mut().zip(acc.chunks_exact(TILE_CHANNELS)).zip(scales) {
                        for (t, &acc) in t.iter_mut().zip(acc) {
                            *t = t.wrapping_add(rounding_multiply_high(acc << self.shifts.accumulator, scale));
                        }
                    }
                }
                for (r, t) in tile[..m].iter_mut().enumerate() {
                    let shift = i32::from(input.shifts[row + r]) - self.shifts.output;
                    for (t, (bias, multiplier)) in t.iter_mut().zip(parameters) {
                        let product = scale_by_power_of_two(rounding_multiply_high(*t, multiplier), shift);
                        *t = product.saturating_add(bias);
                    }
                    sink(row + r, channel, &t[..n]);
                }
            }
        }
    }
}
