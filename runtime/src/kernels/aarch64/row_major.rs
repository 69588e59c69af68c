//! Products with row-major weights: sixteen inputs of a row and of a channel at a time, whatever multiplies them.
#![allow(unsafe_code)]
// Blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;

use super::memory::{load_i8, load_next_i8, store_next_i32};
use crate::kernels::MatmulShape;

/// How an instruction set multiplies.
pub(super) trait Multiply {
    /// Adds sixteen products to four sums; to which of them does not matter. Weights are −127..=127.
    ///
    /// # Safety
    ///
    /// The CPU has the instructions.
    unsafe fn add_products(sums: int32x4_t, input: int8x16_t, weight: int8x16_t) -> int32x4_t;
}

/// Multiplies int8 inputs; or u8 ones, that are made int8 by taking away 128, and 128 times the sum of the weights is added.
///
/// # Safety
///
/// The CPU has the instructions of `I`; `shape.fits` holds for the memory behind the pointers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn row_major<I: Multiply, const SIGNED: bool>(
    shape: &MatmulShape,
    input: *const i8,
    weight: *const i8,
    out: *mut i32,
) {
    let mut n = 0;
    while n < shape.n {
        // SAFETY: the columns lie inside the shape that the caller has shown to fit.
        n += unsafe {
            let (weight, out) = (weight.add(n * shape.weight_stride), out.add(n));
            if shape.n - n >= 4 {
                columns::<I, SIGNED, 4>(shape, input, weight, out)
            } else {
                columns::<I, SIGNED, 1>(shape, input, weight, out)
            }
        };
    }
}

/// All rows of N columns. Returns N.
///
/// # Safety
///
/// As for [`row_major`], for the columns that begin at the pointers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn columns<I: Multiply, const SIGNED: bool, const N: usize>(
    shape: &MatmulShape,
    input: *const i8,
    weight: *const i8,
    out: *mut i32,
) -> usize {
    let mut weight_sums = [vdupq_n_s32(0); N];
    if !SIGNED {
        for (column, sums) in weight_sums.iter_mut().enumerate() {
            let mut weight = weight.wrapping_add(column * shape.weight_stride);
            // SAFETY: the column is a row of the weight.
            unsafe {
                for _ in 0..shape.k / 16 {
                    *sums = I::add_products(*sums, vdupq_n_s8(1), load_next_i8(&mut weight));
                }
                if !shape.k.is_multiple_of(16) {
                    *sums = I::add_products(*sums, vdupq_n_s8(1), load_last(weight, shape.k));
                }
            }
            *sums = vshlq_n_s32::<7>(*sums);
        }
    }
    let mut m = 0;
    while m < shape.m {
        // SAFETY: the rows lie inside the shape.
        m += unsafe {
            let (input, out) = (input.add(m * shape.input_stride), out.add(m * shape.out_stride));
            if shape.m - m >= 4 {
                block::<I, SIGNED, 4, N>(shape, input, weight, out, &weight_sums)
            } else {
                block::<I, SIGNED, 1, N>(shape, input, weight, out, &weight_sums)
            }
        };
    }
    N
}

/// M rows × N columns in registers. Returns M.
///
/// # Safety
///
/// As for [`row_major`], for the block that begins at the pointers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn block<I: Multiply, const SIGNED: bool, const M: usize, const N: usize>(
    shape: &MatmulShape,
    input: *const i8,
    weight: *const i8,
    out: *mut i32,
    weight_sums: &[int32x4_t; N],
) -> usize {
    let flip = vdupq_n_s8(if SIGNED { 0 } else { i8::MIN });
    let mut sums = [*weight_sums; M];
    let mut rows: [*const i8; M] = core::array::from_fn(|row| input.wrapping_add(row * shape.input_stride));
    let mut columns: [*const i8; N] = core::array::from_fn(|column| weight.wrapping_add(column * shape.weight_stride));
    // SAFETY: every row and column of the block has `k` elements.
    unsafe {
        for _ in 0..shape.k / 16 {
            let inputs = rows.each_mut().map(|row| veorq_s8(load_next_i8(row), flip));
            for column in 0..N {
                let weight = load_next_i8(&mut columns[column]);
                for row in 0..M {
                    sums[row][column] = I::add_products(sums[row][column], inputs[row], weight);
                }
            }
        }
        if !shape.k.is_multiple_of(16) {
            let inputs = rows.map(|row| veorq_s8(load_last(row, shape.k), flip));
            for column in 0..N {
                let weight = load_last(columns[column], shape.k);
                for row in 0..M {
                    sums[row][column] = I::add_products(sums[row][column], inputs[row], weight);
                }
            }
        }
    }
    for row in 0..M {
        // SAFETY: a row of the output has N elements here.
        unsafe {
            let mut out = out.add(row * shape.out_stride);
            if N == 4 {
                let (a, b) = (vpaddq_s32(sums[row][0], sums[row][1]), vpaddq_s32(sums[row][2], sums[row][3]));
                store_next_i32(&mut out, vpaddq_s32(a, b));
            } else {
                for column in 0..N {
                    *out.add(column) = vaddvq_s32(sums[row][column]);
                }
            }
        }
    }
    M
}

/// What is left of a row of `k` elements, fewer than sixteen; zeros in the place of others.
///
/// # Safety
///
/// It is readable, and so is what is before.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_last(left: *const i8, k: usize) -> int8x16_t {
    /// What is kept: nothing, then everything.
    static KEPT: [[i8; 16]; 2] = [[0; 16], [-1; 16]];
    let count = k % 16;
    // SAFETY: the row has sixteen elements, or they are copied to where there are so many.
    unsafe {
        if k >= 16 {
            let kept = load_i8(KEPT.as_ptr().cast::<i8>().add(count));
            vandq_s8(load_i8(left.sub(16 - count)), kept)
        } else {
            let mut last = [0; 16];
            last.as_mut_ptr().copy_from_nonoverlapping(left, count);
            load_i8(last.as_ptr())
        }
    }
}
