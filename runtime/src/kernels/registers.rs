//! Everything but the matrix products, for cores that hold one value in a register: the references in [`ops`](crate::ops), with what is the
//! same for a whole row decided outside of its loop, four elements at a time, and two larger tables. What is no whole number of fours
//! goes to the reference.

use super::PerChannel;
use super::four::four;
use crate::ops::activation;
use crate::ops::average::{self, Divisor};
use crate::ops::fixed_point::saturate_to_i16;
use crate::ops::quantize::{self, Steps};
use crate::ops::requantize::{self, Requantizer, SUM_FRACTION_BITS};
use crate::ops::softmax::{self, RowScale};
use crate::ops::tables::{EXP2_U8, GELU_DELTA};

/// What such a core does in its own way.
pub(super) trait Core {
    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    fn multiply_high(a: i32, b: i32) -> i32;

    /// See [`saturate_i16`](crate::ops::fixed_point::saturate_i16).
    fn saturate(values: [i32; 4]) -> [i16; 4];
}

/// `value · 2^−shift`, rounded; `shift` is 1 to 31.
#[inline(always)]
fn rounding_shift(value: i32, shift: u32) -> i32 {
    // Halved upwards, in an order that does not overflow.
    let double = value >> (shift - 1);
    double - (double >> 1)
}

/// See [`scale_accumulators`](requantize::scale_accumulators).
pub(super) fn scale_accumulators<C: Core>(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
    let rows = acc.as_chunks::<16>().0.iter().zip(tile.as_chunks_mut::<16>().0);
    for ((acc, tile), &scale) in rows.zip(scales) {
        for (tile, acc) in tile.as_chunks_mut::<4>().0.iter_mut().zip(acc.as_chunks::<4>().0) {
            let sum = *tile;
            *tile = four!(|sum, acc| sum.wrapping_add(C::multiply_high(acc.wrapping_shl(shift), scale)));
        }
    }
}

/// See [`requantize`](requantize::requantize).
pub(super) fn requantize<C: Core>(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
    let parameters = || bias.as_chunks::<4>().0.iter().zip(multiplier.as_chunks::<4>().0);
    let rows = requantizer.rows(tile);
    for (row, (tile, &shift)) in tile.as_chunks_mut::<16>().0.iter_mut().zip(shifts).enumerate().take(rows) {
        if let Some(&scale) = scales.and_then(|scales| scales.get(row)) {
            for tile in tile.as_chunks_mut::<4>().0 {
                let sum = *tile;
                *tile = four!(|sum| C::multiply_high(sum.wrapping_shl(accumulator_shift), scale));
            }
        }
        let fours = tile.as_chunks_mut::<4>().0.iter_mut();
        match i32::from(shift) - output_shift {
            0 => {
                for (tile, (bias, multiplier)) in fours.zip(parameters()) {
                    let sum = *tile;
                    *tile = four!(|sum, bias, multiplier| C::multiply_high(sum, multiplier).saturating_add(bias));
                }
            }
            shift @ 1..=31 => {
                let shift = shift as u32;
                for (tile, (bias, multiplier)) in fours.zip(parameters()) {
                    let sum = *tile;
                    *tile = four!(|sum, bias, multiplier| {
                        rounding_shift(C::multiply_high(sum, multiplier), shift).saturating_add(bias)
                    });
                }
            }
            _ => requantize::requantize(tile, &Requantizer { scales: None, shifts: &[shift], ..*requantizer }),
        }
    }
}

/// See [`add_residual`](requantize::add_residual).
pub(super) fn add_residual<C: Core>(
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    residual: &mut [i16],
    stride: usize,
) {
    let count = requantizer.rows(tile);
    let rows = tile.as_chunks_mut::<16>().0.iter_mut().zip(residual.chunks_mut(stride.max(1)));
    for (row, (tile, residual)) in rows.enumerate().take(count) {
        match residual.first_chunk_mut::<16>() {
            Some(residual) if channels >= tile.len() => {
                requantize::<C>(tile, &requantizer.from_row(row));
                let of_channels = tile.as_chunks::<4>().0.iter().zip(multiplier.as_chunks::<4>().0);
                for (residual, (value, multiplier)) in residual.as_chunks_mut::<4>().0.iter_mut().zip(of_channels) {
                    let x = *residual;
                    *residual = four!(|value, multiplier, x| {
                        let sum = value.saturating_add(i32::from(x).wrapping_mul(multiplier));
                        saturate_to_i16(sum >> SUM_FRACTION_BITS)
                    });
                }
            }
            _ => {
                let requantizer = requantizer.from_row(row);
                requantize::add_residual(tile, &requantizer, channels, multiplier, residual, stride);
            }
        }
    }
}

