//! Sixteen int32 in four vectors of WebAssembly. Nothing of relaxed SIMD, which is not the same on every machine.
#![allow(unsafe_code)]

use core::arch::wasm32::*;

use crate::kernels::four::four;
use crate::kernels::lanes_default::defaults;
use crate::ops::softmax::exp2_table;

/// Sixteen int32.
pub(super) type Lanes = [v128; 4];

/// Thirty-two bytes.
pub(super) type Bytes = [v128; 2];

/// A table of 256 steps.
pub(super) type Table<'a> = &'a [i16; 257];

/// Looked up, since there is no shift by another number in each lane; the last entry is 0.
static EXP2: [u8; (9 << 8) + 1] = exp2_table();

/// Functions with the features of this file. They are inlined into others that have them.
macro_rules! lanes {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "simd128")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? $body
    )*};
}

defaults!("simd128");

lanes! {
    pub(super) fn load(from: &[i32; 16]) -> Lanes {
        let from: *const v128 = from.as_ptr().cast();
        // SAFETY: 64 readable bytes; the loads are unaligned.
        unsafe { [v128_load(from), v128_load(from.add(1)), v128_load(from.add(2)), v128_load(from.add(3))] }
    }

    pub(super) fn load_i16(from: &[i16; 16]) -> Lanes {
        let from = from.as_ptr();
        let from = [from, from.wrapping_add(4), from.wrapping_add(8), from.wrapping_add(12)];
        // SAFETY: four readable elements each.
        four!(|from| unsafe { i32x4_load_extend_i16x4(from) })
    }

    /// Sixteen pairs, as two vectors.
    pub(super) fn load_pairs(from: &[[i32; 2]; 16]) -> [Lanes; 2] {
        let from: *const v128 = from.as_ptr().cast();
        let low = [from, from.wrapping_add(2), from.wrapping_add(4), from.wrapping_add(6)];
        // SAFETY: 128 readable bytes; the loads are unaligned.
        let pairs = four!(|low| unsafe { [v128_load(low), v128_load(low.add(1))] });
        [four!(|pairs| i32x4_shuffle::<0, 2, 4, 6>(pairs[0], pairs[1])), four!(|pairs| {
            i32x4_shuffle::<1, 3, 5, 7>(pairs[0], pairs[1])
        })]
    }

    pub(super) fn store(lanes: Lanes, to: &mut [i32; 16]) {
        let to: *mut v128 = to.as_mut_ptr().cast();
        let to = [to, to.wrapping_add(1), to.wrapping_add(2), to.wrapping_add(3)];
        // SAFETY: 64 writable bytes; the stores are unaligned.
        four!(|to, lanes| unsafe { v128_store(to, lanes) });
    }

    /// Saturated to ±32767.
    pub(super) fn store_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let [a, b, c, d] = lanes;
        let least = i16x8_splat(-32767);
        let to: *mut v128 = to.as_mut_ptr().cast();
        // SAFETY: 32 writable bytes; the stores are unaligned.
        unsafe {
            v128_store(to, i16x8_max(i16x8_narrow_i32x4(a, b), least));
            v128_store(to.add(1), i16x8_max(i16x8_narrow_i32x4(c, d), least));
        }
    }

    /// Saturated.
    pub(super) fn store_saturated_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let [a, b, c, d] = lanes;
        let to: *mut v128 = to.as_mut_ptr().cast();
        // SAFETY: 32 writable bytes; the stores are unaligned.
        unsafe {
            v128_store(to, i16x8_narrow_i32x4(a, b));
            v128_store(to.add(1), i16x8_narrow_i32x4(c, d));
        }
    }

    /// Lanes of int8.
    pub(super) fn store_i8(lanes: Lanes, to: &mut [i8; 16]) {
        let [a, b, c, d] = lanes;
        let bytes = i8x16_narrow_i16x8(i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
        // SAFETY: 16 writable bytes; the store is unaligned.
        unsafe { v128_store(to.as_mut_ptr().cast(), bytes) }
    }

    pub(super) fn splat(value: i32) -> Lanes {
        [i32x4_splat(value); 4]
    }

    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| i32x4_add(a, b))
    }

    pub(super) fn sub(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| i32x4_sub(a, b))
    }

    pub(super) fn multiply(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| i32x4_mul(a, b))
    }

    pub(super) fn min(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| i32x4_min(a, b))
    }

    pub(super) fn max(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| i32x4_max(a, b))
    }

    /// Unsigned.
    pub(super) fn magnitude(a: Lanes) -> Lanes {
        four!(|a| i32x4_abs(a))
    }

    /// `shift` is below 32.
    pub(super) fn shift_left(a: Lanes, shift: u32) -> Lanes {
        four!(|a| i32x4_shl(a, shift))
    }

    /// Rounded down; `shift` is below 32.
    pub(super) fn shift_right(a: Lanes, shift: u32) -> Lanes {
        four!(|a| i32x4_shr(a, shift))
    }

    /// The high halves of the products, with something added.
    fn multiply_high(a: Lanes, b: Lanes, half: v128) -> Lanes {
        four!(|a, b| {
            let low = i64x2_add(i64x2_extmul_low_i32x4(a, b), half);
            let high = i64x2_add(i64x2_extmul_high_i32x4(a, b), half);
            i32x4_shuffle::<1, 3, 5, 7>(low, high)
        })
    }

    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    pub(super) fn rounding_multiply_high(a: Lanes, b: Lanes) -> Lanes {
        multiply_high(a, b, i64x2_splat(1 << 31))
    }

    /// `rounding_multiply_high` and then `rounding_shift_right` by `shift`, below 31, in one rounding: half of each step is added at once.
    fn rounding_multiply_shift(a: Lanes, b: Lanes, shift: u32) -> Lanes {
        let half_of_second = if shift == 0 { 0 } else { 1 << (31 + shift) };
        shift_right(multiply_high(a, b, i64x2_splat((1 << 31) + half_of_second)), shift)
    }

    /// As the sign of `by` is: `most` or the least value.
    fn saturated(by: v128) -> v128 {
        v128_xor(i32x4_shr(by, 31), i32x4_splat(i32::MAX))
    }

    /// Saturating.
    pub(super) fn add_saturating(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| {
            let sum = i32x4_add(a, b);
            // Both have one sign, and the sum the other.
            let overflow = i32x4_shr(v128_and(v128_xor(a, sum), v128_xor(b, sum)), 31);
            v128_bitselect(saturated(a), sum, overflow)
        })
    }

    /// Saturating; `shift` is below 32.
    fn shift_left_saturating(a: Lanes, shift: u32) -> Lanes {
        four!(|a| {
            let shifted = i32x4_shl(a, shift);
            v128_bitselect(shifted, saturated(a), i32x4_eq(i32x4_shr(shifted, shift), a))
        })
    }

    /// The largest lane, in every lane.
    pub(super) fn largest(a: Lanes) -> Lanes {
        let [a, b, c, d] = a;
        let a = i32x4_max(i32x4_max(a, b), i32x4_max(c, d));
        let a = i32x4_max(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
        [i32x4_max(a, i32x4_shuffle::<1, 0, 3, 2>(a, a)); 4]
    }

    /// A table of 256 steps, ready to be looked up: its last step is flat.
    pub(super) fn table(entries: &[i16; 257]) -> Table<'_> {
        entries
    }

    /// Interpolates a table at magnitudes with 7 fraction bits, unsigned; beyond the table, its last entry.
    pub(super) fn interpolate(table: &Table<'_>, magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let [a, b] = magnitudes;
        [four!(|a| interpolated(table, a)), four!(|b| interpolated(table, b))]
    }

    fn interpolated(table: &[i16; 257], magnitude: v128) -> v128 {
        let magnitude = u32x4_min(magnitude, u32x4_splat((256 << 7) - 1));
        let step = u32x4_shr(magnitude, 7);
        let pair = |step: u32| table.as_ptr().wrapping_add(step as usize).cast::<u32>();
        // SAFETY: steps are 0 to 255, so each pair of entries, a step and the next, lies in the table; the loads are unaligned.
        let entries = unsafe {
            let entries = v128_load32_zero(pair(u32x4_extract_lane::<0>(step)));
            let entries = v128_load32_lane::<1>(entries, pair(u32x4_extract_lane::<1>(step)));
            let entries = v128_load32_lane::<2>(entries, pair(u32x4_extract_lane::<2>(step)));
            v128_load32_lane::<3>(entries, pair(u32x4_extract_lane::<3>(step)))
        };
        // low · (128 − fraction) + high · fraction, rounded
        let fraction = v128_and(magnitude, i32x4_splat(127));
        let weights = v128_or(i32x4_sub(i32x4_splat(128), fraction), i32x4_shl(fraction, 16));
        i32x4_shr(i32x4_add(i32x4_dot_i16x8(entries, weights), i32x4_splat(64)), 7)
    }

    /// `255 · 2^(−z / 256)`, rounded, of two vectors; `z ≥ 0`. See [`softmax`](crate::ops::softmax).
    pub(super) fn exp2_u8(z: [Lanes; 2]) -> Bytes {
        [exp2(z[0]), exp2(z[1])]
    }

    fn exp2(z: Lanes) -> v128 {
        let mut found = [0; 16];
        let last = i32x4_splat(EXP2.len() as i32 - 1);
        for (found, z) in found.as_chunks_mut::<4>().0.iter_mut().zip(z) {
            let z = i32x4_min(z, last);
            let entry = |z: i32| EXP2.get(z as usize).copied().unwrap_or(0);
            *found = [
                entry(i32x4_extract_lane::<0>(z)),
                entry(i32x4_extract_lane::<1>(z)),
                entry(i32x4_extract_lane::<2>(z)),
                entry(i32x4_extract_lane::<3>(z)),
            ];
        }
        // SAFETY: 16 readable bytes; the load is unaligned.
        unsafe { v128_load(found.as_ptr().cast()) }
    }

    pub(super) fn load_bytes(from: &[u8; 32]) -> Bytes {
        let from: *const v128 = from.as_ptr().cast();
        // SAFETY: 32 readable bytes; the loads are unaligned.
        unsafe { [v128_load(from), v128_load(from.add(1))] }
    }

    pub(super) fn store_bytes(bytes: Bytes, to: &mut [u8; 32]) {
        let to: *mut v128 = to.as_mut_ptr().cast();
        // SAFETY: 32 writable bytes; the stores are unaligned.
        unsafe {
            v128_store(to, bytes[0]);
            v128_store(to.add(1), bytes[1]);
        }
    }

    /// Eight sums of 32 bits, with these bytes added.
    pub(super) fn add_bytes(sums: Bytes, bytes: Bytes) -> Bytes {
        let sums_of = |bytes: v128| u32x4_extadd_pairwise_u16x8(u16x8_extadd_pairwise_u8x16(bytes));
        [i32x4_add(sums[0], sums_of(bytes[0])), i32x4_add(sums[1], sums_of(bytes[1]))]
    }

    /// The sum of eight sums.
    pub(super) fn total(sums: Bytes) -> u32 {
        let sums = i32x4_add(sums[0], sums[1]);
        let sums = i32x4_add(sums, i32x4_shuffle::<2, 3, 0, 1>(sums, sums));
        u32x4_extract_lane::<0>(sums) + u32x4_extract_lane::<1>(sums)
    }
}
