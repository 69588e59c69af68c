//! Sixteen int32 in four registers of NEON.
#![allow(unsafe_code)]

use core::arch::aarch64::*;

use super::memory::{self, *};
use crate::kernels::four::four;
use crate::ops::layer_norm;
use crate::ops::tables::EXP2_U8;

/// Sixteen int32.
pub(super) type Lanes = [int32x4_t; 4];

/// Thirty-two bytes.
pub(super) type Bytes = [uint8x16_t; 2];

/// A table of 256 steps: the low and the high bytes of its entries.
// Aligned, so that it is moved in large pieces.
#[repr(align(16))]
pub(super) struct Table {
    low: [u8; 256],
    high: [u8; 256],
}

/// What is added to the channels of a tile.
pub(super) type Bias = Lanes;

/// Functions with the features of this file. They are inlined into others that have them.
macro_rules! lanes {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "neon")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? $body
    )*};
}

lanes! {
    pub(super) fn load(from: &[i32; 16]) -> Lanes {
        let mut from = from.as_ptr();
        // SAFETY: four times four readable elements.
        unsafe { [load_next_i32(&mut from), load_next_i32(&mut from), load_next_i32(&mut from), load_i32(from)] }
    }

    pub(super) fn load_i16(from: &[i16; 16]) -> Lanes {
        let mut from = from.as_ptr();
        // SAFETY: twice eight readable elements.
        let (low, high) = unsafe { (load_next_i16(&mut from), memory::load_i16(from)) };
        [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
    }

    /// Sixteen pairs, as two vectors.
    pub(super) fn load_pairs(from: &[[i32; 2]; 16]) -> [Lanes; 2] {
        let mut from = from.as_ptr().cast();
        // SAFETY: four times four readable pairs.
        let [a, e] = unsafe { load_next_pairs_i32(&mut from) };
        // SAFETY: as above.
        let [b, f] = unsafe { load_next_pairs_i32(&mut from) };
        // SAFETY: as above.
        let [c, g] = unsafe { load_next_pairs_i32(&mut from) };
        // SAFETY: as above.
        let [d, h] = unsafe { load_next_pairs_i32(&mut from) };
        [[a, b, c, d], [e, f, g, h]]
    }

    pub(super) fn store(lanes: Lanes, to: &mut [i32; 16]) {
        let mut to = to.as_mut_ptr();
        for lanes in lanes {
            // SAFETY: four times four writable elements.
            unsafe { store_next_i32(&mut to, lanes) };
        }
    }

    /// Saturated to ±32767.
    pub(super) fn store_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let [a, b, c, d] = lanes;
        let least = vdupq_n_s16(-32767);
        let mut to = to.as_mut_ptr();
        // SAFETY: twice eight writable elements.
        unsafe {
            store_next_i16(&mut to, vmaxq_s16(vqmovn_high_s32(vqmovn_s32(a), b), least));
            store_next_i16(&mut to, vmaxq_s16(vqmovn_high_s32(vqmovn_s32(c), d), least));
        }
    }

    /// Saturated.
    pub(super) fn store_saturated_i16(lanes: Lanes, to: &mut [i16; 16]) {
        let [a, b, c, d] = lanes;
        let mut to = to.as_mut_ptr();
        // SAFETY: twice eight writable elements.
        unsafe {
            store_next_i16(&mut to, vqmovn_high_s32(vqmovn_s32(a), b));
            store_next_i16(&mut to, vqmovn_high_s32(vqmovn_s32(c), d));
        }
    }

    /// Lanes of int8.
    pub(super) fn store_i8(lanes: Lanes, to: &mut [i8; 16]) {
        // SAFETY: sixteen writable elements.
        unsafe { store_next_i8(&mut to.as_mut_ptr(), vreinterpretq_s8_u8(low_bytes(lanes))) }
    }

    /// The lowest byte of each lane.
    fn low_bytes(lanes: Lanes) -> uint8x16_t {
        let [a, b, c, d] = four!(|lanes| vreinterpretq_s16_s32(lanes));
        let (low, high) = (vuzp1q_s16(a, b), vuzp1q_s16(c, d));
        vuzp1q_u8(vreinterpretq_u8_s16(low), vreinterpretq_u8_s16(high))
    }

    pub(super) fn splat(value: i32) -> Lanes {
        [vdupq_n_s32(value); 4]
    }

    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vaddq_s32(a, b))
    }

    pub(super) fn sub(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vsubq_s32(a, b))
    }

    pub(super) fn multiply(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vmulq_s32(a, b))
    }

    pub(super) fn min(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vminq_s32(a, b))
    }

    pub(super) fn max(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vmaxq_s32(a, b))
    }

    /// Unsigned.
    pub(super) fn magnitude(a: Lanes) -> Lanes {
        four!(|a| vabsq_s32(a))
    }

    /// `shift` is below 32.
    pub(super) fn shift_left(a: Lanes, shift: u32) -> Lanes {
        let shift = vdupq_n_s32(shift as i32);
        four!(|a| vshlq_s32(a, shift))
    }

    /// See [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
    pub(super) fn rounding_multiply_high(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| {
            let low = vrshrn_n_s64::<32>(vmull_s32(vget_low_s32(a), vget_low_s32(b)));
            vrshrn_high_n_s64::<32>(low, vmull_high_s32(a, b))
        })
    }

    /// `shift` is below 32.
    pub(super) fn shift_right(a: Lanes, shift: u32) -> Lanes {
        let shift = vdupq_n_s32(-(shift as i32));
        four!(|a| vshlq_s32(a, shift))
    }

    /// See [`rounding_shift_right`](crate::ops::fixed_point::rounding_shift_right).
    pub(super) fn rounding_shift_right(value: Lanes, shift: u32) -> Lanes {
        let shift = vdupq_n_s32(-(shift.min(31) as i32));
        four!(|value| vrshlq_s32(value, shift))
    }

    /// See [`scale_by_power_of_two`](crate::ops::fixed_point::scale_by_power_of_two).
    pub(super) fn scale_by_power_of_two(value: Lanes, shift: i32) -> Lanes {
        let shift = vdupq_n_s32(-shift.clamp(-30, 31));
        four!(|value| vqrshlq_s32(value, shift))
    }

    /// `rounding_multiply_high`, then `scale_by_power_of_two`.
    pub(super) fn multiply_and_scale(value: Lanes, multiplier: Lanes, shift: i32) -> Lanes {
        scale_by_power_of_two(rounding_multiply_high(value, multiplier), shift)
    }

    /// `rounding_multiply_high` of a value that is first shifted left, by less than 32.
    pub(super) fn shifted_multiply_high(value: Lanes, left: u32, multiplier: Lanes) -> Lanes {
        if left == 0 {
            return rounding_multiply_high(value, multiplier);
        }
        // What has been shifted is even, so that the doubling product of its half is exact.
        let shifted = shift_left(value, left);
        four!(|shifted, multiplier| vqrdmulhq_s32(vshrq_n_s32::<1>(shifted), multiplier))
    }

    /// The same, then `rounding_shift_right` by `right`, below 31.
    pub(super) fn shifted_multiply_shift(value: Lanes, left: u32, multiplier: Lanes, right: u32) -> Lanes {
        rounding_shift_right(shifted_multiply_high(value, left, multiplier), right)
    }

    /// Saturating.
    pub(super) fn add_saturating(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vqaddq_s32(a, b))
    }

    pub(super) fn bias(bias: &[i32; 16]) -> Bias {
        load(bias)
    }

    /// Saturating.
    pub(super) fn add_bias(value: Lanes, bias: Bias) -> Lanes {
        add_saturating(value, bias)
    }

    /// The largest lane, in every lane.
    pub(super) fn largest(a: Lanes) -> Lanes {
        let [a, b, c, d] = a;
        splat(vmaxvq_s32(vmaxq_s32(vmaxq_s32(a, b), vmaxq_s32(c, d))))
    }

    /// A table of 256 steps, ready to be looked up: its last step is flat.
    pub(super) fn table(entries: &[i16; 257]) -> Table {
        let mut table = Table { low: [0; 256], high: [0; 256] };
        let (mut low, mut high) = (table.low.as_mut_ptr(), table.high.as_mut_ptr());
        let mut entries = entries.as_ptr().cast();
        for _ in 0..16 {
            // SAFETY: sixteen times sixteen readable entries, and as many writable bytes each.
            unsafe {
                let [lows, highs] = load_next_pairs_u8(&mut entries);
                store_next_u8(&mut low, lows);
                store_next_u8(&mut high, highs);
            }
        }
        table
    }

    /// The entries of a table at two times sixteen steps.
    fn look_up_pairs(table: &Table, steps: [uint8x16_t; 2]) -> [[int16x8_t; 2]; 2] {
        let low = look_up_bytes(&table.low, steps);
        let high = look_up_bytes(&table.high, steps);
        [0, 1].map(|i| {
            let (first, second) = (vzip1q_u8(low[i], high[i]), vzip2q_u8(low[i], high[i]));
            [vreinterpretq_s16_u8(first), vreinterpretq_s16_u8(second)]
        })
    }

    fn look_up_bytes(table: &[u8; 256], steps: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        let [mut a, mut b] = steps;
        let mut found = [vdupq_n_u8(0); 2];
        for quarter in table.as_chunks().0 {
            found = look_up(found, quarter, [a, b]);
            // Indices of other quarters wrap, or stay above.
            (a, b) = (vsubq_u8(a, vdupq_n_u8(64)), vsubq_u8(b, vdupq_n_u8(64)));
        }
        found
    }

    /// Interpolates a table at magnitudes with 7 fraction bits, unsigned; beyond the table, its last entry.
    pub(super) fn interpolate(table: &Table, magnitudes: [Lanes; 2]) -> [Lanes; 2] {
        let most = vdupq_n_u32((256 << 7) - 1);
        let [[a, b, c, d], [e, f, g, h]] = magnitudes;
        let (low, high) = ([a, c, e, g], [b, d, f, h]);
        // Eight magnitudes in each register, at most 15 bits wide.
        let magnitude = four!(|low, high| {
            let low = vreinterpretq_u16_u32(vminq_u32(vreinterpretq_u32_s32(low), most));
            let high = vreinterpretq_u16_u32(vminq_u32(vreinterpretq_u32_s32(high), most));
            vuzp1q_u16(low, high)
        });
        let [a, b, c, d] = magnitude;
        let steps = [vshrn_high_n_u16::<7>(vshrn_n_u16::<7>(a), b), vshrn_high_n_u16::<7>(vshrn_n_u16::<7>(c), d)];
        let [a, b] = look_up_pairs(table, steps);
        let [c, d] = look_up_pairs(table, steps.map(|steps| vqaddq_u8(steps, vdupq_n_u8(1))));
        let (begin, end) = ([a[0], a[1], b[0], b[1]], [c[0], c[1], d[0], d[1]]);
        // begin · (128 − fraction) + end · fraction, rounded
        let [[a, b], [c, d], [e, f], [g, h]] = four!(|magnitude, begin, end| {
            let fraction = vandq_s16(vreinterpretq_s16_u16(magnitude), vdupq_n_s16(127));
            let rest = vsubq_s16(vdupq_n_s16(128), fraction);
            let low = vmull_s16(vget_low_s16(begin), vget_low_s16(rest));
            let low = vmlal_s16(low, vget_low_s16(end), vget_low_s16(fraction));
            let high = vmlal_high_s16(vmull_high_s16(begin, rest), end, fraction);
            [vrshrq_n_s32::<7>(low), vrshrq_n_s32::<7>(high)]
        });
        [[a, b, c, d], [e, f, g, h]]
    }

    /// `255 · 2^(−z / 256)`, rounded, of two vectors; `z ≥ 0`. See [`softmax`](crate::ops::softmax).
    pub(super) fn exp2_u8(z: [Lanes; 2]) -> Bytes {
        let [a, b] = z;
        let mantissas = look_up_bytes(&EXP2_U8, [low_bytes(a), low_bytes(b)]);
        [vrshlq_u8(mantissas[0], minus_octaves(a)), vrshlq_u8(mantissas[1], minus_octaves(b))]
    }

    /// `−(z / 256)`, at least −127: shifts by −9 and less give 0.
    fn minus_octaves(z: Lanes) -> int8x16_t {
        let [a, b, c, d] = z;
        let low = vqshrn_high_n_s32::<8>(vqshrn_n_s32::<8>(a), b);
        let high = vqshrn_high_n_s32::<8>(vqshrn_n_s32::<8>(c), d);
        vnegq_s8(vqmovn_high_s16(vqmovn_s16(low), high))
    }

    pub(super) fn load_bytes(from: &[u8; 32]) -> Bytes {
        // SAFETY: 32 readable bytes.
        unsafe { [load_u8(from.as_ptr()), load_u8(from.as_ptr().add(16))] }
    }

    pub(super) fn store_bytes(bytes: Bytes, to: &mut [u8; 32]) {
        let mut to = to.as_mut_ptr();
        // SAFETY: 32 writable bytes.
        unsafe {
            store_next_u8(&mut to, bytes[0]);
            store_next_u8(&mut to, bytes[1]);
        }
    }

    /// Eight sums of 32 bits, with these bytes added.
    pub(super) fn add_bytes(sums: Bytes, bytes: Bytes) -> Bytes {
        let [a, b] = sums.map(|sums| vreinterpretq_u32_u8(sums));
        let [a, b] = [vpadalq_u16(a, vpaddlq_u8(bytes[0])), vpadalq_u16(b, vpaddlq_u8(bytes[1]))];
        [vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)]
    }

    /// The sum of eight sums.
    pub(super) fn total(sums: Bytes) -> u32 {
        vaddvq_u32(vaddq_u32(vreinterpretq_u32_u8(sums[0]), vreinterpretq_u32_u8(sums[1])))
    }
    /// The largest magnitude of a row.
    pub(super) fn magnitude_i16(row: &[i16]) -> u16 {
        let (row, left) = row.as_chunks::<16>();
        let mut most = vdupq_n_u16(0);
        for row in row {
            // SAFETY: twice eight readable elements.
            let (low, high) = unsafe { (memory::load_i16(row.as_ptr()), memory::load_i16(row.as_ptr().add(8))) };
            let (low, high) = (vreinterpretq_u16_s16(vabsq_s16(low)), vreinterpretq_u16_s16(vabsq_s16(high)));
            most = vmaxq_u16(most, vmaxq_u16(low, high));
        }
        left.iter().fold(vmaxvq_u16(most), |most, value| most.max(value.unsigned_abs()))
    }

    /// The largest magnitude of a row.
    pub(super) fn magnitude_i32(row: &[i32]) -> u32 {
        let (row, left) = row.as_chunks();
        let most = row.iter().fold(splat(0), |most, row| max_unsigned(most, magnitude(load(row))));
        left.iter().fold(largest_unsigned(most), |most, value| most.max(value.unsigned_abs()))
    }

    fn max_unsigned(a: Lanes, b: Lanes) -> Lanes {
        four!(|a, b| vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))))
    }

    fn largest_unsigned(a: Lanes) -> u32 {
        let [a, b, c, d] = four!(|a| vreinterpretq_u32_s32(a));
        vmaxvq_u32(vmaxq_u32(vmaxq_u32(a, b), vmaxq_u32(c, d)))
    }

    /// See [`sums`](crate::ops::layer_norm::sums).
    pub(super) fn sums(row: &[i16]) -> (i32, i64) {
        let (row, left) = row.as_chunks::<8>();
        let (mut sum, mut squares) = (vdupq_n_s32(0), vdupq_n_s64(0));
        for row in row {
            // SAFETY: eight readable elements.
            let row = unsafe { memory::load_i16(row.as_ptr()) };
            sum = vpadalq_s16(sum, row);
            squares = vpadalq_s32(squares, vmull_s16(vget_low_s16(row), vget_low_s16(row)));
            squares = vpadalq_s32(squares, vmull_high_s16(row, row));
        }
        let (sum_left, squares_left) = layer_norm::sums(left);
        (vaddvq_s32(sum) + sum_left, vaddvq_s64(squares) + squares_left)
    }
}
