//! AVX2: int8 widened to int16, `vpmaddwd` into int32. Exact for every input, no saturating step.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::rows::rows;
use crate::format::layout::WeightLayout;
use crate::kernels::scalar::SCALAR;
use crate::kernels::{Kernels, MatmulShape, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::softmax::RowScale;

/// Handed out by `available()` only after the CPU reported AVX2.
pub(super) static AVX2: Kernels = Kernels {
    name: "avx2",
    weight_layout: WeightLayout::RowMajor,
    matmul_i8,
    matmul_packed_i8: matmul_i8,
    matmul_u8_i8,
    scale_rows,
    scale_accumulators,
    requantize,
    add_residual,
    activate_tile,
    quantize_smoothed,
    quantize_i16,
    quantize_i32,
    softmax_row,
    average_row,
    layer_norm_sums,
    layer_norm,
    ..SCALAR
};

rows!("avx2", lanes_avx2);

/// How sixteen bytes of a type become sixteen int16.
trait Widen: Copy + Into<i32> {
    /// # Safety
    ///
    /// The CPU has AVX2 and 16 bytes are readable at `at`.
    unsafe fn widen(at: *const Self) -> __m256i;
}

impl Widen for i8 {
    #[inline(always)]
    unsafe fn widen(at: *const i8) -> __m256i {
        // SAFETY: the caller has 16 readable bytes and AVX2; the load is unaligned.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) }
    }
}

impl Widen for u8 {
    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m256i {
        // SAFETY: the caller has 16 readable bytes and AVX2; the load is unaligned.
        unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast())) }
    }
}

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `check` has shown that all rows lie inside the slices.
    unsafe { matmul(shape, input, weight, out) }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `check` has shown that all rows lie inside the slices.
    unsafe { matmul(shape, input, weight, out) }
}

/// # Safety
///
/// The CPU has AVX2, and `shape.check` holds for the slices.
#[target_feature(enable = "avx2")]
unsafe fn matmul<T: Widen>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    let mut m = 0;
    while m < shape.m {
        let rows = (shape.m - m).min(2);
        let mut n = 0;
        while n < shape.n {
            let columns = (shape.n - n).min(4);
            // SAFETY: AVX2 as above; the block of rows × columns starts inside the shape that `check` has shown to fit.
            unsafe {
                match (rows, columns) {
                    (2, 4) => block::<T, 2, 4>(shape, input, weight, out, m, n),
                    (1, 4) => block::<T, 1, 4>(shape, input, weight, out, m, n),
                    (_, columns) => {
                        for row in 0..rows {
                            for column in 0..columns {
                                block::<T, 1, 1>(shape, input, weight, out, m + row, n + column);
                            }
                        }
                    }
                }
            }
            n += columns;
        }
        m += rows;
    }
}

/// # Safety
///
/// The CPU has AVX2; rows `m..m + M` and columns `n..n + N` lie inside the shape, and the shape inside the slices.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn block<T: Widen, const M: usize, const N: usize>(
    shape: &MatmulShape,
    input: &[T],
    weight: &[i8],
    out: &mut [i32],
    m: usize,
    n: usize,
) {
    let input = &input[m * shape.input_stride..];
    let weight = &weight[n * shape.weight_stride..];
    let mut sums = [[_mm256_setzero_si256(); N]; M];
    let whole = shape.k & !15;
    let mut k = 0;
    while k < whole {
        // SAFETY: `k + 16 ≤ shape.k`, and each of the M and N rows has `shape.k` readable elements from its start.
        unsafe {
            let x: [__m256i; M] = core::array::from_fn(|m| T::widen(input.as_ptr().add(m * shape.input_stride + k)));
            for column in 0..N {
                let w = i8::widen(weight.as_ptr().add(column * shape.weight_stride + k));
                for row in 0..M {
                    sums[row][column] = _mm256_add_epi32(sums[row][column], _mm256_madd_epi16(x[row], w));
                }
            }
        }
        k += 16;
    }
    for row in 0..M {
        for column in 0..N {
            let mut sum = horizontal_sum(sums[row][column]);
            for k in whole..shape.k {
                sum += input[row * shape.input_stride + k].into() * i32::from(weight[column * shape.weight_stride + k]);
            }
            out[(m + row) * shape.out_stride + n + column] = sum;
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn horizontal_sum(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v));
    _mm_cvtsi128_si32(v)
}
