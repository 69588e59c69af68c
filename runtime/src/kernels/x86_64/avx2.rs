//! AVX2: int8 widened to int16, `vpmaddwd` into int32. Exact for every input, no saturating step.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::kernels::rows::rows;
use crate::kernels::{Kernels, MatmulShape, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::softmax::RowScale;

/// Handed out by `available()` only after the CPU reported AVX2.
pub(super) static AVX2: Kernels = Kernels {
    name: "avx2",
    weight_layout: WeightLayout::Vnni16x4,
    matmul_i8,
    matmul_u8_i8,
    matmul_packed_i8,
    matmul_packed_u8_i8,
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
};

rows!("avx2", lanes_avx2);

/// Rows that are widened at a time, and inputs of each.
const ROWS: usize = 6;
const INPUTS: usize = 512;

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits_packed` has shown that all rows and tiles lie inside
    // the slices.
    unsafe { packed(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
}

fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits_packed` has shown that all rows and tiles lie inside
    // the slices.
    unsafe { packed(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
}

/// Some rows and some inputs at a time are widened, and multiplied with every tile.
///
/// # Safety
///
/// The CPU has AVX2; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx2")]
unsafe fn packed<T: Widen>(shape: &MatmulShape, input: *const T, weight: *const i8, out: *mut i32) {
    let mut wide = [[0i16; INPUTS]; ROWS];
    let ahead = shape.bytes_to_next_weights(shape.n / TILE_CHANNELS);
    let mut m = 0;
    while m < shape.m {
        let rows = match shape.m - m {
            6 | 7 | 9.. => 6,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let mut first = 0;
        // Once for no inputs, too: then all sums are 0.
        while first < shape.k.max(1) {
            let inputs = (shape.k - first).min(INPUTS);
            let ahead = if m == 0 { ahead } else { 0 };
            for (row, wide) in wide[..rows].iter_mut().enumerate() {
                // SAFETY: `inputs` elements of a row of the shape, from `first` on; a row of `wide` has room for them.
                unsafe { widen(input.add((m + row) * shape.input_stride + first), &mut wide[..inputs]) }
            }
            for tile in 0..shape.n / TILE_CHANNELS {
                // SAFETY: the tile, its inputs from `first` on, and its rows from `m` on lie inside the shape.
                unsafe {
                    let weight = weight.add(tile * shape.weight_stride + first * TILE_CHANNELS);
                    let out = out.add(tile * shape.out_tile_stride + m * shape.out_stride);
                    match rows {
                        6 => packed_block::<6>(&wide, inputs, weight, ahead, out, shape.out_stride, first > 0),
                        4 => packed_block::<4>(&wide, inputs, weight, ahead, out, shape.out_stride, first > 0),
                        2 => packed_block::<2>(&wide, inputs, weight, ahead, out, shape.out_stride, first > 0),
                        _ => packed_block::<1>(&wide, inputs, weight, ahead, out, shape.out_stride, first > 0),
                    }
                }
            }
            first += INPUTS;
        }
        m += rows;
    }
}

/// Widens as many elements as `wide` has room for.
///
/// # Safety
///
/// The CPU has AVX2; the elements are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen<T: Widen>(from: *const T, wide: &mut [i16]) {
    let (chunks, tail) = wide.as_chunks_mut::<16>();
    let whole = 16 * chunks.len();
    for (i, chunk) in chunks.iter_mut().enumerate() {
        // SAFETY: sixteen elements from `16 i` on are readable; the store is unaligned.
        unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), T::widen(from.add(16 * i))) };
    }
    for (i, wide) in tail.iter_mut().enumerate() {
        // SAFETY: element `whole + i` is readable.
        *wide = unsafe { (*from.add(whole + i)).into() };
    }
}

/// M rows × one tile in registers; the sums are added to `out` where it has those of earlier inputs. Asks for the weights that are so many
/// bytes ahead.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is a multiple of 4, at most [`INPUTS`]; the tile's weights for so many inputs are readable; M rows of
/// sixteen elements, `out_stride` apart, are writable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn packed_block<const M: usize>(
    wide: &[[i16; INPUTS]; ROWS],
    inputs: usize,
    weight: *const i8,
    ahead: usize,
    out: *mut i32,
    out_stride: usize,
    add: bool,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    let mut k = 0;
    while k < inputs {
        _mm_prefetch::<_MM_HINT_T1>(weight.wrapping_add(k * TILE_CHANNELS + ahead));
        // Four channels × four inputs in each vector; then eight channels × two inputs, in the order 0 1 4 5 2 3 6 7.
        // SAFETY: `k + 4 ≤ inputs`, so 64 weights are readable.
        let [a, b, c, d] = core::array::from_fn(|i| unsafe { i8::widen(weight.add(k * TILE_CHANNELS + 16 * i)) });
        for (pair, w) in [[even(a, b), even(c, d)], [odd(a, b), odd(c, d)]].into_iter().enumerate() {
            for row in 0..M {
                // SAFETY: `k + 4 ≤ inputs`, and a row of `wide` has room for so many.
                let two = unsafe { wide[row].as_ptr().add(k + 2 * pair).cast::<i32>().read_unaligned() };
                let x = _mm256_set1_epi32(two);
                for half in 0..2 {
                    sums[row][half] = _mm256_add_epi32(sums[row][half], _mm256_madd_epi16(x, w[half]));
                }
            }
        }
        k += 4;
    }
    for row in 0..M {
        for half in 0..2 {
            let sum = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums[row][half]);
            // SAFETY: the row has sixteen elements; loads and stores are unaligned.
            unsafe {
                let out = out.add(row * out_stride + 8 * half).cast();
                let before = if add { _mm256_loadu_si256(out) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(out, _mm256_add_epi32(before, sum));
            }
        }
    }
}

/// The even 32-bit lanes of two vectors, 128 bits by 128 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn even(a: __m256i, b: __m256i) -> __m256i {
    let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b))
}

/// The odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn odd(a: __m256i, b: __m256i) -> __m256i {
    let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b))
}

/// How sixteen bytes of a type become sixteen int16.
trait Widen: Copy + Into<i16> + Into<i32> {
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
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits` has shown that all rows lie inside the slices.
    unsafe { matmul(shape, input, weight, out) }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
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
                _mm_prefetch::<_MM_HINT_T0>(weight.as_ptr().wrapping_add(ahead + column * shape.weight_stride + k));
            }
        }
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
                let x: i32 = input[row * shape.input_stride + k].into();
                sum += x * i32::from(weight[column * shape.weight_stride + k]);
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