/// GELU between two steps of 1/32, from −8 on: `activate(x) = ⌊(offset + slope · x) / 2⁸⌋`, for x with 12 fraction bits. At both ends, and beyond
/// them, it is 0 and x.
pub(super) static GELU: [[i32; 2]; 512] = {
    let mut steps = [[0; 2]; 512];
    let mut index = 0;
    while index < steps.len() {
        let step = index as i32 - 256;
        // δ is even. At an x of `128 · step + fraction` it is `(δ[step] · (128 − fraction) + δ[step + 1] · fraction + 64) / 128`, rounded down.
        let delta = GELU_DELTA[step.unsigned_abs() as usize] as i32;
        let rise = GELU_DELTA[(step + 1).unsigned_abs() as usize] as i32 - delta;
        let slope = if step < 0 { 0 } else { 128 << 4 };
        // Taken from a multiple of 128, what was rounded down becomes rounded up.
        steps[index] = [2 * (63 - 128 * delta + 128 * step * rise), 2 * (slope - rise)];
        index += 1;
    }
    steps
};

/// GELU of x, 24 fraction bits.
#[inline(always)]
pub(super) fn gelu(x: i32) -> i32 {
    let step = ((x >> 7).clamp(-256, 255) + 256) as usize;
    let x = x.clamp(-(1 << 19), (1 << 19) - 1);
    // The index is below 512.
    let [offset, slope] = GELU[step & 511];
    offset.wrapping_add(slope.wrapping_mul(x)) & !255
}

/// See [`activate_tile`](activation::activate_tile).
pub(super) fn activate_tile<C: Core>(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    let is_gelu = delta.is_some_and(|delta| core::ptr::eq(delta, &GELU_DELTA));
    let count = requantizer.rows(tile);
    let rows = tile.as_chunks_mut::<16>().0.iter_mut().zip(out.chunks_mut(stride.max(1)));
    for (row, (tile, out)) in rows.enumerate().take(count) {
        match out.first_chunk_mut::<16>() {
            Some(out) if is_gelu && channels >= tile.len() => {
                requantize::<C>(tile, &requantizer.from_row(row));
                let rows = tile.as_chunks::<4>().0.iter().zip(multiplier.as_chunks::<4>().0);
                for (out, (x, multiplier)) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
                    *out = C::saturate(four!(|x, multiplier| C::multiply_high(gelu(x), multiplier)));
                }
            }
            _ => {
                let requantizer = requantizer.from_row(row);
                activation::activate_tile(delta, tile, &requantizer, channels, multiplier, out, stride);
            }
        }
    }
}

/// See [`quantize_i32`](quantize::quantize_i32).
pub(super) fn quantize_i32<C: Core>(row: &[i32], out: &mut [i8]) -> i32 {
    if row.len() != out.len() {
        return quantize::quantize_i32(row, out);
    }
    let ((row, row_left), (out, out_left)) = (row.as_chunks::<4>(), out.as_chunks_mut::<4>());
    let mut largest = 0u32;
    for value in row {
        four!(|value| largest = largest.max(value.unsigned_abs()));
    }
    row_left.iter().for_each(|value| largest = largest.max(value.unsigned_abs()));
    let largest = largest.min(i32::MAX as u32) as i32;
    if largest == 0 {
        out.as_flattened_mut().iter_mut().chain(out_left).for_each(|out| *out = 0);
        return 0;
    }
    let steps @ Steps { shift, reciprocal } = Steps::new(largest);
    // No overflow: the magnitude is `127 · 2²²` at most.
    const HALF: i32 = 1 << (Steps::FRACTION_BITS - 1);
    for (out, value) in out.iter_mut().zip(row) {
        *out = four!(|value| ((C::multiply_high(value << shift, reciprocal) + HALF) >> Steps::FRACTION_BITS) as i8);
    }
    out_left.iter_mut().zip(row_left).for_each(|(out, &value)| *out = steps.quantize(value));
    largest
}

