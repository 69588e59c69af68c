//! What follows the exact sums of a linear layer: a multiplier per row, one per output channel, the bias; then, often, the residual.
//!
//! Everything here works on a *tile*, `[rows][16]` int32; rows are told by the scales or shifts that come with them.

use super::fixed_point::{rounding_multiply_high, saturate_to_i16, scale_by_power_of_two};
use crate::kernels::PerChannel;

/// What makes values of a tile's sums: see [`requantize`].
#[derive(Clone, Copy, Debug)]
pub struct Requantizer<'a> {
    /// `[rows]`, or none where sums of several groups have been scaled and added up.
    pub scales: Option<&'a [i32]>,
    /// Left shift of a sum before it is scaled; below 32.
    pub accumulator_shift: u32,
    /// `[rows]`.
    pub shifts: &'a [u8],
    /// Left shift of a value, less what its row is shifted by.
    pub output_shift: i32,
    /// Added to each channel.
    pub bias: &'a PerChannel,
    /// Of each channel.
    pub multiplier: &'a PerChannel,
}

impl Requantizer<'_> {
    /// Rows of a tile that become values.
    pub fn rows(&self, tile: &[i32]) -> usize {
        let rows = self.shifts.len().min(tile.len() / 16);
        self.scales.map_or(rows, |scales| rows.min(scales.len()))
    }

    /// That of the rows from `first` on; of none where there are not so many.
    pub fn from_row(&self, first: usize) -> Self {
        let scales = self.scales.map(|scales| scales.get(first..).unwrap_or_default());
        Self { scales, shifts: self.shifts.get(first..).unwrap_or_default(), ..*self }
    }
}

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

/// `tile[r][c] = bias[c] + rmh(t[r][c], multiplier[c]) · 2^(output_shift − shifts[r])`, saturating, where `t[r][c]` is
/// `rmh(tile[r][c] · 2^accumulator_shift, scales[r])`, or what stands there if there are no scales. See [`scale_accumulators`].
pub fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
    let rows = requantizer.rows(tile);
    for (row, (tile, &shift)) in tile.as_chunks_mut::<16>().0.iter_mut().zip(shifts).enumerate().take(rows) {
        if let Some(&scale) = scales.and_then(|scales| scales.get(row)) {
            tile.iter_mut().for_each(|t| *t = rounding_multiply_high(t.wrapping_shl(accumulator_shift), scale));
        }
        let shift = i32::from(shift) - output_shift;
        for ((t, &bias), &multiplier) in tile.iter_mut().zip(bias).zip(multiplier) {
            *t = scale_by_power_of_two(rounding_multiply_high(*t, multiplier), shift).saturating_add(bias);
        }
    }
}

/// Fraction bits that a value has beyond the unit of the sum with the residual. What would round them, half a step, is in the bias. Eight leave
/// nearly every row of a trained model a shift to the right, which is what kernels are fast at: more would not show in a sum of int16.
pub const SUM_FRACTION_BITS: u32 = 8;

/// `residual[r · stride + c] = ⌊(residual[r · stride + c] · multiplier[c] + value[r][c]) / 2⁸⌋`, saturated, where the values are what
/// [`requantize`] makes of the tile, for the first `channels` channels of every row that `residual` begins. What the tile is then means nothing.
///
/// Each channel of the residual stream has a unit of its own, that in which the next linear layer reads it; the multipliers, below 2¹⁵ where a
/// model was converted, bring them to the unit of the sum.
pub fn add_residual(
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    residual: &mut [i16],
    stride: usize,
) {
    requantize(tile, requantizer);
    let rows = tile.as_chunks::<16>().0.iter().take(requantizer.rows(tile));
    for (values, residual) in rows.zip(residual.chunks_mut(stride.max(1))) {
        for ((residual, &value), &multiplier) in residual.iter_mut().zip(values).zip(multiplier).take(channels) {
            let sum = value.saturating_add(i32::from(*residual).wrapping_mul(multiplier));
            *residual = saturate_to_i16(sum >> SUM_FRACTION_BITS);
        }
    }
}
