//! The one rounding rule: to nearest, ties towards +∞. Every requantisation is made of these two operations; where a row of int16 is made of
//! a sum of products that are exact, half a step is added beforehand and the sum is cut, which is the same. What has bits to spare, the
//! normalised value inside of a layer norm and the inverse square root, is cut.
//!
//! Three rules were written out as the epilogue of a linear layer (row multiplier, bias,
//! channel multiplier), checked to the bit against a plain loop, and counted in instructions per output, loads, store and loop
//! included:
//!
//! | rule                                     | Helium | AVX2 | Cortex-M4 | Cortex-M3 | RV32IMAC |
//! |------------------------------------------|--------|------|-----------|-----------|----------|
//! | 64-bit product, one rounding shift       | 4.03   | 3.75 | 15.0      | 15.0      | 28.1     |
//! | the same, shifts of 33 and more          | 2.53   | 2.75 | 12.0      | 12.0      | 16.0     |
//! | **high half, rounded** (this one)        | 2.27   | 2.88 | 9.0       | 12.0      | 19.0     |
//! | doubled high half, saturating            | 2.27   | 3.13 | 14.0      | 14.0      | 25.0     |
//!
//! The high half is one instruction on Helium (`VRMULH.S32`) and Cortex-M4/M7/M33 (`SMMULR`; `SMMLAR` adds the bias for free).
//! On AVX2 it is `vpmuldq` + `vpaddq` on even and odd lanes. It cannot overflow for any pair of int32.
//!
//! A multiplier is an int32 below 2³¹. What a free shift would express, the converter expresses in the *unit* of the
//! value, so that no lane needs a shift of its own.

/// `⌊(a · b + 2³¹) / 2³²⌋`: the high half of the 64-bit product, rounded to nearest, ties towards +∞.
#[inline(always)]
pub const fn rounding_multiply_high(a: i32, b: i32) -> i32 {
    ((a as i64 * b as i64 + (1 << 31)) >> 32) as i32
}

/// `⌊(value + 2^(shift − 1)) / 2^shift⌋`, ties towards +∞; `value` itself for a shift of 0. No overflow for any value.
///
/// `shift` is 0 to 31; more is taken as 31.
#[inline(always)]
pub const fn rounding_shift_right(value: i32, shift: u32) -> i32 {
    let shift = if shift > 31 { 31 } else { shift };
    if shift == 0 { value } else { (value >> shift) + ((value >> (shift - 1)) & 1) }
}

/// `value · 2^−shift`: a rounding shift right, or for a negative `shift` a saturating shift left.
#[inline(always)]
pub const fn scale_by_power_of_two(value: i32, shift: i32) -> i32 {
    if shift >= 0 {
        rounding_shift_right(value, shift as u32)
    } else {
        value.saturating_mul(if shift < -30 { 1 << 30 } else { 1 << -shift })
    }
}

/// The left shift that brings a positive int32 into `2³⁰..2³¹`; 0 for 0.
#[inline(always)]
pub const fn normalizing_shift(value: i32) -> u32 {
    if value <= 0 { 0 } else { value.leading_zeros() - 1 }
}

/// `⌊high · 2³² / divisor⌋`, for a divisor of 32 bits, the highest set, and a `high` below it: two digits of 16 bits, since few small
/// cores divide 64 bits.
///
/// Source: Knuth, The Art of Computer Programming, volume 2, 4.3.1, algorithm D.
#[inline(always)]
pub(crate) const fn divide_high(high: u32, divisor: u32) -> u32 {
    // Its highest bit, said again, so that nothing has to be done for a divisor of 0.
    let (upper, lower) = (divisor >> 16 | 1 << 15, divisor & 0xffff);
    let mut remainder = high;
    let mut quotient = 0;
    let mut digits = 0;
    while digits < 2 {
        // At most two too large.
        let mut digit = remainder / upper;
        let mut left = remainder - digit * upper;
        while left < 1 << 16 && (digit > 0xffff || digit * lower > left << 16) {
            digit -= 1;
            left += upper;
        }
        remainder = (remainder << 16).wrapping_sub(digit.wrapping_mul(divisor));
        quotient = (quotient << 16) + digit;
        digits += 1;
    }
    quotient
}

/// The left shift that keeps any sum of `k` products of int8 values (−127..=127) below 2³¹.
///
/// Accumulators are shifted by it before they are multiplied, so that the high half keeps their low bits.
#[inline(always)]
pub const fn accumulator_shift(k: usize) -> u32 {
    normalizing_shift((k * 127 * 127) as i32)
}

/// Saturates to the whole of int16, as one instruction of most cores does.
#[inline(always)]
pub const fn saturate_to_i16(value: i32) -> i16 {
    if value > 32767 {
        32767
    } else if value < -32768 {
        -32768
    } else {
        value as i16
    }
}

/// Saturates to −32767..=32767: symmetric, so that a magnitude never overflows.
#[inline(always)]
pub const fn saturate_i16(value: i32) -> i16 {
    if value > 32767 {
        32767
    } else if value < -32767 {
        -32767
    } else {
        value as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_round_towards_plus_infinity() {
        assert_eq!(rounding_multiply_high(1 << 30, 2), 1);
        assert_eq!(rounding_multiply_high(-(1 << 30), 2), 0);
        assert_eq!(rounding_shift_right(3, 1), 2);
        assert_eq!(rounding_shift_right(-3, 1), -1);
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(rounding_multiply_high(i32::MIN, i32::MIN), 1 << 30);
        assert_eq!(rounding_multiply_high(i32::MAX, i32::MAX), (1 << 30) - 1);
        assert_eq!(rounding_shift_right(i32::MAX, 1), 1 << 30);
        assert_eq!(rounding_shift_right(i32::MAX, 99), 1);
        assert_eq!(scale_by_power_of_two(3, -40), i32::MAX);
        assert_eq!(scale_by_power_of_two(-3, 1), -1);
        assert_eq!(saturate_i16(i32::MIN), -32767);
    }

    #[test]
    fn division_is_that_of_64_bits() {
        let ends = [1 << 31, (1 << 31) + 1, 0x8000_ffff, 0x8001_0000, 0xfffe_0001, 127 << 25, u32::MAX];
        let many = (0..200_000u32).map(|i| (1 << 31) | i.wrapping_mul(2_654_435_761));
        for divisor in ends.into_iter().chain(many) {
            for high in [0, 0x1_0000, 127 << 23, 1 << 30, divisor - 1] {
                let exact = (u64::from(high) << 32) / u64::from(divisor);
                assert_eq!(u64::from(divide_high(high, divisor)), exact, "{high} / {divisor}");
            }
        }
    }

    #[test]
    fn accumulator_shift_uses_all_but_the_sign_bit() {
        for k in [1, 64, 256, 768, 3072, 16384] {
            let peak = (k as i64 * 127 * 127) << accumulator_shift(k);
            assert!((1 << 30..1 << 31).contains(&peak), "k {k}");
        }
    }
}
