//! Sixteen int32 in two registers of AVX2.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::ops::tables::EXP2_U8;

/// Sixteen int32.
pub(super) type Lanes = [__m256i; 2];

/// Thirty-two bytes.
pub(super) type Bytes = __m256i;

/// A table of 256 steps.
pub(super) type Table<'a> = &'a [i16; 257];

/// What is added to a product that loses its low half and then so many bits, for both roundings.
pub(super) static HALVES: [i64; 32] = {
    let mut halves = [1 << 31; 32];
    let mut shift = 1;
    while shift < halves.len() {
        halves[shift] += 1 << (31 + shift);
        shift += 1;
    }
    halves
};

/// Functions with the features of this file. They are inlined into others that have them.
macro_rules! lanes {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx2")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? $body
    )*};
}

/// The table of [`softmax`](crate::ops::softmax), with room behind it: a lane is looked up four bytes at a time.
static EXP2: [u8; 259] = {
    let mut table = [0; 259];
    let (entries, _) = table.split_at_mut(EXP2_U8.len());
    entries.copy_from_slice(&EXP2_U8);
    table
};

crate::kernels::lanes_default::defaults!("avx2");

lanes! {
    pub(super) fn load(from: &[i32; 16]) -> Lanes {
        let from = from.as_ptr();
        // SAFETY: 64 readable bytes; the loads are unaligned.
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())] }
    }

    pub(super) fn load_i16(from: &[i16; 16]) -> Lanes {
        let from = from.as_ptr();
        // SAFETY: 32 readable bytes; the loads are unaligned.
        let halves = unsafe { [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast())] };
        [_mm256_cvtepi16_epi32(halves[0]), _mm256_cvtepi16_epi32(halves[1])]
    }

    /// Sixteen pairs, as two vectors.
    pub(super) fn load_pairs(from: &[[i32; 2]; 16]) -> [Lanes; 2] {
        let from = from.as_ptr();
        // SAFETY: 128 readable bytes; the loads are unaligned.
        let [a, b, c, d] =
            core::array::from_fn(|i| unsafe { _mm256_loadu_si256(from.add(4 * i).cast()) }).map(|four| {
                // The first of each pair, then the second.
                _mm256_permutevar8x32_epi32(four, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7))
            });
        [
            [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x20>(c, d)],
            [_mm256_permute2x128_si256::<0x31>(a, b), _mm256_permute2x128_si256::<0x31>(c, d)],
        ]
    }

    pub(super) fn store(lanes: Lanes, to: &mut [i32; 16]) {
        let to = to.as_mut_ptr();
        // SAFETY: 64 writable bytes; the stores are unaligned.
        unsafe {
            _mm256_storeu_si256(to.cast(), lanes[0]);
            _mm256_storeu_si256(to.add(8).cast(), lanes[1]);
        }
    }

    /// Saturated to int16, in order.
    fn packed_i16(lanes: Lanes) -> __m256i {
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(lanes[0], lanes[1]))
    }

    /// Saturated to ±32767.
    pub(super) fn store_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let lanes = _mm256_max_epi16(packed_i16(lanes), _mm256_set1_epi16(-32767));
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), lanes) }
    }

    /// Saturated.
    pub(super) fn store_saturated_i16(lanes: Lanes, to: &mut [i16; 16]) {
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), packed_i16(lanes)) }
    }

    /// Lanes of int8.
    pub(super) fn store_i8(lanes: Lanes, to: &mut [i8; 16]) {
        let lanes = packed_i16(lanes);
        let lanes = _mm_packs_epi16(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        // SAFETY: 16 writable bytes; the store is unaligned.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), lanes) }
    }

    pub(super) fn splat(value: i32) -> Lanes {
        [_mm256_set1_epi32(value); 2]
    }

    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
    }

    pub(super) fn sub(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])]
    }

    pub(super) fn multiply(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])]
    }

    pub(super) fn min(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_min_epi32(a[0], b[0]), _mm256_min_epi32(a[1], b[1])]
    }

    pub(super) fn max(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])]
    }

    /// Unsigned.
    pub(super) fn magnitude(a: Lanes) -> Lanes {
        [_mm256_abs_epi32(a[0]), _mm256_abs_epi32(a[1])]
    }

    /// `shift` is below 32.
    pub(super) fn shift_left(a: Lanes, shift: u32) -> Lanes {
        let shift = _mm256_set1_epi32(shift as i32);
        [_mm256_sllv_epi32(a[0], shift), _mm256_sllv_epi32(a[1], shift)]
    }

    /// Rounded down; `shift` is below 32.
    pub(super) fn shift_right(a: Lanes, shift: u32) -> Lanes {
        let shift = _mm256_set1_epi32(shift as i32);
        [_mm256_srav_epi32(a[0], shift), _mm256_srav_epi32(a[1], shift)]
    }

    /// The high halves of the products, with something added.
    fn multiply_high(a: __m256i, b: __m256i, half: __m256i) -> __m256i {
        let even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
        let (a, b) = (_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
        let odd = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
        _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd)
    }

    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    pub(super) fn rounding_multiply_high(a: Lanes, b: Lanes) -> Lanes {
        let half = _mm256_set1_epi64x(1 << 31);
        [multiply_high(a[0], b[0], half), multiply_high(a[1], b[1], half)]
    }

    /// `rounding_multiply_high` and then `rounding_shift_right` by `shift`, below 31, in one rounding: half of each step is added at once.
    pub(super) fn rounding_multiply_shift(a: Lanes, b: Lanes, shift: u32) -> Lanes {
        let half = _mm256_set1_epi64x(HALVES[shift as usize & 31]);
        shift_right([multiply_high(a[0], b[0], half), multiply_high(a[1], b[1], half)], shift)
    }

    /// As the sign of `by` is: `most` or the least value.
    fn saturated(by: __m256i) -> __m256i {
        _mm256_xor_si256(_mm256_srai_epi32::<31>(by), _mm256_set1_epi32(i32::MAX))
    }

    /// Saturating.
    pub(super) fn add_saturating(a: Lanes, b: Lanes) -> Lanes {
        let mut sums = add(a, b);
        for (sum, (a, b)) in sums.iter_mut().zip(a.into_iter().zip(b)) {
            // Both have one sign, and the sum the other.
            let overflow = _mm256_andnot_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(a, *sum));
            *sum = _mm256_blendv_epi8(*sum, saturated(a), _mm256_srai_epi32::<31>(overflow));
        }
        sums
    }

    /// Saturating; `shift` is below 32.
    pub(super) fn shift_left_saturating(a: Lanes, shift: u32) -> Lanes {
        let mut shifted = shift_left(a, shift);
        let back = shift_right(shifted, shift);
        for (shifted, (a, back)) in shifted.iter_mut().zip(a.into_iter().zip(back)) {
            *shifted = _mm256_blendv_epi8(saturated(a), *shifted, _mm256_cmpeq_epi32(a, back));
        }
        shifted
    }

    /// The largest lane, in every lane.
    pub(super) fn largest(a: Lanes) -> Lanes {
        let a = _mm256_max_epi32(a[0], a[1]);
        let a = _mm256_max_epi32(a, _mm256_permute2x128_si256::<0x01>(a, a));
        let a = _mm256_max_epi32(a, _mm256_shuffle_epi32::<0b01_00_11_10>(a));
        [_mm256_max_epi32(a, _mm256_shuffle_epi32::<0b10_11_00_01>(a)); 2]
    }

    /// A table of 256 steps, ready to be looked up: its last step is flat.
    pub(super) fn table(entries: &[i16; 257]) -> Table<'_> {
        entries
    }

    /// Interpolates a table at magnitudes with 7 fraction bits; beyond the table, its last entry.
    pub(super) fn interpolate(table: &Table<'_>, magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let [a, b] = magnitudes;
        [
            [interpolated(table, a[0]), interpolated(table, a[1])],
            [interpolated(table, b[0]), interpolated(table, b[1])],
        ]
    }

    fn interpolated(table: &[i16; 257], magnitude: __m256i) -> __m256i {
        let magnitude = _mm256_min_epu32(magnitude, _mm256_set1_epi32((256 << 7) - 1));
        let step = _mm256_srli_epi32::<7>(magnitude);
        // SAFETY: steps are 0 to 255, so each pair of entries, a step and the next, lies in the table.
        let entries = unsafe { _mm256_i32gather_epi32::<2>(table.as_ptr().cast(), step) };
        // low · (128 − fraction) + high · fraction, rounded
        let fraction = _mm256_and_si256(magnitude, _mm256_set1_epi32(127));
        let low = _mm256_sub_epi32(_mm256_set1_epi32(128), fraction);
        let weights = _mm256_or_si256(low, _mm256_slli_epi32::<16>(fraction));
        let sum = _mm256_madd_epi16(entries, weights);
        _mm256_srai_epi32::<7>(_mm256_add_epi32(sum, _mm256_set1_epi32(64)))
    }

    /// `255 · 2^(−z / 256)`, rounded, of two vectors; `z ≥ 0`. See [`softmax`](crate::ops::softmax).
    pub(super) fn exp2_u8(z: [Lanes; 2]) -> Bytes {
        let [a, b] = z;
        let a = packed_i16([exp2(a[0]), exp2(a[1])]);
        let b = packed_i16([exp2(b[0]), exp2(b[1])]);
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(a, b))
    }

    fn exp2(z: __m256i) -> __m256i {
        let byte = _mm256_set1_epi32(255);
        // SAFETY: indices are 0 to 255, and the table has three bytes behind the last.
        let entries = unsafe { _mm256_i32gather_epi32::<1>(EXP2.as_ptr().cast(), _mm256_and_si256(z, byte)) };
        let mantissa = _mm256_and_si256(entries, byte);
        // Shifts of 9 and more give 0.
        let shifted = _mm256_srlv_epi32(_mm256_add_epi32(mantissa, mantissa), _mm256_srli_epi32::<8>(z));
        _mm256_srli_epi32::<1>(_mm256_add_epi32(shifted, _mm256_set1_epi32(1)))
    }

    pub(super) fn load_bytes(from: &[u8; 32]) -> Bytes {
        // SAFETY: 32 readable bytes; the load is unaligned.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    pub(super) fn store_bytes(bytes: Bytes, to: &mut [u8; 32]) {
        // SAFETY: 32 writable bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) }
    }

    /// Four sums, with these bytes added.
    pub(super) fn add_bytes(sums: Bytes, bytes: Bytes) -> Bytes {
        _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, _mm256_setzero_si256()))
    }

    /// The sum of four sums.
    pub(super) fn total(sums: Bytes) -> u32 {
        let sums = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        (_mm_cvtsi128_si32(sums) + _mm_extract_epi32::<2>(sums)) as u32
    }
}
