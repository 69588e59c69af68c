//! What follows the exact sums of a linear layer: a multiplier per row, one per output channel, the bias; then the residual.
//!
//! Everything here works on a *tile*, `[rows][16]` int32; rows are told by the scales or shifts that come with them.

use super::fixed_point::{rounding_multiply_high, rounding_shift_right, saturate_i16, scale_by_power_of_two};
use crate::kernels::PerChannel;

/// `tile[r][c] += rmh(acc[r][c] · 2^shift, scales[r])`, where `rmh` is [`rounding_multiply_high`].
///
/// `acc · 2^shift` is below 2³¹ for every model whose shifts were chosen as [`linear`](super::linear) says; for any other it wraps.
pub fn scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
    let (acc, tile) = (acc.as_chunks::<16>().0, tile.as_chunks_mut::<16>().0);
    for ((acc, tile), &scale) in acc.iter().zip(tile).zip(scales) {
        for (t, &acc) in tile.iter_mut().zip(acc) {
            *t = t.wrapping_add(rounding_multiply_high(acc.wrapping_shl(shift), scale));
        }
    }
}

/// `tile[r][c] = rmh(tile[r][c] · 2^shift, scales[r])`: see [`scale_accumulators`], where there is one sum.
pub fn scale_rows(tile: &mut [i32], scales: &[i32], shift: u32) {
    for (tile, &scale) in tile.as_chunks_mut::<16>().0.iter_mut().zip(scales) {
        for t in tile {
            *t = rounding_multiply_high(t.wrapping_shl(shift), scale);
        }
    }
}

/// `tile[r][c] = bias[c] + rmh(tile[r][c], multiplier[c]) · 2^(output_shift − shifts[r])`, saturating.
pub fn requantize(tile: &mut [i32], shifts: &[u8], output_shift: i32, bias: &PerChannel, multiplier: &PerChannel) {
    for (tile, &shift) in tile.as_chunks_mut::<16>().0.iter_mut().zip(shifts) {
        let shift = i32::from(shift) - output_shift;
        for ((t, &bias), &multiplier) in tile.iter_mut().zip(bias).zip(multiplier) {
            *t = scale_by_power_of_two(rounding_multiply_high(*t, multiplier), shift).saturating_add(bias);
        }
    }
}

/// `residual[r · stride + c] = (residual[r · stride + c] + tile[r][c]) · 2^−shift`, rounded and saturated, for the first `channels`
/// channels of every row that `residual` begins.
pub fn add_residual(tile: &[i32], channels: usize, shift: u32, residual: &mut [i16], stride: usize) {
    for (tile, residual) in tile.as_chunks::<16>().0.iter().zip(residual.chunks_mut(stride.max(1))) {
        for (residual, &out) in residual.iter_mut().zip(tile).take(channels) {
            let sum = out.saturating_add(i32::from(*residual));
            *residual = saturate_i16(rounding_shift_right(sum, shift));
        }
    }
}
