//! AVX2: packed weights are multiplied as bytes, taken apart so that `vpmaddubsw` does not saturate. Exact for every input.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::row_major::{matmul_i8, matmul_u8_i8};
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

rows!("avx2", lanes_avx2);

/// Rows and inputs that are taken apart at a time: with the weights of four tiles for so many inputs, they fill the first-level cache.
const ROWS: usize = 32;
const INPUTS: usize = 256;

/// A byte of each of some inputs.
type Inputs = [MaybeUninit<__m256i>; INPUTS / 32];

/// Some inputs of some rows, taken apart: `a · w = |a| · (w ^ s) + |a ∧ s|`, where `s` has all bits of a negative `a`, and none of another;
/// there, `−w = (w ^ s) + 1`.
///
/// So `vpmaddubsw` can multiply them: the sum of two products `|a| · (w ^ s)` is −32768 at least, and 32512 at most. Where four magnitudes
/// are [`LARGEST_FOUR`] together, so is the sum of their products, and `vpmaddwd` is needed half as often.
struct Rows {
    magnitudes: [Inputs; ROWS],
    signs: [Inputs; ROWS],
    /// The sum of `|a ∧ s|` over the inputs of a row.
    negative: [i32; ROWS],
    /// A bit for every eight inputs: whether there are four among them whose magnitudes are larger than [`LARGEST_FOUR`] together.
    large: [u32; ROWS],
}

