//! int8 matrix products: `smmla` and `usmmla`, which multiply two rows by two channels, eight products a lane. Row-major weights are
//! multiplied by dot products, everything else is NEON.
#![allow(unsafe_code)]
// Blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::dotprod::DOTPROD;
use super::memory::{load_half_i8, load_next_four, load_next_i8, store_next_i32};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::kernels::{Kernels, MatmulShape};

/// Handed out by `available()` only after the CPU reported dot products and int8 matrix products.
pub(super) static I8MM: Kernels =
    Kernels { name: "i8mm", weight_layout: WeightLayout::I8mm16x8, matmul_packed_i8, matmul_packed_u8_i8, ..DOTPROD };

/// Adds to `[row][channel]` of two rows and two channels the products of eight inputs.
///
/// # Safety
///
/// The CPU has the instructions.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_products<const SIGNED: bool>(mut sums: int32x4_t, rows: int8x16_t, channels: int8x16_t) -> int32x4_t {
    // The intrinsics are not stable.
    macro_rules! multiply {
        ($instruction:literal) => {
            asm!(
                ".arch_extension i8mm",
                concat!($instruction, " {sums:v}.4s, {rows:v}.16b, {channels:v}.16b"),
                sums = inout(vreg) sums, rows = in(vreg) rows, channels = in(vreg) channels,
                options(pure, nomem, nostack, preserves_flags),
            )
        };
    }
    // SAFETY: the caller's CPU has the instructions, which work on registers alone.
    unsafe { if SIGNED { multiply!("smmla") } else { multiply!("usmmla") } }
    sums
}

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if shape.k.is_multiple_of(8) && shape.fits_packed(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported the instructions, and `fits_packed` has shown that all rows and tiles
        // lie inside the slices.
        unsafe { packed::<true>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if shape.k.is_multiple_of(8) && shape.fits_packed(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported the instructions, and `fits_packed` has shown that all rows and tiles
        // lie inside the slices.
        unsafe { packed::<false>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

/// Tile by tile, each for up to two pairs of rows at a time.
///
/// # Safety
///
/// The CPU has the instructions; `shape.fits_packed` holds for the memory behind the pointers, and K is a multiple of 8.
#[target_feature(enable = "neon")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const i8, weight: *const i8, out: *mut i32) {
    for tile in 0..shape.n / TILE_CHANNELS {
        let mut m = 0;
        while m < shape.m {
            let left = shape.m - m;
            // SAFETY: the tile lies inside the weight and the output, and the rows of each block inside the shape.
            m += unsafe {
                let (weight, out) = (weight.add(tile * shape.weight_stride), out.add(tile * shape.out_tile_stride));
                let (input, out) = (input.add(m * shape.input_stride), out.add(m * shape.out_stride));
                match left {
                    3.. => block::<SIGNED, 2>(shape, left, input, weight, out),
                    _ => block::<SIGNED, 1>(shape, left, input, weight, out),
                }
            };
        }
    }
}

/// P pairs of rows × one tile in registers, of which the last may lack its second row. Returns how many rows there are.
///
/// # Safety
///
/// As for [`packed`], for the rows that begin at the pointers: 2 P − 1 are left at least.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn block<const SIGNED: bool, const P: usize>(
    shape: &MatmulShape,
    left: usize,
    input: *const i8,
    mut weight: *const i8,
    out: *mut i32,
) -> usize {
    let count = left.min(2 * P);
    // In the place of a row that is not there, the one before is multiplied once more.
    let row = |row: usize| input.wrapping_add(row.min(count - 1) * shape.input_stride);
    let mut rows: [[*const i8; 2]; P] = core::array::from_fn(|pair| [row(2 * pair), row(2 * pair + 1)]);
    let mut sums = [[vdupq_n_s32(0); 8]; P];
    // SAFETY: every row has `shape.k` elements, and the tile so many inputs, eight in 128 bytes.
    unsafe {
        for _ in 0..shape.k / 16 {
            let inputs = rows.each_mut().map(|[a, b]| {
                let (a, b) = (vreinterpretq_s64_s8(load_next_i8(a)), vreinterpretq_s64_s8(load_next_i8(b)));
                [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
            });
            add_eight::<SIGNED, P>(&mut sums, inputs.map(|[first, _]| first), &mut weight);
            add_eight::<SIGNED, P>(&mut sums, inputs.map(|[_, second]| second), &mut weight);
        }
        if !shape.k.is_multiple_of(16) {
            let inputs = rows.map(|pair| {
                let [a, b] = pair.map(|row| load_half_i8(row));
                vcombine_s8(a, b)
            });
            add_eight::<SIGNED, P>(&mut sums, inputs, &mut weight);
        }
        for pair in 0..P {
            let (mut first, mut second) = ([vdupq_n_s32(0); 4], [vdupq_n_s32(0); 4]);
            for four in 0..4 {
                let [a, b] = [0, 1].map(|half| vreinterpretq_s64_s32(sums[pair][2 * four + half]));
                first[four] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
                second[four] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
            }
            let mut out = out.add(2 * pair * shape.out_stride);
            let mut next = out.wrapping_add(shape.out_stride);
            for four in first {
                store_next_i32(&mut out, four);
            }
            if 2 * pair + 1 < count {
                for four in second {
                    store_next_i32(&mut next, four);
                }
            }
        }
    }
    count
}

/// Adds what the next eight inputs of a tile give.
///
/// # Safety
///
/// The CPU has the instructions, and the weights are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_eight<const SIGNED: bool, const P: usize>(
    sums: &mut [[int32x4_t; 8]; P],
    inputs: [int8x16_t; P],
    weight: &mut *const i8,
) {
    for half in 0..2 {
        // SAFETY: the caller's promise.
        unsafe {
            for (channels, weight) in load_next_four(weight).into_iter().enumerate() {
                for (sums, input) in sums.iter_mut().zip(inputs) {
                    let sums = &mut sums[4 * half + channels];
                    *sums = add_products::<SIGNED>(*sums, input, weight);
                }
            }
        }
    }
}
