//! AVX-512 VNNI: `vpdpbusd`, which multiplies u8 by int8, four products a lane.
//!
//! Where both sides are int8, one is shifted to u8 by 128 (one xor), and 128 times the sum of the other is taken back.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

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

/// Two tiles at a time: with fewer, more is loaded than multiplied.
///
/// # Safety
///
/// The CPU has the features named; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const u8, weight: *const i8, out: *mut i32) {
    let tiles = shape.n / TILE_CHANNELS;
    let mut tile = 0;
    while tile < tiles {
        // SAFETY: the tiles lie inside the weight and the output, as the caller has shown.
        unsafe {
            let (weight, out) = (weight.add(tile * shape.weight_stride), out.add(tile * shape.out_tile_stride));
            if tile + 2 <= tiles {
                packed_tiles::<SIGNED, 2>(shape, input, weight, out);
            } else {
                packed_tiles::<SIGNED, 1>(shape, input, weight, out);
            }
        }
        tile += 2;
    }
}

/// # Safety
///
/// As for [`packed`], for the T tiles that begin at the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed_tiles<const SIGNED: bool, const T: usize>(
    shape: &MatmulShape,
    input: *const u8,
    weight: *const i8,
    out: *mut i32,
) {
    // 128 times the sum of each channel's weights, from the first block on.
    let mut weight_sums = [_mm512_setzero_si512(); T];
    // Where a layer has few rows, its weights come from memory as fast as they are multiplied: while these are, the next are asked for,
    // by all blocks in turn.
    let bytes = shape.k * TILE_CHANNELS;
    let ahead = shape.bytes_to_next_weights(T);
    let blocks = shape.m.div_ceil(8);
    let mut m = 0;
    while m < shape.m {
        let (tile, part) = (m / 8 * T / blocks, m / 8 * T % blocks);
        let next = weight.wrapping_add(ahead + tile * shape.weight_stride + bytes * part / blocks);
        // SAFETY: the caller's tiles; the rows of each block lie inside the shape.
        unsafe {
            let (input, out) = (input.add(m * shape.input_stride), out.add(m * shape.out_stride));
            let block = Block { shape, input, weight, out, next, step: TILE_CHANNELS * 4 * T / blocks };
            m += match (shape.m - m, SIGNED && m == 0) {
                (8.., false) => packed_block::<SIGNED, false, 8, T>(block, &mut weight_sums),
                (4.., false) => packed_block::<SIGNED, false, 4, T>(block, &mut weight_sums),
                (2.., false) => packed_block::<SIGNED, false, 2, T>(block, &mut weight_sums),
                (_, false) => packed_block::<SIGNED, false, 1, T>(block, &mut weight_sums),
                (8.., true) => packed_block::<true, true, 8, T>(block, &mut weight_sums),
                (4.., true) => packed_block::<true, true, 4, T>(block, &mut weight_sums),
                (2.., true) => packed_block::<true, true, 2, T>(block, &mut weight_sums),
                (_, true) => packed_block::<true, true, 1, T>(block, &mut weight_sums),
            };
        }
    }
}

/// Some rows of some tiles.
struct Block<'a> {
    shape: &'a MatmulShape,
    input: *const u8,
    weight: *const i8,
    out: *mut i32,
    /// Weights to be asked for.
    next: *const i8,
    /// How far on after every four inputs.
    step: usize,
}

/// M rows × T tiles in registers. Returns M. The first block also sums the weights.
///
/// # Safety
///
/// As for [`packed_tiles`], for the M rows that begin at the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed_block<const SIGNED: bool, const FIRST: bool, const M: usize, const T: usize>(
    block: Block<'_>,
    weight_sums: &mut [__m512i; T],
) -> usize {
    let Block { shape, input, weight, out, mut next, step } = block;
    let flip = _mm512_set1_epi8(if SIGNED { i8::MIN } else { 0 });
    let mut sums = [[_mm512_setzero_si512(); T]; M];
    let mut of_weights = *weight_sums;
    let rows: [*const u8; M] = core::array::from_fn(|row| input.wrapping_add(row * shape.input_stride));
    let mut k = 0;
    while k < shape.k {
        // SAFETY: `k + 4 ≤ shape.k`, so 64 weights of each tile and 4 bytes of each row are readable; loads are unaligned, and a
        // prefetch reads nothing.
        unsafe {
            let w: [__m512i; T] = core::array::from_fn(|tile| {
                _mm512_loadu_si512(weight.add(tile * shape.weight_stride + k * TILE_CHANNELS).cast())
            });
            _mm_prefetch::<_MM_HINT_T1>(next);
            next = next.wrapping_add(step);
            if FIRST {
                for tile in 0..T {
                    of_weights[tile] = _mm512_dpbusd_epi32(of_weights[tile], flip, w[tile]);
                }
            }
            for row in 0..M {
                let four = rows[row].add(k).cast::<i32>().read_unaligned();
                let x = _mm512_xor_si512(_mm512_set1_epi32(four), flip);
                for tile in 0..T {
                    sums[row][tile] = _mm512_dpbusd_epi32(sums[row][tile], x, w[tile]);
                }
            }
        }
        k += 4;
    }
    *weight_sums = of_weights;
    for row in 0..M {
        for tile in 0..T {
            let sum = _mm512_sub_epi32(sums[row][tile], of_weights[tile]);
            // SAFETY: the row has 16 elements in each tile; the store is unaligned.
            unsafe { _mm512_storeu_si512(out.add(row * shape.out_stride + tile * shape.out_tile_stride).cast(), sum) };
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
