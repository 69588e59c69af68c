//! A softmax over the whole vocabulary without keeping the logits: an exact, order-free sum of powers of two.
//!
//! A logit is turned into a power of two: `exp(l) = 2^(i + f)`. The mantissa `2^f` is added as an integer to the bin
//! of its exponent `i`. Integer sums do not depend on their order, so the result is the same in whatever pieces,
//! and on however many threads, the vocabulary is read. The 64 octaves below the largest logit are kept; what lies
//! lower is less than 2⁻⁴⁷ of the sum for any vocabulary the format allows.

use super::fixed_point::rounding_multiply_high;
use super::tables::EXP2_Q30;

/// Fraction bits of a logit.
pub const LOGIT_FRACTION_BITS: u32 = 16;
/// log₂e with 30 fraction bits.
const LOG2_E_Q30: i32 = 1_549_082_005;
/// Logits are cut to ±8000 before they are exponentiated, so that no sum overflows.
const LOGIT_LIMIT: i32 = 8000 << LOGIT_FRACTION_BITS;
const BINS: usize = 64;

/// The running sum `Σ exp(logit)`.
#[derive(Clone, Debug)]
pub struct LogSumExp {
    /// `bins[i mod 64]` sums the mantissas (30 fraction bits) of the exponent `i`, for the 64 exponents up to `top`.
    bins: [u64; BINS],
    top: i32,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { bins: [0; BINS], top: i32::MIN / 2 }
    }
}

/// `exp(logit)` as `mantissa · 2^(exponent − 30)`, mantissa in `2³⁰..2³¹`.
fn power(logit: i32) -> (i32, u32) {
    // 30 of the 32 bits of the product are taken back by the two bits that the shift adds.
    let exponent = rounding_multiply_high(logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) << 2, LOG2_E_Q30);
    let fraction = exponent & 0xffff;
    let step = (fraction >> 8) as usize;
    let (low, high) = (EXP2_Q30[step], EXP2_Q30[step + 1]);
    (exponent >> 16, low + (((high - low) * (fraction & 255) as u32 + 128) >> 8))
}

impl LogSumExp {
    /// Adds `exp(logit)`; the logit has 16 fraction bits.
    pub fn add(&mut self, logit: i32) {
        let (exponent, mantissa) = power(logit);
        if exponent > self.top {
            let stale = (exponent - self.top).min(BINS as i32);
            for i in 0..stale {
                self.bins[(exponent - i) as usize % BINS] = 0;
            }
            self.top = exponent;
        }
        if exponent > self.top - BINS as i32 {
            self.bins[exponent as usize % BINS] += u64::from(mantissa);
        }
    }

    /// Adds another sum, of other logits.
    pub fn merge(&mut self, other: &Self) {
        let (high, low) = if self.top >= other.top { (self.clone(), other) } else { (other.clone(), &*self) };
        let mut sum = high;
        for exponent in (sum.top - BINS as i32 + 1)..=low.top {
            sum.bins[exponent as usize % BINS] += low.bins[exponent as usize % BINS];
        }
        *self = sum;
    }

    /// `exp(logit) / Σ exp` as `numerator · 2^−shift / denominator`, exact but for the rounding of the powers.
    ///
    /// Before the first [`add`](Self::add) the denominator is 1 and the numerator 0.
    pub fn ratio(&self, logit: i32) -> Ratio {
        let (exponent, mantissa) = power(logit);
        let mut denominator = 0u64;
        for below in 0..BINS as i32 {
            denominator += self.bins[(self.top - below) as usize % BINS] >> below;
        }
        if denominator == 0 {
            return Ratio { numerator: 0, denominator: 1, shift: 0 };
        }
        // A logit that was never added may lie above all that were; it counts as if in their octave.
        let shift = (self.top - exponent).max(0) as u32;
        Ratio { numerator: mantissa, denominator, shift }
    }
}

/// A probability, as [`LogSumExp::ratio`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Below 2³².
    pub numerator: u32,
    /// Not 0.
    pub denominator: u64,
    /// How far the numerator is still to be shifted right.
    pub shift: u32,
}

impl Ratio {
    /// The probability with 31 fraction bits, rounded down.
    pub fn q31(self) -> u32 {
        let quotient = (u64::from(self.numerator) << 31) / self.denominator.max(1);
        (quotient >> self.shift.min(63)).min(1 << 31) as u32
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn logits() -> Vec<i32> {
        (0..1000i64).map(|i| ((i * 48271 % 65537 - 32768) * 40) as i32).collect()
    }

    #[test]
    fn probabilities_equal_float_softmax() {
        let logits = logits();
        let mut sum = LogSumExp::default();
        logits.iter().for_each(|&l| sum.add(l));
        let exact: f64 = logits.iter().map(|&l| libm::exp(f64::from(l) / 65536.0)).sum();
        for &logit in &logits {
            let p = libm::exp(f64::from(logit) / 65536.0) / exact;
            let Ratio { numerator, denominator, shift } = sum.ratio(logit);
            let ours = f64::from(numerator) / denominator as f64 * libm::ldexp(1.0, -(shift as i32));
            assert!((ours / p - 1.0).abs() < 1e-4, "{ours} for {p}");
            assert!((f64::from(sum.ratio(logit).q31()) / 2147483648.0 - p).abs() < 1e-4);
        }
    }

    #[test]
    fn sum_does_not_depend_on_order_or_pieces() {
        let logits = logits();
        let mut forwards = LogSumExp::default();
        logits.iter().for_each(|&l| forwards.add(l));
        let mut backwards = LogSumExp::default();
        logits.iter().rev().for_each(|&l| backwards.add(l));
        let (mut left, mut right) = (LogSumExp::default(), LogSumExp::default());
        logits[..300].iter().for_each(|&l| left.add(l));
        logits[300..].iter().for_each(|&l| right.add(l));
        left.merge(&right);
        for &l in &[logits[0], 0, 1 << 20] {
            assert_eq!(forwards.ratio(l), backwards.ratio(l));
            assert_eq!(forwards.ratio(l), left.ratio(l));
        }
    }

    #[test]
    fn octaves_far_below_the_largest_are_dropped_in_any_order() {
        let far: [i32; 3] = [100 << 16, 0, -100 << 16];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut sum = LogSumExp::default();
            order.iter().for_each(|&i: &usize| sum.add(far[i]));
            assert_eq!(sum.ratio(far[0]).q31(), 1 << 31);
            assert_eq!(sum.ratio(far[1]).q31(), 0);
        }
    }

    #[test]
    fn extreme_logits_do_not_overflow() {
        let mut sum = LogSumExp::default();
        sum.add(i32::MAX);
        sum.add(i32::MIN);
        assert_eq!(sum.ratio(i32::MAX).q31(), 1 << 31);
        assert_eq!(LogSumExp::default().ratio(0).q31(), 0);
    }
}
