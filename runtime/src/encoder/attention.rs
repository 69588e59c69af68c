//! Self-attention, head by head: query, key and value, scores, context; then the output projection, residual and layer norm.
//!
//! Weights of query, key and value lie head by head, so each weight is read once, in ascending order. Query and
//! key rows are quantised to int8 with a scale of their own, values with one scale per channel over the tokens. Padding never
//! enters, so a sequence's bits do not depend on its batch.

use super::layer::{add_and_norm, quantize_residual};
use super::workspace::{QUERY_ROWS, Workspace, take};
use crate::format::constants::LayerConstants;
use crate::format::section::SectionKind;
use crate::kernels::{Kernels, MatmulShape};
use crate::model::Model;
use crate::ops::fixed_point::{normalizing_shift, rounding_multiply_high, saturate_i16, scale_by_power_of_two};
use crate::ops::linear::{Linear, QuantizedRows, normalize_scales};
use crate::ops::quantize::{ROW_SHIFT, quantize_row};
use crate::ops::softmax::{SoftmaxScale, softmax_row};
use crate::trace::{Observer, Site};

/// Attention block of one layer, on the residual stream in place.
pub(super) fn attention(
    model: &Model<'_>,
    kernels: &Kernels,
    layer: usize,
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) {
    use SectionKind::*;
    let config = &model.manifest().config;
    let (n, h, d) = (workspace.seq_len, usize::from(config.hidden_size), config.head_dim());
    let Workspace { residual, input, input_scales: scales, shifts, scratch, .. } = workspace;
    let mut rest = &mut **scratch;
    let context: &mut [i16] = take(&mut rest, n * h);

    let constants = model.layer_constants(layer);
    quantize_residual(&model.i16s(QkvInput, layer), residual, input, scales, shifts, h);
    let rows = QuantizedRows { values: input, scales, shifts, group_size: h };
    let qkv = model.linear(QkvParameters, QkvWeight, layer, 2, constants.qkv);
    let mut head = Head::new(&mut rest, n, d);
    for index in 0..usize::from(config.num_attention_heads) {
        head.project(kernels, &rows, &qkv, 3 * d * index, &constants);
        for first in (0..n).step_by(QUERY_ROWS) {
            let queries = first..(first + QUERY_ROWS).min(n);
            head.attend(kernels, constants.softmax, queries, |row, channel, value| {
                context[row * h + index * d + channel] = value
            });
        }
    }

    for (row, context) in context.chunks_exact(h).enumerate() {
        observer.row(Site::Context { layer }, context);
        scales[row] = quantize_row(&mut input[row * h..][..h], |c| i32::from(context[c]) << ROW_SHIFT);
    }
    normalize_scales(scales, shifts);
    let rows = QuantizedRows { values: input, scales, shifts, group_size: h };
    let output = model.linear(AttentionOutputParameters, AttentionOutputWeight, layer, 2, constants.attention_output);
    let shift = constants.attention_sum_shift;
    let norm = model.layer_norm(AttentionLayerNorm, layer);
    let sites = (Site::AttentionSum { layer }, Site::AttentionHidden { layer });
    add_and_norm(kernels, &rows, &output, residual, shift, &norm, sites, observer);
}

/// Scratch of one attention head; N tokens, d channels.
struct Head<'w> {
    /// `[N, d]` (query, key), `[d, N]` (value): before quantisation; then `[QUERY_ROWS, d]`: weighted sums of values.
    wide: &'w mut [i32],
    query: &'w mut [i8],
    key: &'w mut [i8],
    /// Channel by channel, as the second product reads it.
    value: &'w mut [i8],
    query_scales: &'w mut [i32],
    key_scales: &'w mut [i32],
    value_scales: &'w mut [i32],
    /// How far `key_scales` have been shifted left together.
    key_shift: u32,
    scores: &'w mut [i32],
    probabilities: &'w mut [u8],
    n: usize,
    d: usize,
}

impl<'w> Head<'w> {
    fn new(rest: &mut &'w mut [u8], n: usize, d: usize) -> Self {
        Self {
            wide: take(rest, n.max(QUERY_ROWS) * d),
            query: take(rest, n * d),
            key: take(rest, n * d),
            value: take(rest, n * d),
            query_scales: take(rest, n),
            key_scales: take(rest, n),
            value_scales: take(rest, d),
            key_shift: 0,
            scores: take(rest, QUERY_ROWS * n),
            probabilities: take(rest, QUERY_ROWS * n),
            n,
            d,
        }
    }

