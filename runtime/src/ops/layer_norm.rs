//! Layer norm over int16 rows: exact mean and variance, inverse square root by integer Newton steps.
//!
//! `out = (x − mean) / √(variance + ε) · γ + β`. The sums are exact, and a value takes two multiplications, `x · (1 / √…) − mean · (1 / √…)` and
//! then `· γ + β`, each of which is one instruction of a Cortex-M4: the first loses 16 bits and leaves 13 fraction bits, the second loses
//! none, and its 15 fraction bits go when the value is saturated to int16. What would round them, half a step, is in β.
//! The result does not depend on the unit of the input, except through ε, which the blob carries in that unit.
//!
//! Source: `torch.nn.LayerNorm`.

use super::fixed_point::saturate_to_i16;

/// Fraction bits of the normalised value before γ: |x̂| ≤ √4096 leaves it below 2²⁰. Where one
/// channel is far larger than all others, these are a tenth of a standard deviation, and 10 bits would cost them 1 % of their value.
pub const NORMALIZED_FRACTION_BITS: u32 = 13;
/// Fraction bits of the sum of the scaled value and β.
pub const SCALED_FRACTION_BITS: u32 = 15;

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
    /// `2²⁹ / √(variance + ε)`: not negative.
    pub inverse: i32,
    /// `−mean · 2¹³ / √(variance + ε)`.
    pub offset: i32,
}

impl Normalizer {
    /// From the [`sums`] of a row of `width` values, at most 4096; `epsilon` is ε · H² in squared units of the input, at least 1.
    ///
    /// A standard deviation below ¼ counts as ¼.
    pub fn new(width: usize, (sum, sum_of_squares): (i32, i64), epsilon: u64) -> Self {
        let variance = (width as i64 * sum_of_squares - i64::from(sum) * i64::from(sum)) as u64;
        let least = (width * width) as u64 >> 4;
        // 2^(31 + e) / (H · √(variance + ε))
        let (inverse, e) = inverse_square_root(variance.saturating_add(epsilon).max(least));
        let of_width = (width as u64 * inverse as u64) >> (31 + e - (NORMALIZED_FRACTION_BITS + 16));
        let of_sum = (i64::from(sum) * i64::from(inverse)) >> (31 + e - NORMALIZED_FRACTION_BITS);
        Self { inverse: of_width.min(i32::MAX as u64) as i32, offset: -of_sum as i32 }
    }

    /// `⌊x · inverse / 2¹⁶⌋ + offset`: `(x − mean) / √(variance + ε)`, 13 fraction bits.
    #[inline(always)]
    const fn normalize(self, x: i16) -> i32 {
        // Both halves of the word, so that no product is longer than one.
        let (high, low) = (self.inverse >> 16, self.inverse & 0xffff);
        (x as i32 * high + ((x as i32 * low) >> 16)).wrapping_add(self.offset)
    }
}

/// Σ x and Σ x² of a row of at most 4096 values.
#[inline(always)]
pub fn sums(row: &[i16]) -> (i32, i64) {
    row.iter().fold((0, 0), |(sum, squares), &x| (sum + i32::from(x), squares + i64::from(x) * i64::from(x)))
}

/// Normalises some channels of one row in place; returns their largest magnitude.
///
/// | argument     | shape | unit                                                                          |
/// |--------------|-------|-------------------------------------------------------------------------------|
/// | `row`        | `[C]` | int16; in: any unit; out: the output's, saturated                             |
/// | `parameters` | `[C]` | `γ · 2²` and `β · 2¹⁵ + 2¹⁴` in units of the output, of the same channels     |
///
/// Wraps where γ and β are so large that |x̂| ≤ √H leads out of int32.
pub fn normalize(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
    let mut largest = 0;
    for (x, &[gamma, beta]) in row.iter_mut().zip(parameters) {
        let scaled = normalizer.normalize(*x).wrapping_mul(gamma).wrapping_add(beta);
        *x = saturate_to_i16(scaled >> SCALED_FRACTION_BITS);
        largest = largest.max(x.unsigned_abs());
    }
    largest.into()
}

/// Normalises one whole row in place: [`sums`], then [`normalize`].
pub fn layer_norm_i16(row: &mut [i16], parameters: impl Iterator<Item = (i32, i32)>, epsilon: u64) {
    let normalizer = Normalizer::new(row.len(), sums(row), epsilon);
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

    /// γ and β as the blob has them, for an output with so many fraction bits.
    fn parameters(gamma: f64, beta: f64, fraction_bits: i32) -> (i32, i32) {
        (
            libm::round(libm::ldexp(gamma, fraction_bits + 2)) as i32,
            libm::round(libm::ldexp(beta, fraction_bits + 15)) as i32 + (1 << 14),
        )
    }

    #[test]
    fn row_equals_float_layer_norm_to_half_a_step_and_one_of_the_normalised_value() {
        let h = 768;
        let input: Vec<i16> = (0..h).map(|i| ((i * 7919) % 6007 - 3000) as i16).collect();
        let mean = input.iter().map(|&x| f64::from(x)).sum::<f64>() / f64::from(h);
        let variance = input.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / f64::from(h);
        // Whole numbers of steps of the parameters.
        let (gamma, beta) = (0.875, -0.25);
        let mut out = input.clone();
        layer_norm_i16(&mut out, core::iter::repeat(parameters(gamma, beta, 10)), 1);
        for (&x, &y) in input.iter().zip(&out) {
            let exact = ((f64::from(x) - mean) / libm::sqrt(variance) * gamma + beta) * 1024.0;
            // Half a step, and one of x̂, which has three fraction bits more.
            assert!((f64::from(y) - exact).abs() < 0.51 + gamma / 8.0, "{exact} became {y}");
        }
    }

    #[test]
    fn constant_row_becomes_beta() {
        for value in [-32768, -3, 0, 32767] {
            let mut out = [value; 8];
            layer_norm_i16(&mut out, core::iter::repeat(parameters(1.0, 5.0, 0)), 1);
            assert_eq!(out, [5; 8]);
        }
    }

    #[test]
    fn largest_row_does_not_overflow() {
        let mut out: Vec<i16> = (0..4096).map(|i| if i == 0 { 32767 } else { -32768 }).collect();
        layer_norm_i16(&mut out, core::iter::repeat(parameters(100.0, 0.0, 0)), 1);
        assert_eq!(out[0], 6399); // √4095 · 100
        assert_eq!(out[1], -2);
    }
}
