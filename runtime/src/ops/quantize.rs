//! Dynamic quantisation of a row to int8: its own scale, taken from its largest magnitude.

use super::fixed_point::{divide_high, normalizing_shift, rounding_multiply_high, rounding_shift_right};

/// int16 values are quantised as `value << ROW_SHIFT`, so that a row's magnitude uses the whole int32.
pub const ROW_SHIFT: u32 = 16;

/// What the values of a row are quantised with.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Left shift of a value.
    pub shift: u32,
    /// `127 · 2⁵⁴` divided by the shifted magnitude of the row; below 2³¹, because that magnitude is in `2³⁰..2³¹`.
    pub reciprocal: i32,
}

impl Steps {
    /// Fraction bits of the product of a shifted value and the reciprocal.
    pub const FRACTION_BITS: u32 = 22;

    /// For a row with this largest magnitude, which is above 0.
    pub const fn new(largest: i32) -> Self {
        let shift = normalizing_shift(largest);
        let magnitude = if largest > 0 { (largest as u32) << shift } else { 1 << 30 };
        Self { shift, reciprocal: divide_high(127 << 23, magnitude << 1) as i32 }
    }

    /// `round(value · 127 / largest)`.
    #[inline(always)]
    pub const fn quantize(self, value: i32) -> i8 {
        rounding_shift_right(rounding_multiply_high(value << self.shift, self.reciprocal), Self::FRACTION_BITS) as i8
    }
}

/// Quantises `out.len()` values to int8 −127..=127 and returns their largest magnitude A.
///
/// `out[i] = round(value(i) · 127 / A)`; the scale of the row is `A / 127` in the unit of the values.
/// A row of zeros gives zeros and A = 0. `value` is called twice for each index and must be pure;
/// every int32 is in its range.
pub fn quantize_row(out: &mut [i8], value: impl Fn(usize) -> i32) -> i32 {
    let largest = (0..out.len()).fold(0, |largest: i32, i| largest.max(value(i).saturating_abs()));
    if largest == 0 {
        out.fill(0);
        return 0;
    }
    let steps = Steps::new(largest);
    for (i, out) in out.iter_mut().enumerate() {
        *out = steps.quantize(value(i));
    }
    largest
}

/// A row of the residual stream through the smoothing multipliers of the next linear layer: `row[c] · smoothing[c]` as int8; returns
/// their largest magnitude. See [`quantize_row`].
pub fn quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32 {
    let value = |i: usize| match (row.get(i), smoothing.get(i)) {
        (Some(&value), Some(&multiplier)) => i32::from(value) * i32::from(multiplier),
        _ => 0,
    };
    quantize_row(out, value)
}

/// A row of int16 as int8; returns its largest magnitude in steps of `2^−`[`ROW_SHIFT`]. See [`quantize_row`].
pub fn quantize_i16(row: &[i16], out: &mut [i8]) -> i32 {
    quantize_row(out, |i| row.get(i).map_or(0, |&value| i32::from(value) << ROW_SHIFT))
}

/// A row of int32 as int8; returns its largest magnitude. See [`quantize_row`].
pub fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
    quantize_row(out, |i| row.get(i).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_magnitude_becomes_127() {
        for largest in [1, 2, 127, 128, 32767 << 16, i32::MAX] {
            let mut out = [0i8; 3];
            assert_eq!(quantize_row(&mut out, |i| [0, largest, -largest][i]), largest);
            assert_eq!(out, [0, 127, -127], "largest {largest}");
        }
    }

    #[test]
    fn the_most_negative_value_is_no_exception() {
        let mut out = [0i8; 2];
        assert_eq!(quantize_row(&mut out, |i| [i32::MIN, 1 << 30][i]), i32::MAX);
        assert_eq!(out, [-127, 64]);
    }

    #[test]
    fn every_value_is_within_half_a_step() {
        let value = |i: usize| (i as i32 - 5000) * 17;
        let mut out = [0i8; 10001];
        let largest = quantize_row(&mut out, value);
        for (i, &q) in out.iter().enumerate() {
            let exact = f64::from(value(i)) * 127.0 / f64::from(largest);
            assert!((f64::from(q) - exact).abs() <= 0.5001, "{exact} became {q}");
        }
    }

    #[test]
    fn row_of_zeros_stays_zero() {
        let mut out = [5i8; 4];
        assert_eq!(quantize_row(&mut out, |_| 0), 0);
        assert_eq!(out, [0; 4]);
    }
}