    /// Query, key and value of one head, whose weights begin at row `first`, quantised to int8.
    fn project(
        &mut self,
        kernels: &Kernels,
        rows: &QuantizedRows<'_>,
        qkv: &Linear<'_>,
        first: usize,
        constants: &LayerConstants,
    ) {
        let (n, d) = (self.n, self.d);
        let (key, value) = (first + d, first + 2 * d);
        project_rows(kernels, rows, qkv, first, self.wide, self.query, self.query_scales, d);
        project_rows(kernels, rows, qkv, key, self.wide, self.key, self.key_scales, d);
        self.key_shift = normalizing_shift(self.key_scales.iter().copied().max().unwrap_or(0));
        self.key_scales.iter_mut().for_each(|scale| *scale <<= self.key_shift);

        let wide = &mut *self.wide;
        qkv.forward(kernels, rows, value..value + d, |row, channel, out| {
            for (i, &out) in out.iter().enumerate() {
                wide[(channel - value + i) * n + row] = out;
            }
        });
        for channel in 0..d {
            let column = &wide[channel * n..][..n];
            let largest = quantize_row(&mut self.value[channel * n..][..n], |token| column[token]);
            // Normalised first, so that small values keep their bits.
            let shift = normalizing_shift(largest);
            let scaled = rounding_multiply_high(largest << shift, constants.value_multiplier);
            self.value_scales[channel] = scale_by_power_of_two(scaled, constants.value_exponent + shift as i32 - 32);
        }
    }

    /// Context of some query rows: `sink` gets row, channel of the head, and value.
    fn attend(
        &mut self,
        kernels: &Kernels,
        softmax: SoftmaxScale,
        queries: core::ops::Range<usize>,
        mut sink: impl FnMut(usize, usize, i16),
    ) {
        let (n, d, m) = (self.n, self.d, queries.len());
        let scores = MatmulShape { m, n, k: d, input_stride: d, weight_stride: d, out_stride: n, out_tile_stride: 0 };
        (kernels.matmul_i8)(&scores, &self.query[queries.start * d..], self.key, self.scores);
        let mut sums = [0; QUERY_ROWS];
        for (i, sum) in sums[..m].iter_mut().enumerate() {
            let scale = softmax.row(self.query_scales[queries.start + i], self.key_shift, d);
            let (scores, out) = (&mut self.scores[i * n..][..n], &mut self.probabilities[i * n..][..n]);
            *sum = softmax_row(scores, self.key_scales, scale, out);
        }
        let values =
            MatmulShape { m, n: d, k: n, input_stride: n, weight_stride: n, out_stride: d, out_tile_stride: 0 };
        (kernels.matmul_u8_i8)(&values, self.probabilities, self.value, self.wide);
        for (i, &sum) in sums[..m].iter().enumerate() {
            let divisor = Divisor::new(sum);
            for channel in 0..d {
                let average = divisor.divide(self.wide[i * d + channel]);
                let value = saturate_i16(rounding_multiply_high(average, self.value_scales[channel]));
                sink(queries.start + i, channel, value);
            }
        }
    }
}

/// d output channels from `first` on for every row, each row quantised with its own scale.
#[allow(clippy::too_many_arguments)] // The borrowed parts of one head.
fn project_rows(
    kernels: &Kernels,
    rows: &QuantizedRows<'_>,
    qkv: &Linear<'_>,
    first: usize,
    wide: &mut [i32],
    out: &mut [i8],
    scales: &mut [i32],
    d: usize,
) {
    qkv.forward(kernels, rows, first..first + d, |row, channel, out| {
        wide[row * d + channel - first..][..out.len()].copy_from_slice(out);
    });
    for ((out, wide), scale) in out.chunks_exact_mut(d).zip(wide.chunks_exact(d)).zip(scales) {
        *scale = quantize_row(out, |c| wide[c]);
    }
}

/// Divides weighted sums of values by the sum of their weights.
struct Divisor {
    shift: u32,
    reciprocal: i32,
}

impl Divisor {
    /// `sum` is 255 to 255 · 4096.
    fn new(sum: u32) -> Self {
        // The sum is brought to 2²³..2²⁴; a weighted sum is at most 127 times as large, and stays below 2³¹.
        let shift = sum.leading_zeros() - 8;
        let reciprocal = ((1u64 << 54) / (u64::from(sum) << shift)).min(i32::MAX as u64) as i32;
        Self { shift, reciprocal }
    }

    /// `2²⁴ · weighted / sum`, below 2³¹ because a weighted average of int8 values is.
    #[inline(always)]
    fn divide(&self, weighted: i32) -> i32 {
        rounding_multiply_high(weighted << self.shift, self.reciprocal) << 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_is_exact_to_21_bits() {
        for sum in [255u32, 256, 1000, 32767, 32768, 255 * 4096] {
            for quotient in [-127, -1, 0, 1, 64, 127] {
                let exact = i64::from(quotient) << 24;
                let found = i64::from(Divisor::new(sum).divide(quotient * sum as i32));
                assert!((found - exact).abs() <= 8, "{quotient} · {sum}: {found} for {exact}");
            }
        }
    }
}
