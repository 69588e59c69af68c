//! Sixteen int32 in a register of AVX-512.

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::ops::tables::EXP2_U8;

/// Sixteen int32.
pub(super) type Lanes = __m512i;

/// Thirty-two bytes.
pub(super) type Bytes = __m256i;

/// A table of 256 steps.
pub(super) struct Table {
    entries: [__m512i; 8],
    last: i16,
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
        let half = _mm512_set1_epi64((1 << 31) + ((1 << (31 + shift)) & (-1 << 32)));
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

    /// A table of 256 steps, ready to be looked up.
    pub(super) fn table(entries: &[i16; 257]) -> Table {
        let mut table = Table { entries: [splat(0); 8], last: entries[256] };
        for (lanes, entries) in table.entries.iter_mut().zip(entries.as_chunks::<32>().0) {
            // SAFETY: 64 readable bytes; the load is unaligned.
            *lanes = unsafe { _mm512_loadu_si512(entries.as_ptr().cast()) };
        }
        table
    }

    /// Entries of a table for indices below 256 in 16-bit lanes.
    fn look_up(table: &Table, indices: __m512i) -> __m512i {
        let [a, b, c, d, e, f, g, h] = table.entries;
        let odd = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(64));
        let low = _mm512_mask_blend_epi16(
            odd,
            _mm512_permutex2var_epi16(a, indices, b),
            _mm512_permutex2var_epi16(c, indices, d),
        );
        let high = _mm512_mask_blend_epi16(
            odd,
            _mm512_permutex2var_epi16(e, indices, f),
            _mm512_permutex2var_epi16(g, indices, h),
        );
        _mm512_mask_blend_epi16(_mm512_test_epi16_mask(indices, _mm512_set1_epi16(128)), low, high)
    }

    /// Interpolates a table at magnitudes with 7 fraction bits; beyond the table, its last entry.
    pub(super) fn interpolate(table: &Table, magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let [a, b] = magnitudes;
        let [a, b] = [min(a, splat(256 << 7)), min(b, splat(256 << 7))];
        // The end of the table is the end of its last step.
        let step = [min(_mm512_srli_epi32::<7>(a), splat(255)), min(_mm512_srli_epi32::<7>(b), splat(255))];
        let steps = _mm512_packus_epi32(step[0], step[1]);
        let next = _mm512_add_epi16(steps, _mm512_set1_epi16(1));
        let (low, high) = (look_up(table, steps), look_up(table, next));
        let end = _mm512_cmpeq_epi16_mask(steps, _mm512_set1_epi16(255));
        let high = _mm512_mask_mov_epi16(high, end, _mm512_set1_epi16(table.last));
        [
            interpolated(a, step[0], _mm512_unpacklo_epi16(low, high)),
            interpolated(b, step[1], _mm512_unpackhi_epi16(low, high)),
        ]
    }

    /// Between the two entries of a step.
    fn interpolated(magnitude: Lanes, step: Lanes, entries: __m512i) -> Lanes {
        let fraction = sub(magnitude, _mm512_slli_epi32::<7>(step));
        // low · (128 − fraction) + high · fraction
        let weights = add(sub(splat(128), fraction), _mm512_slli_epi32::<16>(fraction));
        _mm512_srai_epi32::<7>(add(_mm512_madd_epi16(entries, weights), splat(64)))
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
        let shifted = _mm512_srlv_epi16(_mm512_slli_epi16::<1>(mantissa), _mm512_srli_epi16::<8>(z));
        let rounded = _mm512_avg_epu16(shifted, _mm512_setzero_si512());
        // Each 128-bit lane has four of the first vector, then four of the second.
        let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        _mm256_permutevar8x32_epi32(_mm512_cvtepi16_epi8(rounded), order)
    }

    pub(super) fn load_bytes(from: &[u8; 32]) -> Bytes {
        // SAFETY: 32 readable bytes; the load is unaligned.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    pub(super) fn store_bytes(bytes: Bytes, to: &mut [u8; 32]) {
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) }
    }

    /// The sums of eight bytes each, in the even lanes.
    pub(super) fn sums_of_bytes(bytes: Bytes) -> Lanes {
        _mm512_zextsi256_si512(_mm256_sad_epu8(bytes, _mm256_setzero_si256()))
    }
}
