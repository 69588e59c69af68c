//! AVX2: products with row-major weights, widened to int16 for `vpmaddwd`. Exact for every input.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::avx2::horizontal_sum;
use crate::kernels::MatmulShape;

/// How bytes of a type become int16.
trait Widen: Copy + Into<i32> {
    /// Sixteen, in order.
    ///
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

pub(super) fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits` has shown that all rows lie inside the slices.
    unsafe { matmul(shape, input, weight, out) }
}

pub(super) fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits` has shown that all rows lie inside the slices.
    unsafe { matmul(shape, input, weight, out) }
}

/// # Safety
///
/// The CPU has AVX2, and `shape.fits` holds for the slices.
#[target_feature(enable = "avx2")]
unsafe fn matmul<T: Widen>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    let mut m = 0;
    while m < shape.m {
        let rows = (shape.m - m).min(2);
        let mut n = 0;
        while n < shape.n {
            let columns = (shape.n - n).min(4);
            // SAFETY: AVX2 as above; the block of rows × columns starts inside the shape that `fits` has shown to fit.
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
    // The vocabulary comes from memory slower than it is multiplied: the first rows ask for the next tile of it.
    let ahead = if m == 0 { shape.n * shape.weight_stride } else { 0 };
    let mut k = 0;
    while k < whole {
        if k % 64 == 0 {
            for column in 0..N {
                _mm_prefetch::<_MM_HINT_T1>(weight.as_ptr().wrapping_add(ahead + column * shape.weight_stride + k));
            }
        }
        // SAFETY: `k + 16 ≤ shape.k`, and each of the M and N rows has `shape.k` readable elements from its start.
        unsafe {
            let mut x = [_mm256_setzero_si256(); M];
            for row in 0..M {
                x[row] = T::widen(input.as_ptr().add(row * shape.input_stride + k));
            }
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
                let x: i32 = input[row * shape.input_stride + k].into();
                sum += x * i32::from(weight[column * shape.weight_stride + k]);
            }
            out[(m + row) * shape.out_stride + n + column] = sum;
        }
    }
}
