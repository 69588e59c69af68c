//! A linear layer: exact int8 products, then one multiply per row, bias, and one multiply per output channel.
//!
//! `t[m][n] = bias[n] + Σ_groups rmh(acc << s, scale[m])`, and the caller takes `rmh(t[m][n], multiplier[n])` to its own unit, where
//! `rmh` is [`rounding_multiply_high`] and `s` the layer's accumulator shift. The converter makes it as large as the
//! weights allow: `127 · Σₖ |w[n][k]| · 2^s < 2³¹` for every channel, so that no input can overflow `t`, however it is grouped.
//!
//! The unit of `t` belongs to the channel: `2^(32 − s) · unit · s_w[n] / 127` for rows quantised from values of that unit, because
//! a row's scale is the magnitude that [`quantize_row`](super::quantize::quantize_row) returned.

use core::ops::Range;

use super::fixed_point::rounding_multiply_high;
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
    /// `[groups, rows]`: the magnitudes that `quantize_row` returned.
    pub scales: &'a [i32],
    /// Rows.
    pub rows: usize,
    /// Channels that share a scale; all of them where there is one group.
    pub group_size: usize,
}

/// The weights of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// int8 `[N, K]`.
    pub weight: I8Matrix<'a>,
    /// int32 `[N, parameter_stride]`: bias, multiplier, …
    pub parameters: I32s<'a>,
    /// Parameters of one channel.
    pub parameter_stride: usize,
    /// See the module; below 32.
    pub accumulator_shift: u32,
}

impl Linear<'_> {
    /// Bias of a channel, in the channel's unit of `t`.
    #[inline(always)]
    pub fn bias(&self, channel: usize) -> i32 {
        self.parameters.get(channel * self.parameter_stride)
    }

    /// Multiplier of a channel.
    #[inline(always)]
    pub fn multiplier(&self, channel: usize) -> i32 {
        self.parameters.get(channel * self.parameter_stride + 1)
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

    /// Computes `t` for some output channels of every row, tile by tile in ascending channel order: each weight is read once.
    ///
    /// `sink` gets the row, the first channel, and `t` of up to 16 channels from there.
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
        let k = self.weight.columns;
        let shift = self.accumulator_shift;
        let mut acc = [0; TILE_ROWS * TILE_CHANNELS];
        for channel in channels.clone().step_by(TILE_CHANNELS) {
            let n = (channels.end - channel).min(TILE_CHANNELS);
            for row in (0..input.rows).step_by(TILE_ROWS) {
                let m = (input.rows - row).min(TILE_ROWS);
                let mut t = [[0; TILE_CHANNELS]; TILE_ROWS];
                for (c, bias) in (channel..channel + n).map(|channel| self.bias(channel)).enumerate() {
                    t[..m].iter_mut().for_each(|t| t[c] = bias);
                }
                for (group, first) in (0..k).step_by(input.group_size).enumerate() {
                    let width = (k - first).min(input.group_size);
                    let shape = MatmulShape {
                        m,
                        n,
                        k: width,
                        input_stride: width,
                        weight_stride: k,
                        out_stride: TILE_CHANNELS,
                    };
                    let values = &input.values[first * input.rows + row * width..];
                    let in_tile =
                        if self.weight.layout == WeightLayout::RowMajor { first } else { first * TILE_CHANNELS };
                    let weight = &self.weight.values[channel * k + in_tile..];
                    kernels.matmul(self.weight.layout, &shape, values, weight, &mut acc);
                    let scales = &input.scales[group * input.rows + row..][..m];
                    for ((t, acc), &scale) in t.iter_mut().zip(acc.chunks_exact(TILE_CHANNELS)).zip(scales) {
                        for (t, &acc) in t.iter_mut().zip(acc) {
                            *t = t.wrapping_add(rounding_multiply_high(acc << shift, scale));
                        }
                    }
                }
                for (r, t) in t[..m].iter().enumerate() {
                    sink(row + r, channel, &t[..n]);
                }
            }
        }
    }
}