/// `−128 · 256 = −32768`.
const LARGEST_FOUR: i16 = 256;

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits_packed` has shown that all rows and tiles lie inside
    // the slices.
    unsafe { packed::<true>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
}

fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported AVX2, and `fits_packed` has shown that all rows and tiles lie inside
    // the slices.
    unsafe { packed::<false>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
}

/// Some rows and some inputs at a time, with four tiles in turn. Inputs that are not signed lose 128, and 128 times the sum of each channel's
/// weights is given back.
///
/// # Safety
///
/// The CPU has AVX2; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx2")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const u8, weight: *const i8, out: *mut i32) {
    const UNKNOWN: Inputs = [MaybeUninit::uninit(); INPUTS / 32];
    let mut rows = Rows { magnitudes: [UNKNOWN; ROWS], signs: [UNKNOWN; ROWS], negative: [0; ROWS], large: [0; ROWS] };
    let tiles = shape.n / TILE_CHANNELS;
    for first_row in (0..shape.m).step_by(ROWS) {
        let count = (shape.m - first_row).min(ROWS);
        // The first rows ask for the weights that come next, each for a part of one of four tiles.
        let ahead = if first_row == 0 { shape.bytes_to_next_weights(tiles) } else { 0 };
        let row_ahead = (8 * TILE_CHANNELS).div_ceil(count.div_ceil(4));
        // Once for no inputs, too: then all sums are 0.
        for first in (0..shape.k.max(1)).step_by(INPUTS) {
            let inputs = (shape.k - first).min(INPUTS);
            for row in 0..count {
                // SAFETY: `inputs` elements of a row of the shape, from `first` on; `row` is below `ROWS`.
                unsafe {
                    let input = input.add((first_row + row) * shape.input_stride + first);
                    take_apart::<SIGNED>(input, inputs, &mut rows, row);
                }
            }
            let mut index = 0;
            while index < tiles {
                // SAFETY: the tiles, their inputs from `first` on, and their rows from `first_row` on lie inside the shape; `inputs` of them
                // have been taken apart.
                unsafe {
                    let weight = weight.add(index * shape.weight_stride + first * TILE_CHANNELS);
                    let out = out.add(index * shape.out_tile_stride + first_row * shape.out_stride);
                    let block =
                        Block { shape, rows: &rows, count, weight, inputs, ahead, row_ahead, out, add: first > 0 };
                    index += match tiles - index {
                        4.. => packed_rows::<SIGNED, 4>(&block),
                        2.. => packed_rows::<SIGNED, 2>(&block),
                        _ => packed_rows::<SIGNED, 1>(&block),
                    };
                }
            }
        }
    }
}

/// Takes some inputs of a row apart; behind them there are zeros.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is at most [`INPUTS`], and so many are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn take_apart<const SIGNED: bool>(from: *const u8, inputs: usize, rows: &mut Rows, row: usize) {
    let zero = _mm256_setzero_si256();
    let flip = _mm256_set1_epi8(if SIGNED { 0 } else { i8::MIN });
    let (mut negative, mut large, mut bit) = (zero, 0, 0);
    let mut parts = rows.magnitudes[row].iter_mut().zip(&mut rows.signs[row]);
    let mut take_apart = |bytes| {
        let bytes = _mm256_xor_si256(bytes, flip);
        let (magnitudes, signs) = (_mm256_abs_epi8(bytes), _mm256_cmpgt_epi8(zero, bytes));
        negative = _mm256_add_epi64(negative, _mm256_sad_epu8(_mm256_and_si256(magnitudes, signs), zero));
        // Inputs 0, 1, 4 and 5 of each eight, and 2, 3, 6 and 7: their products are added to each other.
        let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_set1_epi8(1));
        let fours = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b10_11_00_01>(pairs));
        let large_fours = _mm256_cmpgt_epi16(fours, _mm256_set1_epi16(LARGEST_FOUR));
        let small = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(large_fours, zero)));
        large |= (small as u32 ^ 0b1111) << bit;
        bit += 4;
        if let Some((magnitude, sign)) = parts.next() {
            magnitude.write(magnitudes);
            sign.write(signs);
        }
    };
    let whole = inputs & !31;
    for first in (0..whole).step_by(32) {
        // SAFETY: 32 inputs are readable from `first` on; the load is unaligned.
        take_apart(unsafe { _mm256_loadu_si256(from.add(first).cast()) });
    }
    if whole < inputs {
        let mut last = [if SIGNED { 0 } else { 128 }; 32];
        // SAFETY: so many inputs are left, fewer than 32; the load is unaligned.
        take_apart(unsafe {
            from.add(whole).copy_to_nonoverlapping(last.as_mut_ptr(), inputs - whole);
            _mm256_loadu_si256(last.as_ptr().cast())
        });
    }
    rows.negative[row] = horizontal_sum(negative);
    rows.large[row] = large;
}

/// 128 times the sums of a tile's weights for some inputs.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is a multiple of 4, and the tile's weights for so many are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weight_sums(weight: *const i8, inputs: usize) -> [__m256i; 2] {
    let mut sums = [_mm256_setzero_si256(); 2];
    for first in (0..inputs).step_by(4) {
        for half in 0..2 {
            // SAFETY: 64 weights of these four inputs are readable; the load is unaligned.
            let weights = unsafe { _mm256_loadu_si256(weight.add(TILE_CHANNELS * first + 32 * half).cast()) };
            sums[half] = multiply_add(sums[half], _mm256_set1_epi8(i8::MIN), weights);
        }
    }
    sums
}

/// Adds four products to each sum, of unsigned by signed bytes; the sum of two products fits int16.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_add(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(unsigned, signed);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Some rows and some inputs of some tiles.
struct Block<'a> {
    shape: &'a MatmulShape,
    rows: &'a Rows,
    /// Rows there are.
    count: usize,
    weight: *const i8,
    /// Inputs there are.
    inputs: usize,
    /// So many bytes on are the weights that come next; 0 if they have been asked for.
    ahead: usize,
    /// Of these, as many bytes as a row asks for with eight inputs.
    row_ahead: usize,
    out: *mut i32,
    /// Whether there are sums of earlier inputs, to be added to.
    add: bool,
}

/// All rows with T tiles. Returns T.
///
/// # Safety
///
/// The CPU has AVX2; `block.inputs` is a multiple of 4, at most [`INPUTS`]; so many have been taken apart of `block.count` rows, and are
/// readable of T tiles; as many rows of sixteen elements are writable for each, and have been written where they are added to.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn packed_rows<const SIGNED: bool, const T: usize>(block: &Block<'_>) -> usize {
    let mut offsets = [[_mm256_setzero_si256(); 2]; T];
    if !SIGNED {
        for tile in 0..T {
            // SAFETY: the weights of so many inputs are readable in each of the T tiles.
            offsets[tile] = unsafe { weight_sums(block.weight.add(tile * block.shape.weight_stride), block.inputs) };
        }
    }
    for row in 0..block.count {
        // SAFETY: the row is one of those of the block.
        unsafe { packed_row(block, row, &offsets) };
    }
    T
}

/// One row × T tiles in registers; the weights are operands in memory.
///
/// # Safety
///
/// As for [`packed_rows`], for one of its rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn packed_row<const T: usize>(block: &Block<'_>, row: usize, offsets: &[[__m256i; 2]; T]) {
    let Block { rows, weight, inputs, ahead, row_ahead, .. } = *block;
    let MatmulShape { weight_stride, out_stride, out_tile_stride, .. } = *block.shape;
    let negative = _mm256_set1_epi32(rows.negative[row]);
    let mut sums = *offsets;
    for tile in 0..T {
        for half in 0..2 {
            sums[tile][half] = _mm256_add_epi32(sums[tile][half], negative);
        }
    }
    // Pointers go on by constants, so that the loop does little else than multiply.
    let mut weights: [*const i8; T] = core::array::from_fn(|tile| weight.wrapping_add(tile * weight_stride));
    // Of the next weights, a part of one tile.
    let mut next = weight.wrapping_add(ahead + row % T * weight_stride + row_ahead * inputs / 8 * (row / T));
    let magnitudes = rows.magnitudes[row].as_ptr().cast::<u8>();
    let signs = rows.signs[row].as_ptr().cast::<u8>();
    let four_at = |k: usize| {
        // SAFETY: these four inputs have been taken apart.
        let (magnitudes, signs) =
            unsafe { (magnitudes.add(k).cast::<i32>().read(), signs.add(k).cast::<i32>().read()) };
        (_mm256_set1_epi32(magnitudes), _mm256_set1_epi32(signs))
    };
    let mut large = rows.large[row];
    let mut k = 0;
    while k + 8 <= inputs {
        _mm_prefetch::<_MM_HINT_T1>(next);
        next = next.wrapping_add(row_ahead);
        let (first, second) = (four_at(k), four_at(k + 4));
        for tile in 0..T {
            // SAFETY: 128 weights of these eight inputs are readable in each tile.
            unsafe {
                if large & 1 == 0 {
                    multiply_add_eight(&mut sums[tile], first, second, weights[tile]);
                } else {
                    multiply_add_four(&mut sums[tile], first, weights[tile]);
                    multiply_add_four(&mut sums[tile], second, weights[tile].add(4 * TILE_CHANNELS));
                }
            }
            weights[tile] = weights[tile].wrapping_add(8 * TILE_CHANNELS);
        }
        large >>= 1;
        k += 8;
    }
    if k < inputs {
        for tile in 0..T {
            // SAFETY: 64 weights of these four inputs are readable in each tile.
            unsafe { multiply_add_four(&mut sums[tile], four_at(k), weights[tile]) };
        }
    }
    for tile in 0..T {
        for half in 0..2 {
            // SAFETY: the row has sixteen elements in each tile; loads and stores are unaligned.
            unsafe {
                let out = block.out.add(tile * out_tile_stride + row * out_stride + 8 * half).cast();
                let before = if block.add { _mm256_loadu_si256(out) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(out, _mm256_add_epi32(before, sums[tile][half]));
            }
        }
    }
}

/// Adds the products of four inputs to the sums of a tile.
///
/// # Safety
///
/// The CPU has AVX2, and 64 weights are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply_add_four(sums: &mut [__m256i; 2], (magnitudes, signs): (__m256i, __m256i), weights: *const i8) {
    for half in 0..2 {
        // SAFETY: the caller's weights; the load is unaligned.
        let weights = unsafe { _mm256_loadu_si256(weights.add(32 * half).cast()) };
        sums[half] = multiply_add(sums[half], magnitudes, _mm256_xor_si256(weights, signs));
    }
}

/// The same for eight inputs, of which no four that are added to each other are larger than [`LARGEST_FOUR`] together. In this order, of those
/// that need three registers, which are all there are, no unit waits for another.
///
/// # Safety
///
/// The CPU has AVX2, and 128 bytes are readable there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply_add_eight(
    [low, high]: &mut [__m256i; 2],
    (magnitudes, signs): (__m256i, __m256i),
    (other_magnitudes, other_signs): (__m256i, __m256i),
    weights: *const i8,
) {
    // SAFETY: the caller's bytes; the loads are unaligned.
    unsafe {
        asm!(
            "vpxor {a}, {signs}, ymmword ptr [{weights}]",
            "vpxor {b}, {signs}, ymmword ptr [{weights} + 32]",
            "vpxor {c}, {other_signs}, ymmword ptr [{weights} + 64]",
            "vpmaddubsw {a}, {magnitudes}, {a}",
            "vpmaddubsw {c}, {other_magnitudes}, {c}",
            "vpaddw {a}, {a}, {c}",
            "vpmaddwd {a}, {a}, {ones}",
            "vpxor {c}, {other_signs}, ymmword ptr [{weights} + 96]",
            "vpmaddubsw {c}, {other_magnitudes}, {c}",
            "vpaddd {low}, {low}, {a}",
            "vpmaddubsw {b}, {magnitudes}, {b}",
            "vpaddw {b}, {b}, {c}",
            "vpmaddwd {b}, {b}, {ones}",
            "vpaddd {high}, {high}, {b}",
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            c = out(ymm_reg) _,
            low = inout(ymm_reg) *low,
            high = inout(ymm_reg) *high,
            magnitudes = in(ymm_reg) magnitudes,
            signs = in(ymm_reg) signs,
            other_magnitudes = in(ymm_reg) other_magnitudes,
            other_signs = in(ymm_reg) other_signs,
            ones = in(ymm_reg) _mm256_set1_epi16(1),
            weights = in(reg) weights,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}

/// The sum of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn horizontal_sum(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v));
    _mm_cvtsi128_si32(v)
}
