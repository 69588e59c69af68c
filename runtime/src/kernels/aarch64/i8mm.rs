//! int8 matrix products: `smmla` and `usmmla`, which multiply two rows by two channels, eight products a lane. Row-major weights are
//! multiplied by dot products, everything else is NEON.
#![allow(unsafe_code)]
// Blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::dotprod::DOTPROD;
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
    unsafe {
        if SIGNED { multiply!("smmla") } else { multiply!("usmmla") }
    }
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

/// Tile by tile, each for up to three pairs of rows at a time.
///
/// # Safety
///
/// The CPU has the instructions; `shape.fits_packed` holds for the memory behind the pointers, and K is a multiple of 8.
#[target_feature(enable = "neon")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const i8, weight: *const i8, out: *mut i32) {
    for tile in 0..shape.n / TILE_CHANNELS {
        let mut m = 0;
        while m < shape.m {
            // SAFETY: the tile lies inside the weight and the output, and the rows of each block inside the shape.
            m += unsafe {
                let (weight, out) = (weight.add(tile * shape.weight_stride), out.add(tile * shape.out_tile_stride));
                let (input, out) = (input.add(m * shape.input_stride), out.add(m * shape.out_stride));
                match shape.m - m {
                    5.. => block::<SIGNED, 3>(shape, shape.m - m, input, weight, out),
                    3.. => block::<SIGNED, 2>(shape, shape.m - m, input, weight, out),
                    _ => block::<SIGNED, 1>(shape, shape.m - m, input, weight, out),
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
    weight: *const i8,
    out: *mut i32,
) -> usize {
    let count = left.min(2 * P);
    // In the place of a row that is not there, the one before is multiplied once more.
    let row = |row: usize| input.wrapping_add(row.min(count - 1) * shape.input_stride);
    let rows: [[*const i8; 2]; P] = core::array::from_fn(|pair| [row(2 * pair), row(2 * pair + 1)]);
    let mut sums = [[vdupq_n_s32(0); 8]; P];
    let mut k = 0;
    while k < shape.k {
        // SAFETY: `k + 8 ≤ shape.k`, so eight elements of each row, and 128 weights, are readable.
        unsafe {
            let inputs = rows.map(|[a, b]| vcombine_s8(vld1_s8(a.add(k)), vld1_s8(b.add(k))));
            for channels in 0..8 {
                let weight = vld1q_s8(weight.add(k * TILE_CHANNELS + 16 * channels));
                for pair in 0..P {
                    sums[pair][channels] = add_products::<SIGNED>(sums[pair][channels], inputs[pair], weight);
                }
            }
        }
        k += 8;
    }
    for row in 0..count {
        for four in 0..4 {
            let [a, b] = [0, 1].map(|half| vreinterpretq_s64_s32(sums[row / 2][2 * four + half]));
            let of_row = if row % 2 == 0 { vzip1q_s64(a, b) } else { vzip2q_s64(a, b) };
            // SAFETY: the row of the output has sixteen elements.
            unsafe { vst1q_s32(out.add(row * shape.out_stride + 4 * four), vreinterpretq_s32_s64(of_row)) };
        }
    }
    count
}
