//! Sixteen int32 in a register of AVX-512.

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::lanes_avx2::HALVES;
use crate::ops::tables::EXP2_U8;

/// Sixteen int32.
pub(super) type Lanes = __m512i;

pub(super) use super::lanes_avx2::{Bytes, add_bytes, load_bytes, store_bytes, total};

/// A table of 256 steps.
pub(super) struct Table {
    starts: [__m512i; 8],
    rises: [__m512i; 8],
}

/// Functions with the features of this file. They are inlined into others that have them.
macro_rules! lanes {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? $body
    )*};
}

crate::kernels::lanes_default::defaults!("avx512f,avx512bw,avx512vl,avx512vnni");

lanes! {
    pub(super) fn load(from: &[i32; 16]) -> Lanes {
        // SAFETY: 64 readable bytes; the load is unaligned.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    pub(super) fn load_i16(from: &[i16; 16]) -> Lanes {
        // SAFETY: 32 readable bytes; the load is unaligned.
        _mm512_cvtepi16_epi32(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    /// Sixteen pairs, as two vectors.
    pub(super) fn load_pairs(from: &[[i32; 2]; 16]) -> [Lanes; 2] {
        let from = from.as_ptr();
        // SAFETY: 128 readable bytes; the loads are unaligned.
        let (low, high) = unsafe { (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(8).cast())) };
        let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        let odd = _mm512_or_si512(even, splat(1));
        [_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)]
    }

    pub(super) fn store(lanes: Lanes, to: &mut [i32; 16]) {
        // SAFETY: 64 writable bytes; the store is unaligned.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), lanes) }
    }

    /// Saturated to ±32767.
    pub(super) fn store_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let lanes = _mm256_max_epi16(_mm512_cvtsepi32_epi16(lanes), _mm256_set1_epi16(-32767));
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), lanes) }
    }

    /// Saturated.
    pub(super) fn store_saturated_i16(lanes: Lanes, to: &mut [i16; 16]) {
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi16(lanes)) }
    }

    /// Lanes of int8.
    pub(super) fn store_i8(lanes: Lanes, to: &mut [i8; 16]) {
        // SAFETY: 16 writable bytes; the store is unaligned.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(lanes)) }
    }

    pub(super) fn splat(value: i32) -> Lanes {
        _mm512_set1_epi32(value)
    }

    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        _mm512_add_epi32(a, b)
    }

    pub(super) fn sub(a: Lanes, b: Lanes) -> Lanes {
        _mm512_sub_epi32(a, b)
    }

    pub(super) fn multiply(a: Lanes, b: Lanes) -> Lanes {
        _mm512_mullo_epi32(a, b)
    }

    pub(super) fn min(a: Lanes, b: Lanes) -> Lanes {
        _mm512_min_epi32(a, b)
    }

    pub(super) fn max(a: Lanes, b: Lanes) -> Lanes {
        _mm512_max_epi32(a, b)
    }

    /// Unsigned.
    pub(super) fn magnitude(a: Lanes) -> Lanes {
        _mm512_abs_epi32(a)
    }

    /// `shift` is below 32.
    pub(super) fn shift_left(a: Lanes, shift: u32) -> Lanes {
        _mm512_sllv_epi32(a, splat(shift as i32))
    }

    /// Rounded down; `shift` is below 32.
    pub(super) fn shift_right(a: Lanes, shift: u32) -> Lanes {
        _mm512_srav_epi32(a, splat(shift as i32))
    }

    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    pub(super) fn rounding_multiply_high(a: Lanes, b: Lanes) -> Lanes {
        let half = _mm512_set1_epi64(1 << 31);
        let even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        let (a, b) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
        let odd = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0x5555, even)
    }

    /// `rounding_multiply_high` and then `rounding_shift_right` by `shift`, below 31, in one rounding: half of each step is added at once.
    pub(super) fn rounding_multiply_shift(a: Lanes, b: Lanes, shift: u32) -> Lanes {
        let half = _mm512_set1_epi64(HALVES[shift as usize & 31]);
        let even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        let (a, b) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
        let odd = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        shift_right(_mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0x5555, even), shift)
    }

    /// Saturating.
    pub(super) fn add_saturating(a: Lanes, b: Lanes) -> Lanes {
        let sum = add(a, b);
        // Both have one sign, and the sum the other: (a ^ sum) & (b ^ sum).
        let overflow = _mm512_cmplt_epi32_mask(_mm512_ternarylogic_epi32::<0b0100_0010>(a, b, sum), splat(0));
        _mm512_mask_xor_epi32(sum, overflow, _mm512_srai_epi32::<31>(sum), splat(i32::MIN))
    }

    /// Saturating; `shift` is below 32.
    pub(super) fn shift_left_saturating(a: Lanes, shift: u32) -> Lanes {
        let shifted = shift_left(a, shift);
        let overflow = _mm512_cmpneq_epi32_mask(shift_right(shifted, shift), a);
        _mm512_mask_xor_epi32(shifted, overflow, _mm512_srai_epi32::<31>(a), splat(i32::MAX))
    }

    /// The largest lane, in every lane.
    pub(super) fn largest(a: Lanes) -> Lanes {
        let a = max(a, _mm512_shuffle_i64x2::<0b01_00_11_10>(a, a));
        let a = max(a, _mm512_shuffle_i64x2::<0b10_11_00_01>(a, a));
        let a = max(a, _mm512_shuffle_epi32::<0b01_00_11_10>(a));
        max(a, _mm512_shuffle_epi32::<0b10_11_00_01>(a))
    }

    /// A table of 256 steps, ready to be looked up: its last step is flat, and neighbours differ by less than 2¹⁵.
    pub(super) fn table(entries: &[i16; 257]) -> Table {
        let mut table = Table { starts: [splat(0); 8], rises: [splat(0); 8] };
        for (i, (start, rise)) in table.starts.iter_mut().zip(&mut table.rises).enumerate() {
            // SAFETY: entries 32 i to 32 i + 32 of 257; the loads are unaligned.
            let end = unsafe {
                let entries = entries.as_ptr().add(32 * i);
                *start = _mm512_loadu_si512(entries.cast());
                _mm512_loadu_si512(entries.add(1).cast())
            };
            *rise = _mm512_sub_epi16(end, *start);
        }
        table
    }

    /// Interpolates a table at magnitudes with 7 fraction bits, unsigned; beyond the table, its last entry.
    pub(super) fn interpolate(table: &Table, magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let most = splat((256 << 7) - 1);
        let [a, b] = [_mm512_min_epu32(magnitudes[0], most), _mm512_min_epu32(magnitudes[1], most)];
        let steps = _mm512_packus_epi32(_mm512_srli_epi32::<7>(a), _mm512_srli_epi32::<7>(b));
        let upper = [
            _mm512_test_epi16_mask(steps, _mm512_set1_epi16(64)),
            _mm512_test_epi16_mask(steps, _mm512_set1_epi16(128)),
        ];
        let (start, rise) = (look_up(&table.starts, steps, upper), look_up(&table.rises, steps, upper));
        [
            interpolated(a, _mm512_unpacklo_epi16(start, rise)),
            interpolated(b, _mm512_unpackhi_epi16(start, rise)),
        ]
    }

    /// Entries for indices in 16-bit lanes, whose bits 6 and 7 are the masks.
    fn look_up(entries: &[__m512i; 8], indices: __m512i, upper: [__mmask32; 2]) -> __m512i {
        let [a, b, c, d, e, f, g, h] = *entries;
        let ab = _mm512_permutex2var_epi16(a, indices, b);
        let cd = _mm512_permutex2var_epi16(c, indices, d);
        let ef = _mm512_permutex2var_epi16(e, indices, f);
        let gh = _mm512_permutex2var_epi16(g, indices, h);
        let low = _mm512_mask_blend_epi16(upper[0], ab, cd);
        let high = _mm512_mask_blend_epi16(upper[0], ef, gh);
        _mm512_mask_blend_epi16(upper[1], low, high)
    }

    /// Within a step: start · 128 + rise · fraction, rounded.
    fn interpolated(magnitude: Lanes, start_and_rise: __m512i) -> Lanes {
        // 128 below the fraction: (magnitude << 16 & 127 << 16) | 128.
        let weights = _mm512_ternarylogic_epi32::<0b1111_1000>(
            splat(128),
            _mm512_slli_epi32::<16>(magnitude),
            splat(127 << 16),
        );
        _mm512_srai_epi32::<7>(_mm512_dpwssd_epi32(splat(64), start_and_rise, weights))
    }

    /// `255 · 2^(−z / 256)`, rounded, of two vectors; `z ≥ 0`. See [`softmax`](crate::ops::softmax).
    pub(super) fn exp2_u8(z: [Lanes; 2]) -> Bytes {
        let [a, b] = z;
        // Ten octaves down, all is 0.
        let z = _mm512_packus_epi32(min(a, splat(10 << 8)), min(b, splat(10 << 8)));
        // Two entries of the table in each 16-bit lane.
        let pairs = _mm512_srli_epi16::<1>(z);
        // SAFETY: 256 readable bytes; the loads are unaligned.
        let [a, b, c, d] =
            core::array::from_fn(|i| unsafe { _mm512_loadu_si512(EXP2_U8.as_ptr().add(64 * i).cast()) });
        let pairs = _mm512_mask_blend_epi16(
            _mm512_test_epi16_mask(z, _mm512_set1_epi16(128)),
            _mm512_permutex2var_epi16(a, pairs, b),
            _mm512_permutex2var_epi16(c, pairs, d),
        );
        let odd = _mm512_test_epi16_mask(z, _mm512_set1_epi16(1));
        let mantissa = _mm512_and_si512(pairs, _mm512_set1_epi16(255));
        let mantissa = _mm512_mask_srli_epi16::<8>(mantissa, odd, pairs);
        // At most 10; that it is below 16, the compiler would test where it were not to see.
        let octaves = _mm512_and_si512(_mm512_srli_epi16::<8>(z), _mm512_set1_epi16(15));
        let shifted = _mm512_srlv_epi16(_mm512_slli_epi16::<1>(mantissa), octaves);
        let rounded = _mm512_avg_epu16(shifted, _mm512_setzero_si512());
        // Each 128-bit lane has four of the first vector, then four of the second.
        let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        _mm256_permutevar8x32_epi32(_mm512_cvtepi16_epi8(rounded), order)
    }
}