/// `255 · 2^(−z / 256)`, rounded, for every z where that is not 0, and some more.
pub(super) static EXP2: [u8; 4096] = {
    let mut table = [0; 4096];
    let mut z = 0;
    while z < 9 << 8 {
        let (value, shift) = (EXP2_U8[z & 255] as u32, z >> 8);
        table[z] = ((2 * value + (1 << shift)) >> (shift + 1)) as u8;
        z += 1;
    }
    table
};

/// See [`softmax_row`](softmax::softmax_row).
pub(super) fn softmax_row<C: Core>(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
    let RowScale { multiplier, shift, accumulator_shift } = scale;
    if keys.len() != scores.len() || out.len() != scores.len() || shift < 1 {
        return softmax::softmax_row(scores, keys, scale, out);
    }
    let mut largest = i32::MIN;
    let (fours, tail) = scores.as_chunks_mut::<4>();
    let (key_fours, key_tail) = keys.as_chunks::<4>();
    for (scores, key) in fours.iter_mut().zip(key_fours) {
        let score = *scores;
        let score = four!(|score, key| C::multiply_high(score << accumulator_shift, key));
        four!(|score| largest = largest.max(score));
        *scores = score;
    }
    for (score, &key) in tail.iter_mut().zip(key_tail) {
        *score = C::multiply_high(*score << accumulator_shift, key);
        largest = largest.max(*score);
    }
    // |score| < 2³⁰, so a distance is below 2³¹ and its product below 2³⁰: with the half of a step it fits a u32.
    let shift = shift.min(31);
    let half = 1 << (shift - 1);
    let probability = |score: i32| {
        let z = (C::multiply_high(largest - score, multiplier) as u32 + half) >> shift;
        EXP2[z.min(4095) as usize]
    };
    let mut sum = 0;
    let (out_fours, out_tail) = out.as_chunks_mut::<4>();
    for (score, out) in fours.iter().zip(out_fours) {
        let p = four!(|score| probability(score));
        *out = p;
        four!(|p| sum += u32::from(p));
    }
    for (&score, out) in tail.iter().zip(out_tail) {
        *out = probability(score);
        sum += u32::from(*out);
    }
    sum
}

/// See [`average_row`](average::average_row).
pub(super) fn average_row<C: Core>(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]) {
    let rows = weighted.as_chunks::<4>().0.iter().zip(scales.as_chunks::<4>().0);
    let fours = out.as_chunks_mut::<4>().0.iter_mut().zip(rows);
    let whole = 4 * fours.len();
    for (out, (weighted, scales)) in fours {
        *out = C::saturate(four!(|weighted, scales| {
            let quotient = C::multiply_high(weighted << divisor.shift, divisor.reciprocal);
            C::multiply_high(quotient << 2, scales)
        }));
    }
    if let (Some(weighted), Some(scales), Some(out)) =
        (weighted.get(whole..), scales.get(whole..), out.get_mut(whole..))
    {
        average::average_row(weighted, divisor, scales, out);
    }
}

/// A table with these entries for a [`Core`], and the products named.
macro_rules! table {
    ($name:literal, $core:ty, $matmul_i8:ident, $matmul_u8_i8:ident) => {
        $crate::kernels::Kernels {
            name: $name,
            weight_layout: $crate::format::layout::WeightLayout::RowMajor,
            matmul_i8: $matmul_i8,
            matmul_u8_i8: $matmul_u8_i8,
            matmul_packed_i8: $matmul_i8,
            matmul_packed_u8_i8: $matmul_u8_i8,
            scale_accumulators: $crate::kernels::registers::scale_accumulators::<$core>,
            requantize: $crate::kernels::registers::requantize::<$core>,
            add_residual: $crate::kernels::registers::add_residual::<$core>,
            activate_tile: $crate::kernels::registers::activate_tile::<$core>,
            largest_i16: $crate::ops::quantize::largest_i16,
            quantize_i16: $crate::ops::quantize::quantize_i16,
            quantize_i32: $crate::kernels::registers::quantize_i32::<$core>,
            softmax_row: $crate::kernels::registers::softmax_row::<$core>,
            average_row: $crate::kernels::registers::average_row::<$core>,
            layer_norm_sums: $crate::ops::layer_norm::sums,
            layer_norm: $crate::ops::layer_norm::normalize,
        }
    };
}
pub(super) use table;
