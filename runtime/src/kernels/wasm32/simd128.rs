//! `simd128`: int8 widened to int16, `i32x4.dot_i16x8_s` into int32. Exact for every input, no saturating step.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::wasm32::*;

use crate::format::layout::WeightLayout;
use crate::kernels::rows::rows;
use crate::kernels::{Kernels, MatmulShape, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::softmax::RowScale;

/// For modules that are built with vectors.
pub(super) static SIMD128: Kernels = Kernels {
    name: "simd128",
    weight_layout: WeightLayout::RowMajor,
    matmul_i8,
    matmul_u8_i8,
    matmul_packed_i8: matmul_i8,
    matmul_packed_u8_i8: matmul_u8_i8,
    scale_accumulators,
    requantize,
    add_residual,
    activate_tile,
    largest_i16,
    quantize_i16,
    quantize_i32,
    softmax_row,
    average_row,
    layer_norm_sums,
    layer_norm,
};

rows!("simd128", lanes_simd128);

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: the module has vectors, and `fits` has shown that all rows lie inside the slices.
        unsafe { matmul(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: the module has vectors, and `fits` has shown that all rows lie inside the slices.
        unsafe { matmul(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

/// How eight bytes of a type become eight int16.
trait Widen: Copy + Into<i32> {
    /// # Safety
    ///
    /// Eight elements are readable.
    unsafe fn widen(at: *const Self) -> v128;
}

impl Widen for i8 {
    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn widen(at: *const i8) -> v128 {
        // SAFETY: the caller's promise; the load is unaligned.
        unsafe { i16x8_load_extend_i8x8(at) }
    }
}

impl Widen for u8 {
    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn widen(at: *const u8) -> v128 {
        // SAFETY: the caller's promise; the load is unaligned.
        unsafe { i16x8_load_extend_u8x8(at) }
    }
}

/// Blocks of up to two rows and four columns: with more, a machine of sixteen registers would run out of them.
///
/// # Safety
///
/// `shape.fits` holds for the memory behind the pointers.
#[target_feature(enable = "simd128")]
unsafe fn matmul<T: Widen>(shape: &MatmulShape, input: *const T, weight: *const i8, out: *mut i32) {
    for m in (0..shape.m).step_by(2) {
        let mut n = 0;
        while n < shape.n {
            // SAFETY: rows and columns of each block lie inside the shape that the caller has shown to fit.
            unsafe {
                let (input, weight) = (input.add(m * shape.input_stride), weight.add(n * shape.weight_stride));
                let out = out.add(m * shape.out_stride + n);
                n += match (shape.m - m, shape.n - n) {
                    (2.., 4..) => block::<T, 2, 4>(shape, input, weight, out),
                    (2.., _) => block::<T, 2, 1>(shape, input, weight, out),
                    (_, 4..) => block::<T, 1, 4>(shape, input, weight, out),
                    _ => block::<T, 1, 1>(shape, input, weight, out),
                };
            }
        }
    }
}

/// M rows × N columns in registers. Returns N.
///
/// # Safety
///
/// As for [`matmul`], for the block that begins at the pointers.
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn block<T: Widen, const M: usize, const N: usize>(
    shape: &MatmulShape,
    input: *const T,
    weight: *const i8,
    out: *mut i32,
) -> usize {
    let mut sums = [[i32x4_splat(0); N]; M];
    let rows: [*const T; M] = core::array::from_fn(|row| input.wrapping_add(row * shape.input_stride));
    let columns: [*const i8; N] = core::array::from_fn(|column| weight.wrapping_add(column * shape.weight_stride));
    let whole = shape.k & !7;
    let mut k = 0;
    while k < whole {
        // SAFETY: `k + 8 ≤ shape.k`, and each row and column has `shape.k` elements.
        unsafe {
            let x = rows.map(|row| T::widen(row.add(k)));
            for column in 0..N {
                let w = i8::widen(columns[column].add(k));
                for row in 0..M {
                    sums[row][column] = i32x4_add(sums[row][column], i32x4_dot_i16x8(x[row], w));
                }
            }
        }
        k += 8;
    }
    for row in 0..M {
        for column in 0..N {
            let mut sum = horizontal_sum(sums[row][column]);
            for k in whole..shape.k {
                // SAFETY: element `k` of the row and of the column.
                sum += unsafe { (*rows[row].add(k)).into() * i32::from(*columns[column].add(k)) };
            }
            // SAFETY: the row of the output has N elements here.
            unsafe { *out.add(row * shape.out_stride + column) = sum };
        }
    }
    N
}

#[inline]
#[target_feature(enable = "simd128")]
fn horizontal_sum(sums: v128) -> i32 {
    let sums = i32x4_add(sums, i32x4_shuffle::<2, 3, 0, 1>(sums, sums));
    i32x4_extract_lane::<0>(sums) + i32x4_extract_lane::<1>(sums)
}
