//! AVX-512 VNNI: `vpdpbusd`, which multiplies u8 by int8, four products a lane.
//!
//! Where both sides are int8, one is shifted to u8 by 128 (one xor), and 128 times the sum of the other is taken back.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::unsigned_rows::{INPUTS, ROWS, UnsignedRows};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::kernels::rows::rows;
use crate::kernels::scalar::SCALAR;
use crate::kernels::{Kernels, MatmulShape, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::softmax::RowScale;

/// Handed out by `available()` only after the CPU reported AVX-512 F, BW, VL and VNNI.
pub(super) static AVX512VNNI: Kernels = Kernels {
    name: "avx512vnni",
    weight_layout: WeightLayout::Vnni16x4,
    matmul_i8,
    matmul_packed_i8,
    matmul_packed_u8_i8,
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
    ..SCALAR
};

rows!("avx512f,avx512bw,avx512vl,avx512vnni", lanes_avx512);

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `fits` has shown that all rows lie inside the slices.
    unsafe { row_major(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
}

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `fits_packed` has shown that all rows and tiles lie
    // inside the slices.
    unsafe { packed::<true>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
}

fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `fits_packed` has shown that all rows and tiles lie
    // inside the slices.
    unsafe { packed::<false>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
}

/// # Safety
///
/// The CPU has the features named; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const u8, weight: *const i8, out: *mut i32) {
    let mut rows = UnsignedRows::EMPTY;
    let tiles = shape.n / TILE_CHANNELS;
    let mut tile = 0;
    while tile < tiles {
        // SAFETY: the tiles lie inside the weight and the output, as the caller has shown.
        tile += unsafe {
            let (weight, out) = (weight.add(tile * shape.weight_stride), out.add(tile * shape.out_tile_stride));
            match tiles - tile {
                4.. => packed_tiles::<SIGNED, 4>(shape, &mut rows, input, weight, out),
                2.. => packed_tiles::<SIGNED, 2>(shape, &mut rows, input, weight, out),
                _ => packed_tiles::<SIGNED, 1>(shape, &mut rows, input, weight, out),
            }
        };
    }
}

/// Some rows and some inputs at a time. Returns T.
///
/// # Safety
///
/// As for [`packed`], for the T tiles that begin at the pointers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed_tiles<const SIGNED: bool, const T: usize>(
    shape: &MatmulShape,
    rows: &mut UnsignedRows,
    input: *const u8,
    weight: *const i8,
    out: *mut i32,
) -> usize {
    // Once for no inputs, too: then all sums are 0.
    for first_input in (0..shape.k.max(1)).step_by(INPUTS) {
        let inputs = (shape.k - first_input).min(INPUTS);
        // 128 times the sum of each channel's weights, from the first rows on.
        let mut weight_sums = [_mm512_setzero_si512(); T];
        for first_row in (0..shape.m).step_by(ROWS) {
            let count = (shape.m - first_row).min(ROWS);
            // Where a layer has few rows, its weights come from memory as fast as they are multiplied: the first rows ask for those that
            // come next, each block for a part of them.
            let ahead = if first_row == 0 { shape.bytes_to_next_weights(T) } else { 0 };
            // SAFETY: these rows, inputs and tiles lie inside the shape.
            unsafe {
                let input = input.add(first_row * shape.input_stride + first_input);
                rows.hold::<SIGNED>(shape, input, (first_row, count), (first_input, inputs));
                let block = Block {
                    shape,
                    rows,
                    inputs,
                    weight: weight.add(first_input * TILE_CHANNELS),
                    ahead,
                    row_ahead: (4 * TILE_CHANNELS).div_ceil(count),
                    out: out.add(first_row * shape.out_stride),
                    add: first_input > 0,
                };
                let mut row = 0;
                while row < count {
                    row += match (count - row, SIGNED && first_row + row == 0) {
                        (4.., true) => packed_block::<true, 4, T>(&block, row, &mut weight_sums),
                        (2.., true) => packed_block::<true, 2, T>(&block, row, &mut weight_sums),
                        (_, true) => packed_block::<true, 1, T>(&block, row, &mut weight_sums),
                        (1, _) => packed_block::<false, 1, T>(&block, row, &mut weight_sums),
                        (2 | 3, _) => packed_block::<false, 2, T>(&block, row, &mut weight_sums),
                        (4 | 5 | 8, _) => packed_block::<false, 4, T>(&block, row, &mut weight_sums),
                        _ => packed_block::<false, 6, T>(&block, row, &mut weight_sums),
                    };
                }
            }
        }
    }
    T
}

