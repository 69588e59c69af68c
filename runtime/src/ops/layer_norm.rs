//! Layer norm over int16 rows: exact mean and variance, inverse square root by integer Newton steps.
//!
//! `out = (x − mean) / √(variance + ε) · γ + β`. The sums are exact; the only roundings are those of
//! [`fixed_point`](super::fixed_point). The result does not depend on the unit of the input, except through ε, which the
//! blob carries in that unit.
//!
//! Source: `torch.nn.LayerNorm`.

use super::fixed_point::{rounding_multiply_high, rounding_shift_right, saturate_i16, scale_by_power_of_two};

/// Fraction bits of the normalised value before γ: |x̂| ≤ √4096 leaves it below 2²⁸.
pub const NORMALIZED_FRACTION_BITS: u32 = 22;

/// The scale of one layer norm, in the units of its output: see [`layer_norm_i16`].
#[derive(Clone, Copy, Debug)]
pub struct LayerNormScale {
    /// ε · H² in squared units of the input; at least 1.
    pub epsilon: u64,
    /// Fraction bits that γ and β carry beyond the output's unit.
    pub shift: u32,
}

/// `2^(31 + e) / √value`, with `e = ⌊log₂(value) / 2⌋`, and `e`. The result lies in `2³⁰..2³¹`.
///
/// Relative error below 2⁻²⁷.
fn inverse_square_root(value: u64) -> (i32, u32) {
    let e = (63 - value.max(1).leading_zeros()) / 2;
    // v = value / 4^e in [1, 4), with 30 fraction bits.
    let v = (if e <= 15 { value << (30 - 2 * e) } else { value >> (2 * e - 30) }) as u32;
    // Newton's y ← y (3 − v y²) / 2 with 31 fraction bits, from the chord through both ends of the range, (7 − v) / 6. All factors have 32
    // bits, but for 3 − v y², whose 33rd is taken apart.
    let mut y = (1 << 30) + v.wrapping_neg() / 3;
    for _ in 0..5 {
        let y_squared = ((u64::from(y) * u64::from(y)) >> 31) as u32;
        let factor = (3 << 31) - ((u64::from(v) * u64::from(y_squared)) >> 30);
        let high = if factor >> 32 == 0 { 0 } else { y };
        y = high + ((u64::from(y) * u64::from(factor as u32)) >> 32) as u32;
    }
    (y.min(i32::MAX as u32) as i32, e)
}

/// What one row is normalised with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalizer {
    /// H, at most 4096.
    pub width: i32,
    /// Σ x.
    pub sum: i32,
    /// `2^(31 + e) / √(H² (variance + ε))`, in `2³⁰..2³¹`.
    pub inverse: i32,
    /// `e − (NORMALIZED_FRACTION_BITS + 1)`: deviations are divided by this power of two, and stay below 2³⁰.
    pub deviation_shift: i32,
    /// Fraction bits that γ and β carry beyond the output's unit.
    pub shift: u32,
}

impl Normalizer {
    /// From the [`sums`] of a row of `width` values.
    pub fn new(width: usize, (sum, sum_of_squares): (i32, i64), scale: LayerNormScale) -> Self {
        let variance = (width as i64 * sum_of_squares - i64::from(sum) * i64::from(sum)) as u64;
        let (inverse, e) = inverse_square_root(variance.saturating_add(scale.epsilon));
        // |H x − Σ x| ≤ √variance · √H < 2^(e + 7).
        let deviation_shift = e as i32 - (NORMALIZED_FRACTION_BITS as i32 + 1);
        Self { width: width as i32, sum, inverse, deviation_shift, shift: scale.shift }
    }
}

/// Σ x and Σ x² of a row of at most 4096 values.
#[inline(always)]
pub fn sums(row: &[i16]) -> (i32, i64) {
    row.iter().fold((0, 0), |(sum, squares), &x| (sum + i32::from(x), squares + i64::from(x) * i64::from(x)))
}

