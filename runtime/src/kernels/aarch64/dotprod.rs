//! Dot products: `sdot`, which multiplies int8 by int8, four products a lane. Everything else is NEON.
//!
//! Where the inputs are u8, they are made int8 by taking away 128, and 128 times the sum of the weights is added.
#![allow(unsafe_code)]
// Blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::memory::{load_next_four, load_next_i8, store_next_i32};
use super::neon::NEON;
use super::row_major::{Multiply, row_major};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::kernels::four::four;
use crate::kernels::{Kernels, MatmulShape};

/// Handed out by `available()` only after the CPU reported dot products.
pub(super) static DOTPROD: Kernels = Kernels {
    name: "dotprod",
    weight_layout: WeightLayout::Vnni16x4,
    matmul_i8,
    matmul_u8_i8,
    matmul_packed_i8,
    matmul_packed_u8_i8,
    ..NEON
};

struct DotProduct;

// The intrinsics are not stable.
impl Multiply for DotProduct {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_products(mut sums: int32x4_t, input: int8x16_t, weight: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's CPU has the instruction, which works on registers alone.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {input:v}.16b, {weight:v}.16b",
                sums = inout(vreg) sums, input = in(vreg) input, weight = in(vreg) weight,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}

/// The same with four of the inputs, for each of the sums.
///
/// # Safety
///
/// The CPU has the instruction.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_products_of_four<const FOUR: usize>(
    mut sums: int32x4_t,
    input: int8x16_t,
    weight: int8x16_t,
) -> int32x4_t {
    // SAFETY: the caller's CPU has the instruction, which works on registers alone.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {weight:v}.16b, {input:v}.4b[{four}]",
            sums = inout(vreg) sums, input = in(vreg) input, weight = in(vreg) weight, four = const FOUR,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported dot products, and `fits` has shown that all rows lie inside the
        // slices.
        unsafe { row_major::<DotProduct, true>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported dot products, and `fits` has shown that all rows lie inside the
        // slices.
        unsafe { row_major::<DotProduct, false>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if shape.fits_packed(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported dot products, and `fits_packed` has shown that all rows and tiles lie
        // inside the slices.
        unsafe { packed::<true>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if shape.fits_packed(input.len(), weight.len(), out.len()) {
        // SAFETY: this table is handed out only after the CPU reported dot products, and `fits_packed` has shown that all rows and tiles lie
        // inside the slices.
        unsafe { packed::<false>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

/// Tile by tile, each for blocks of rows.
///
/// # Safety
///
/// The CPU has the instruction; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "neon")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const i8, weight: *const i8, out: *mut i32) {
    for tile in 0..shape.n / TILE_CHANNELS {
        // SAFETY: the tile lies inside the weight and the output, and the rows of each block inside the shape.
        unsafe {
            let (weight, out) = (weight.add(tile * shape.weight_stride), out.add(tile * shape.out_tile_stride));
            let mut weight_sums = [vdupq_n_s32(0); 4];
            if !SIGNED {
                let mut weight = weight;
                for _ in 0..shape.k / 4 {
                    let weights = load_next_four(&mut weight);
                    weight_sums =
                        four!(|weight_sums, weights| DotProduct::add_products(weight_sums, vdupq_n_s8(1), weights));
                }
                weight_sums = four!(|weight_sums| vshlq_n_s32::<7>(weight_sums));
            }
            let mut m = 0;
            while m < shape.m {
                let (input, out) = (input.add(m * shape.input_stride), out.add(m * shape.out_stride));
                m += match shape.m - m {
                    4.. => packed_block::<SIGNED, 4>(shape, input, weight, out, &weight_sums),
                    2.. => packed_block::<SIGNED, 2>(shape, input, weight, out, &weight_sums),
                    _ => packed_block::<SIGNED, 1>(shape, input, weight, out, &weight_sums),
                };
            }
        }
    }
}

/// M rows × one tile in registers. Returns M.
///
/// # Safety
///
/// As for [`packed`], for the M rows that begin at the pointers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn packed_block<const SIGNED: bool, const M: usize>(
    shape: &MatmulShape,
    input: *const i8,
    mut weight: *const i8,
    out: *mut i32,
    weight_sums: &[int32x4_t; 4],
) -> usize {
    let flip = vdupq_n_s8(if SIGNED { 0 } else { i8::MIN });
    let mut sums = [*weight_sums; M];
    let mut rows: [*const i8; M] = core::array::from_fn(|row| input.wrapping_add(row * shape.input_stride));
    // SAFETY: every row has `shape.k` elements, and the tile so many inputs, four in 64 bytes.
    unsafe {
        for _ in 0..shape.k / 16 {
            let inputs = rows.each_mut().map(|row| veorq_s8(load_next_i8(row), flip));
            add_four::<0, M>(&mut sums, &inputs, load_next_four(&mut weight));
            add_four::<1, M>(&mut sums, &inputs, load_next_four(&mut weight));
            add_four::<2, M>(&mut sums, &inputs, load_next_four(&mut weight));
            add_four::<3, M>(&mut sums, &inputs, load_next_four(&mut weight));
        }
        for k in (shape.k & !15..shape.k).step_by(4) {
            let inputs = core::array::from_fn(|row| {
                let row = input.add(row * shape.input_stride + k);
                veorq_s8(vreinterpretq_s8_s32(vdupq_n_s32(row.cast::<i32>().read_unaligned())), flip)
            });
            add_four::<0, M>(&mut sums, &inputs, load_next_four(&mut weight));
        }
        for row in 0..M {
            let mut out = out.add(row * shape.out_stride);
            for sums in sums[row] {
                store_next_i32(&mut out, sums);
            }
        }
    }
    M
}

/// Adds what four of the inputs give.
///
/// # Safety
///
/// The CPU has the instruction.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_four<const FOUR: usize, const M: usize>(
    sums: &mut [[int32x4_t; 4]; M],
    inputs: &[int8x16_t; M],
    weights: [int8x16_t; 4],
) {
    for row in 0..M {
        let (of_row, input) = (sums[row], inputs[row]);
        // SAFETY: the caller's promise.
        sums[row] = four!(|of_row, weights| unsafe { add_products_of_four::<FOUR>(of_row, input, weights) });
    }
}