/// Some rows and some inputs of some tiles.
struct Block<'a> {
    shape: &'a MatmulShape,
    rows: &'a UnsignedRows,
    /// Inputs there are.
    inputs: usize,
    weight: *const i8,
    /// So many bytes on are the weights that come next; 0 if they have been asked for.
    ahead: usize,
    /// Of these, as many bytes as a row asks for with four inputs.
    row_ahead: usize,
    out: *mut i32,
    /// Whether there are sums of earlier inputs, to be added to.
    add: bool,
}

/// M rows × T tiles in registers: with six and four, all are at work. Returns M. The first block also sums the weights.
///
/// # Safety
///
/// As for [`packed_tiles`], for M rows from `first` on, which `block.rows` holds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed_block<const FIRST: bool, const M: usize, const T: usize>(
    block: &Block<'_>,
    first: usize,
    weight_sums: &mut [__m512i; T],
) -> usize {
    let MatmulShape { weight_stride, out_stride, out_tile_stride, .. } = *block.shape;
    let rows = block.rows.row(first);
    let mut sums = [[_mm512_setzero_si512(); T]; M];
    let mut of_weights = *weight_sums;
    let mut weights = [block.weight; T];
    // Of the next weights, as large a part as these rows are of all.
    let mut next = [block.weight.wrapping_add(block.ahead + block.row_ahead * block.inputs / 4 * first); T];
    for tile in 1..T {
        weights[tile] = weights[tile - 1].wrapping_add(weight_stride);
        next[tile] = next[tile - 1].wrapping_add(weight_stride);
    }
    let step = block.row_ahead * M;
    for k in (0..block.inputs).step_by(4) {
        let mut w = [_mm512_setzero_si512(); T];
        for tile in 0..T {
            // SAFETY: 64 weights of these four inputs are readable in each tile; the load is unaligned, and a prefetch reads nothing.
            unsafe {
                w[tile] = _mm512_loadu_si512(weights[tile].cast());
                _mm_prefetch::<_MM_HINT_T1>(next[tile]);
            }
            weights[tile] = weights[tile].wrapping_add(4 * TILE_CHANNELS);
            next[tile] = next[tile].wrapping_add(step);
            if FIRST {
                of_weights[tile] = _mm512_dpbusd_epi32(of_weights[tile], _mm512_set1_epi8(i8::MIN), w[tile]);
            }
        }
        for row in 0..M {
            // SAFETY: of each row these four inputs are held, and rows begin at a multiple of 4.
            let x = _mm512_set1_epi32(unsafe { rows.add(row * INPUTS + k).cast::<i32>().read() });
            for tile in 0..T {
                sums[row][tile] = _mm512_dpbusd_epi32(sums[row][tile], x, w[tile]);
            }
        }
    }
    *weight_sums = of_weights;
    for row in 0..M {
        for tile in 0..T {
            let sum = _mm512_sub_epi32(sums[row][tile], of_weights[tile]);
            // SAFETY: the row has sixteen elements in each tile; loads and stores are unaligned.
            unsafe {
                let out = block.out.add(tile * out_tile_stride + (first + row) * out_stride).cast();
                let before = if block.add { _mm512_loadu_si512(out) } else { _mm512_setzero_si512() };
                _mm512_storeu_si512(out.cast(), _mm512_add_epi32(before, sum));
            }
        }
    }
    M
}

