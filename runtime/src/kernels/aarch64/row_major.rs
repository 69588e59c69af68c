//! Products with row-major weights: sixteen inputs of a row and of a channel at a time, whatever multiplies them.
#![allow(unsafe_code)]
// Blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;

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
            // SAFETY: the column is a row of the weight.
            unsafe {
                let weight = weight.add(column * shape.weight_stride);
                each_sixteen(shape.k, |at| {
                    *sums = I::add_products(*sums, vdupq_n_s8(1), at.load(weight));
                });
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
    // SAFETY: every row of the block has `k` elements.
    unsafe {
        each_sixteen(shape.k, |at| {
            let mut inputs = [flip; M];
            for row in 0..M {
                inputs[row] = veorq_s8(at.load(input.wrapping_add(row * shape.input_stride)), flip);
            }
            for column in 0..N {
                let weight = at.load(weight.wrapping_add(column * shape.weight_stride));
                for row in 0..M {
                    sums[row][column] = I::add_products(sums[row][column], inputs[row], weight);
                }
            }
        });
    }
    for row in 0..M {
        // SAFETY: a row of the output has N elements here.
        unsafe {
            let out = out.add(row * shape.out_stride);
            if N == 4 {
                let (a, b) = (vpaddq_s32(sums[row][0], sums[row][1]), vpaddq_s32(sums[row][2], sums[row][3]));
                vst1q_s32(out, vpaddq_s32(a, b));
            } else {
                for column in 0..N {
                    *out.add(column) = vaddvq_s32(sums[row][column]);
                }
            }
        }
    }
    M
}

/// Where sixteen elements of every row are, or the last of it.
#[derive(Clone, Copy)]
enum At {
    /// From this one on.
    Whole(usize),
    /// The last of so many, fewer than sixteen of which have not been read.
    Last(usize),
}

impl At {
    /// Sixteen elements; zeros in the place of what is not there, or has been read.
    ///
    /// # Safety
    ///
    /// The elements are readable.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(self, row: *const i8) -> int8x16_t {
        /// What is kept: nothing, then everything.
        static KEPT: [[i8; 16]; 2] = [[0; 16], [-1; 16]];
        // SAFETY: sixteen elements are readable at each place, or as many as are copied.
        unsafe {
            match self {
                Self::Whole(first) => vld1q_s8(row.add(first)),
                Self::Last(k) if k >= 16 => {
                    let kept = vld1q_s8(KEPT.as_ptr().cast::<i8>().add(k % 16));
                    vandq_s8(vld1q_s8(row.add(k - 16)), kept)
                }
                Self::Last(k) => {
                    let mut last = [0; 16];
                    last.as_mut_ptr().copy_from_nonoverlapping(row, k % 16);
                    vld1q_s8(last.as_ptr())
                }
            }
        }
    }
}

/// Calls `add` for every sixteen of `k` elements, and for what is left.
#[inline]
#[target_feature(enable = "neon")]
fn each_sixteen(k: usize, mut add: impl FnMut(At)) {
    let mut first = 0;
    while first + 16 <= k {
        add(At::Whole(first));
        first += 16;
    }
    if first < k {
        add(At::Last(k));
    }
}
