//! Sixteen int32 in a register of AVX-512.

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::ops::tables::EXP2_U8;

/// Sixteen int32.
pub(super) type Lanes = __m512i;

/// Functions with the features of this file. They are inlined into others that have them.
macro_rules! lanes {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? $body
    )*};
}

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
        let lanes = max(min(lanes, splat(32767)), splat(-32767));
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(lanes)) }
    }

    /// Lanes of int8.
    pub(super) fn store_i8(lanes: Lanes, to: &mut [i8; 16]) {
        // SAFETY: 16 writable bytes; the store is unaligned.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(lanes)) }
    }

    /// Lanes of u8.
    pub(super) fn store_u8(lanes: Lanes, to: &mut [u8; 16]) {
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

    /// The larger, both taken as unsigned.
    pub(super) fn max_unsigned(a: Lanes, b: Lanes) -> Lanes {
        _mm512_max_epu32(a, b)
    }

    /// Unsigned.
    pub(super) fn magnitude(a: Lanes) -> Lanes {
        _mm512_abs_epi32(a)
    }

    /// `shift` is below 32.
    pub(super) fn shift_left(a: Lanes, shift: u32) -> Lanes {
        _mm512_sll_epi32(a, _mm_cvtsi32_si128(shift as i32))
    }

    /// Rounded down; `shift` is below 32.
    pub(super) fn shift_right(a: Lanes, shift: u32) -> Lanes {
        _mm512_sra_epi32(a, _mm_cvtsi32_si128(shift as i32))
    }

    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    pub(super) fn rounding_multiply_high(a: Lanes, b: Lanes) -> Lanes {
        let half = _mm512_set1_epi64(1 << 31);
        let even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        let (a, b) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
        let odd = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0x5555, even)
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

    /// Of the lanes, unsigned.
    pub(super) fn largest_unsigned(a: Lanes) -> u32 {
        _mm512_reduce_max_epu32(a)
    }

    /// Of the lanes.
    pub(super) fn largest(a: Lanes) -> i32 {
        _mm512_reduce_max_epi32(a)
    }

    /// Of the lanes.
    pub(super) fn sum(a: Lanes) -> i32 {
        _mm512_reduce_add_epi32(a)
    }

    /// Interpolates a table of 256 steps at magnitudes with 7 fraction bits; beyond the table, its last entry.
    pub(super) fn interpolate(table: &[i16; 257], magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let magnitudes = magnitudes.map(|magnitudes| min(magnitudes, splat(256 << 7)));
        // The end of the table is the end of its last step.
        let steps = magnitudes.map(|magnitudes| min(_mm512_srli_epi32::<7>(magnitudes), splat(255)));
        let both = _mm512_packus_epi32(steps[0], steps[1]);
        let (low, high) = (look_up(table, 0, both), look_up(table, 1, both));
        let (pairs, mut at) = ([_mm512_unpacklo_epi16(low, high), _mm512_unpackhi_epi16(low, high)], 0);
        magnitudes.map(|magnitude| {
            let fraction = sub(magnitude, _mm512_slli_epi32::<7>(steps[at]));
            // low · (128 − fraction) + high · fraction
            let weights = add(sub(splat(128), fraction), _mm512_slli_epi32::<16>(fraction));
            at += 1;
            _mm512_srai_epi32::<7>(add(_mm512_madd_epi16(pairs[at - 1], weights), splat(64)))
        })
    }

    /// Entries of a table, from `first` on, for indices below 256 in 16-bit lanes.
    fn look_up(table: &[i16; 257], first: usize, indices: __m512i) -> __m512i {
        let mut quarters = [_mm512_setzero_si512(); 4];
        for (quarter, entries) in quarters.iter_mut().zip(table[first..][..256].as_chunks::<64>().0) {
            // SAFETY: 64 entries are two vectors of 32; the loads are unaligned.
            let halves = unsafe {
                let entries = entries.as_ptr();
                [_mm512_loadu_si512(entries.cast()), _mm512_loadu_si512(entries.add(32).cast())]
            };
            *quarter = _mm512_permutex2var_epi16(halves[0], indices, halves[1]);
        }
        let odd = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(64));
        let upper = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(128));
        let low = _mm512_mask_blend_epi16(odd, quarters[0], quarters[1]);
        let high = _mm512_mask_blend_epi16(odd, quarters[2], quarters[3]);
        _mm512_mask_blend_epi16(upper, low, high)
    }

    /// `255 · 2^(−z / 256)`, rounded; `z ≥ 0`. See [`softmax`](crate::ops::softmax).
    pub(super) fn exp2_u8(z: Lanes) -> Lanes {
        // Two entries of the table in each 16-bit lane.
        let mut halves = [_mm512_setzero_si512(); 2];
        let words = _mm512_srli_epi32::<1>(_mm512_and_si512(z, splat(255)));
        for (half, entries) in halves.iter_mut().zip(EXP2_U8.as_chunks::<128>().0) {
            // SAFETY: 128 entries are two vectors of 64; the loads are unaligned.
            let quarters = unsafe {
                let entries = entries.as_ptr();
                [_mm512_loadu_si512(entries.cast()), _mm512_loadu_si512(entries.add(64).cast())]
            };
            *half = _mm512_permutex2var_epi16(quarters[0], words, quarters[1]);
        }
        let pairs = _mm512_mask_blend_epi32(_mm512_test_epi32_mask(z, splat(128)), halves[0], halves[1]);
        let odd = _mm512_slli_epi32::<3>(_mm512_and_si512(z, splat(1)));
        let mantissa = _mm512_and_si512(_mm512_srlv_epi32(pairs, odd), splat(255));
        // Shifts of 9 and more give 0.
        let octaves = _mm512_srli_epi32::<8>(z);
        _mm512_srli_epi32::<1>(add(_mm512_srlv_epi32(add(mantissa, mantissa), octaves), splat(1)))
    }
}