/// Blocks of up to 4 × 4 dot products over 64 elements at a time; the weights are what is shifted to u8.
///
/// # Safety
///
/// The CPU has the features named; `shape.fits` holds for the memory behind the pointers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row_major(shape: &MatmulShape, input: *const i8, weight: *const i8, out: *mut i32) {
    let mut m = 0;
    while m < shape.m {
        let mut n = 0;
        let rows = if shape.m - m >= 4 { 4 } else { 1 };
        while n < shape.n {
            // SAFETY: rows and columns of each block lie inside the shape that the caller has shown to fit.
            unsafe {
                let (input, weight) = (input.add(m * shape.input_stride), weight.add(n * shape.weight_stride));
                let out = out.add(m * shape.out_stride + n);
                // The vocabulary comes from memory slower than it is multiplied: the first rows ask for the next tile of it.
                let ahead = if m == 0 { shape.n * shape.weight_stride } else { 0 };
                n += match (rows, shape.n - n) {
                    (4, 4..) => row_major_block::<4, 4>(shape, input, weight, ahead, out),
                    (4, _) => row_major_block::<4, 1>(shape, input, weight, ahead, out),
                    (_, 16..) => row_major_block::<1, 16>(shape, input, weight, ahead, out),
                    (_, 4..) => row_major_block::<1, 4>(shape, input, weight, ahead, out),
                    _ => row_major_block::<1, 1>(shape, input, weight, ahead, out),
                };
            }
        }
        m += rows;
    }
}

/// M rows × N columns in registers. Returns N.
///
/// # Safety
///
/// As for [`row_major`], for the block that begins at the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row_major_block<const M: usize, const N: usize>(
    shape: &MatmulShape,
    input: *const i8,
    weight: *const i8,
    ahead: usize,
    out: *mut i32,
) -> usize {
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [[_mm512_setzero_si512(); N]; M];
    let mut input_sums = [_mm512_setzero_si512(); M];
    let mut k = 0;
    while k < shape.k {
        let left = shape.k - k;
        let mask: __mmask64 = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        // SAFETY: the mask reads no element at or behind `shape.k` of its row, and all rows can be read; a prefetch reads nothing.
        unsafe {
            // Inputs that are masked off are 0, so what the flip makes of such weights does not count.
            let x: [__m512i; M] =
                core::array::from_fn(|row| _mm512_maskz_loadu_epi8(mask, input.add(row * shape.input_stride + k)));
            for row in 0..M {
                input_sums[row] = _mm512_dpbusd_epi32(input_sums[row], flip, x[row]);
            }
            for column in 0..N {
                let weight = weight.add(column * shape.weight_stride + k);
                _mm_prefetch::<_MM_HINT_T0>(weight.wrapping_add(ahead));
                let w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, weight), flip);
                for row in 0..M {
                    sums[row][column] = _mm512_dpbusd_epi32(sums[row][column], w, x[row]);
                }
            }
        }
        k += 64;
    }
    for row in 0..M {
        let input_sum = _mm512_reduce_add_epi32(input_sums[row]);
        // SAFETY: the row has N elements from `out` on; the store is masked to them.
        unsafe {
            let out = out.add(row * shape.out_stride);
            if N == 1 {
                *out = _mm512_reduce_add_epi32(sums[row][0]) - input_sum;
            } else {
                for first in (0..N).step_by(4) {
                    let four = horizontal_sums(core::array::from_fn(|i| sums[row][first + i]));
                    _mm_storeu_si128(out.add(first).cast(), _mm_sub_epi32(four, _mm_set1_epi32(input_sum)));
                }
            }
        }
    }
    N
}

/// The sums of the lanes of four vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn horizontal_sums([a, b, c, d]: [__m512i; 4]) -> __m128i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let abcd = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
    _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256::<1>(abcd))
}
