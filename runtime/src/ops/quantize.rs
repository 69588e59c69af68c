//! Dynamic quantisation of a row to int8: its own scale, taken from its largest magnitude.
//!
//! A row of int16 is multiplied by a whole number, `⌊127 · 2¹⁶ / A⌋`, and loses 16 bits: one multiplication of 16 bits a value. The scale of
//! the row is the reciprocal of that number, not of its largest magnitude A, so nothing is lost by rounding it.

use super::fixed_point::{divide_high, normalizing_shift, rounding_multiply_high, rounding_shift_right};

/// The scale of a row of int16 is that of the same row with so many fraction bits.
pub const ROW_SHIFT: u32 = 16;

/// What the values of a row of int16 are quantised with.
#[derive(Clone, Copy, Debug)]
pub struct Reciprocal {
    /// `⌊127 · 2¹⁶ / A⌋`: 254 to 127 · 2¹⁶, and below 2¹⁵ for an A of 256 or more.
    pub multiplier: i32,
}

impl Reciprocal {
    /// Half a step.
    pub const HALF: i32 = 1 << 15;
    /// From this magnitude on, the multiplier is an int16.
    pub const FIRST_OF_16_BITS: u32 = 256;

    /// For a row with this largest magnitude, 1 to 32768: 0 is taken as 1, and more as 32768.
    pub const fn new(largest: u32) -> Self {
        let largest = if largest == 0 {
            1
        } else if largest > 1 << 15 {
            1 << 15
        } else {
            largest
        };
        Self { multiplier: ((127 << 16) / largest) as i32 }
    }

    /// The magnitude that becomes exactly 127, with [`ROW_SHIFT`] fraction bits: `127 · 2³² / multiplier`, below 2³¹.
    pub const fn magnitude(self) -> i32 {
        let multiplier = self.multiplier as u32;
        let shift = multiplier.leading_zeros();
        let magnitude = divide_high(127 << shift, multiplier << shift);
        if magnitude > i32::MAX as u32 { i32::MAX } else { magnitude as i32 }
    }

    /// `⌊value · multiplier / 2¹⁶ + ½⌋`.
    #[inline(always)]
    pub const fn quantize(self, value: i16) -> i8 {
        ((value as i32 * self.multiplier + Self::HALF) >> 16) as i8
    }
}

/// The largest magnitude of a row, at most 32768.
pub fn largest_i16(row: &[i16]) -> u32 {
    row.iter().fold(0, |largest, value| largest.max(value.unsigned_abs().into()))
}

/// A row of int16 of which `largest` is the largest magnitude, as int8 −127..=127; values that are not there are 0. Returns the magnitude that 127
/// stands for, with [`ROW_SHIFT`] fraction bits: the scale of the row is `1/127` of it. 0 for a row of zeros.
pub fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
    if largest == 0 {
        out.fill(0);
        return 0;
    }
    let reciprocal = Reciprocal::new(largest);
    for (index, out) in out.iter_mut().enumerate() {
        *out = reciprocal.quantize(row.get(index).copied().unwrap_or(0));
    }
    reciprocal.magnitude()
}

/// What the values of a row of int32 are quantised with.
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

/// A row of the last hidden states through the smoothing multipliers of a head: `row[c] · smoothing[c]` as int8; returns their largest
/// magnitude. See [`quantize_row`].
pub fn quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32 {
    let value = |i: usize| match (row.get(i), smoothing.get(i)) {
        (Some(&value), Some(&multiplier)) => i32::from(value) * i32::from(multiplier),
        _ => 0,
    };
    quantize_row(out, value)
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
        assert_eq!(quantize_i16(&[0; 4], 0, &mut out), 0);
        assert_eq!(out, [0; 4]);
    }

    #[test]
    fn rows_of_int16_reach_127_and_are_within_half_a_step_of_their_scale() {
        for largest in (1..=32768).filter(|largest| largest % 97 < 3 || *largest < 600) {
            let row: [i16; 5] = [0, -largest, largest / 3, 1 - largest, largest.min(32767)].map(|value| value as i16);
            let mut out = [0i8; 5];
            let magnitude = quantize_i16(&row, largest_i16(&row), &mut out);
            assert_eq!(out[1], -127, "{largest}");
            for (&q, &value) in out.iter().zip(&row) {
                let exact = f64::from(value) * 127.0 * 65536.0 / f64::from(magnitude);
                assert!((f64::from(q) - exact).abs() <= 0.501, "{exact} became {q}");
            }
            let ratio = f64::from(magnitude) / 65536.0 / f64::from(largest);
            assert!((1.0..1.004).contains(&ratio) || largest == 32768, "{largest}: {ratio}");
        }
    }
}
