//! Softmax over attention scores, in integers, without its division.
//!
//! A row of scores is shifted by its maximum and exponentiated in base 2: eight fraction bits through a
//! table, the integer part by a rounding shift. What comes out is u8 with 255 = 1; the caller divides
//! the sum of weighted values once by the sum of the row, so the probabilities of a row add up to exactly 1.
//!
//! Source: `torch.softmax`.

use super::fixed_point::{
    accumulator_shift, normalizing_shift, rounding_multiply_high, rounding_shift_right, scale_by_power_of_two,
};
use super::tables::EXP2_U8;

/// What a layer's scores are multiplied with: `256 · log₂e / √head_dim · unit_q · unit_k / 127²` as `multiplier · 2^−exponent`.
///
/// The units are those of the magnitudes that `quantize_row` returned for the query and key rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftmaxScale {
    /// In `2³⁰..2³¹`.
    pub multiplier: i32,
    /// See above.
    pub exponent: i32,
}

/// How one row of scores becomes exponents, for [`softmax_row`].
#[derive(Clone, Copy, Debug)]
pub struct RowScale {
    /// What the distance from the largest score is multiplied with; not negative.
    pub multiplier: i32,
    /// Power of two that the product is divided by; where it is negative, the distance is shifted left first.
    pub shift: i32,
    /// Left shift of a score, which stays below 2³¹.
    pub accumulator_shift: u32,
}

impl SoftmaxScale {
    /// The scale of a query row of magnitude `query`, against keys whose magnitudes were shifted left by `key_shift`.
    pub fn row(self, query: i32, key_shift: u32, head_dim: usize) -> RowScale {
        let query_shift = normalizing_shift(query);
        let accumulator_shift = accumulator_shift(head_dim);
        RowScale {
            multiplier: rounding_multiply_high(query << query_shift, self.multiplier),
            // z = rmh(d, multiplier) · 2^−shift; each high half taken has divided by 2³².
            shift: accumulator_shift as i32 + key_shift as i32 + query_shift as i32 + self.exponent - 96,
            accumulator_shift,
        }
    }
}

impl RowScale {
    /// A score in the unit of its row; below 2³⁰.
    #[inline(always)]
    pub const fn score(self, sum: i32, key: i32) -> i32 {
        rounding_multiply_high(sum << self.accumulator_shift, key)
    }

    /// The probability of a score this far below the largest; the distance is not negative.
    #[inline(always)]
    pub fn probability(self, distance: i32) -> u8 {
        // Two steps where the multiplier is above 1: shift first, then multiply.
        let distance = scale_by_power_of_two(distance, self.shift.min(0));
        exp2_u8(scale_by_power_of_two(rounding_multiply_high(distance, self.multiplier), self.shift.max(0)))
    }
}

/// One row of softmax: `out[n] = 255 · exp(score[n] − max)`, rounded; returns the sum of the row, 255 at least.
///
/// | argument | shape | unit                                                       |
/// |----------|-------|------------------------------------------------------------|
/// | `scores` | `[N]` | int32 sums of q · k; overwritten                           |
/// | `keys`   | `[N]` | magnitudes of the key rows, normalised together, below 2³¹ |
/// | `out`    | `[N]` | u8, 255 = 1                                                |
pub fn softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
    let mut largest = i32::MIN;
    for (score, &key) in scores.iter_mut().zip(keys) {
        *score = scale.score(*score, key);
        largest = largest.max(*score);
    }
    let mut sum = 0;
    for (&score, out) in scores.iter().zip(out) {
        // |score| < 2³⁰, so the difference fits.
        *out = scale.probability(largest - score);
        sum += u32::from(*out);
    }
    sum
}

/// `255 · 2^(−z / 256)`, rounded, for every z below N: for kernels that look it up. From `9 · 256` on it is 0.
#[allow(dead_code)] // Not every instruction set looks up.
pub(crate) const fn exp2_table<const N: usize>() -> [u8; N] {
    let mut table = [0; N];
    let mut z = 0;
    while z < N && z < 9 << 8 {
        table[z] = rounding_shift_right(EXP2_U8[z & 255] as i32, z as u32 >> 8) as u8;
        z += 1;
    }
    table
}

/// `255 · 2^(−z / 256)`, rounded; `z ≥ 0`.
#[inline(always)]
fn exp2_u8(z: i32) -> u8 {
    rounding_shift_right(i32::from(EXP2_U8[(z & 255) as usize]), (z >> 8).min(9) as u32) as u8
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Units chosen so that a score of `q · k` counts as `q · k · unit` before the softmax.
    fn scale(unit: f64) -> SoftmaxScale {
        let exact = 256.0 * core::f64::consts::LOG2_E * unit;
        let exponent = 30 - libm::floor(libm::log2(exact)) as i32;
        SoftmaxScale { multiplier: libm::round(libm::ldexp(exact, exponent)) as i32, exponent }
    }

    #[test]
    fn row_is_within_one_and_a_half_steps_of_float() {
        let mut scores: Vec<i32> = (0..128).map(|i| (i * 7919) % 30011 - 15000).collect();
        let (query, key) = (1 << 18, 3 << 19);
        let unit = 1.0 / (f64::from(query) * f64::from(key)) / 4000.0;
        let exact: Vec<f64> = scores.iter().map(|&s| libm::exp((f64::from(s) - 15010.0) / 4000.0)).collect();
        let largest = exact.iter().copied().fold(0.0, f64::max);
        let key_shift = normalizing_shift(key);
        let mut out = [0u8; 128];
        let row = scale(unit).row(query, key_shift, 64);
        let sum = softmax_row(&mut scores, &[key << key_shift; 128], row, &mut out);
        for (&p, exact) in out.iter().zip(exact) {
            assert!((f64::from(p) - 255.0 * exact / largest).abs() < 1.5);
        }
        assert_eq!(sum, out.iter().map(|&p| u32::from(p)).sum::<u32>());
    }

    #[test]
    fn row_of_equal_scores_becomes_uniform() {
        let mut out = [0u8; 5];
        let sum = softmax_row(&mut [1000; 5], &[1 << 30; 5], scale(1e-9).row(77, 3, 64), &mut out);
        assert_eq!((out, sum), ([255; 5], 1275));
    }

    #[test]
    fn zero_query_becomes_uniform_and_huge_scores_become_one_hot() {
        let mut out = [0u8; 3];
        softmax_row(&mut [5, -7, 900], &[1 << 30; 3], scale(1e-9).row(0, 0, 64), &mut out);
        assert_eq!(out, [255; 3]);
        softmax_row(&mut [5, -7, 900_000], &[1 << 30; 3], scale(1e30).row(1 << 20, 0, 64), &mut out);
        assert_eq!(out, [0, 0, 255]);
    }
}
