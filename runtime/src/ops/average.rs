//! Sums of values weighted by probabilities, divided by the sum of the probabilities.

use super::fixed_point::{divide_high, rounding_multiply_high, saturate_i16};

/// Divides weighted sums of int8 values by the sum of their u8 weights.
#[derive(Clone, Copy, Debug)]
pub struct Divisor {
    /// Left shift of a weighted sum, which stays below 2³¹.
    pub shift: u32,
    /// What the shifted sum is multiplied with.
    pub reciprocal: i32,
}

impl Divisor {
    /// `sum` is 255 to 255 · 4096, as [`softmax_row`](super::softmax::softmax_row) returns it.
    pub fn new(sum: u32) -> Self {
        // The sum is brought to 2²³..2²⁴; a weighted sum is at most 127 times as large, and stays below 2³¹.
        let sum = sum.max(1);
        let shift = sum.leading_zeros().saturating_sub(8);
        let reciprocal = divide_high(1 << 30, sum << sum.leading_zeros()).min(i32::MAX as u32) as i32;
        Self { shift, reciprocal }
    }

    /// `2²⁴ · weighted / sum`, below 2³¹ because a weighted average of int8 values is.
    #[inline(always)]
    fn divide(self, weighted: i32) -> i32 {
        rounding_multiply_high(weighted << self.shift, self.reciprocal) << 2
    }
}

/// One row of context: `out[c] = rmh(2²⁴ · weighted[c] / sum, scales[c])`, saturated.
pub fn average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]) {
    for ((out, &weighted), &scale) in out.iter_mut().zip(weighted).zip(scales) {
        *out = saturate_i16(rounding_multiply_high(divisor.divide(weighted), scale));
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