/// Normalises some channels of one row in place.
///
/// | argument     | shape | unit                                                                       |
/// |--------------|-------|----------------------------------------------------------------------------|
/// | `row`        | `[C]` | int16; in: any unit; out: the output's, saturated to ±32767                |
/// | `parameters` | `[C]` | γ · 2¹⁰ · 2^shift and β · 2^shift in units of the output, of the same channels |
pub fn normalize(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) {
    for (x, &[gamma, beta]) in row.iter_mut().zip(parameters) {
        let deviation =
            scale_by_power_of_two(normalizer.width * i32::from(*x) - normalizer.sum, normalizer.deviation_shift);
        let normalized = rounding_multiply_high(deviation, normalizer.inverse);
        let scaled = beta.wrapping_add(rounding_multiply_high(normalized, gamma));
        *x = saturate_i16(rounding_shift_right(scaled, normalizer.shift));
    }
}

/// Normalises one whole row in place: [`sums`], then [`normalize`].
pub fn layer_norm_i16(row: &mut [i16], parameters: impl Iterator<Item = (i32, i32)>, scale: LayerNormScale) {
    let normalizer = Normalizer::new(row.len(), sums(row), scale);
    for (x, (gamma, beta)) in row.iter_mut().zip(parameters) {
        normalize(core::slice::from_mut(x), &[[gamma, beta]], &normalizer);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn inverse_square_root_is_good_to_27_bits() {
        let mut value = 1u64;
        while value < 1 << 62 {
            for value in [value, value + value / 3, value * 2 - 1] {
                let (inverse, e) = inverse_square_root(value);
                let exact = libm::ldexp(1.0, 31 + e as i32) / libm::sqrt(value as f64);
                let error = (f64::from(inverse) / exact - 1.0).abs();
                assert!(error < 1.0 / f64::from(1 << 27), "{value}: {inverse} for {exact}");
            }
            value *= 2;
        }
    }

    #[test]
    fn row_equals_float_layer_norm_to_half_a_step() {
        let h = 768;
        let input: Vec<i16> = (0..h).map(|i| ((i * 7919) % 6007 - 3000) as i16).collect();
        let mean = input.iter().map(|&x| f64::from(x)).sum::<f64>() / f64::from(h);
        let variance = input.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / f64::from(h);
        let (gamma, beta, fraction_bits, shift) = (0.9, -0.25, 10, 8);
        let parameters = (
            libm::round(libm::ldexp(gamma, fraction_bits + 10 + shift)) as i32,
            libm::round(libm::ldexp(beta, fraction_bits + shift)) as i32,
        );
        let mut out = input.clone();
        let scale = LayerNormScale { epsilon: 1, shift: shift as u32 };
        layer_norm_i16(&mut out, core::iter::repeat(parameters), scale);
        for (&x, &y) in input.iter().zip(&out) {
            let exact = ((f64::from(x) - mean) / libm::sqrt(variance) * gamma + beta) * 1024.0;
            assert!((f64::from(y) - exact).abs() < 0.51, "{exact} became {y}");
        }
    }

    #[test]
    fn constant_row_becomes_beta() {
        let mut out = [-32767i16; 8];
        let scale = LayerNormScale { epsilon: 1, shift: 4 };
        layer_norm_i16(&mut out, core::iter::repeat((1 << 20, 80)), scale);
        assert_eq!(out, [5; 8]);
    }

    #[test]
    fn largest_row_does_not_overflow() {
        let mut out: Vec<i16> = (0..4096).map(|i| if i == 0 { 32767 } else { -32767 }).collect();
        let scale = LayerNormScale { epsilon: 1, shift: 0 };
        layer_norm_i16(&mut out, core::iter::repeat((100 << 10, 0)), scale);
        assert_eq!(out[0], 6399); // √4095 · 100
        assert_eq!(out[1], -2);
    }
}
