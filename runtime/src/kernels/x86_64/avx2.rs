//! AVX2: int8 widened to int16, `vpmaddwd` into int32. Exact for every input, no saturating step.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

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
    quantize_smoothed,
    quantize_i16,
    quantize_i32,
    softmax_row,
    average_row,
    layer_norm_sums,
    layer_norm,
};

rows!("avx2", lanes_avx2);

/// Rows and inputs that are widened at a time: with the weights of a tile for so many inputs, they fit the first-level cache.
const ROWS: usize = 32;
const INPUTS: usize = 256;
/// Four inputs are two pairs: those with even and those with odd numbers.
const GROUPS: usize = INPUTS / 4;

/// Some inputs of a row: the even and the odd pairs of eight groups in turn.
type WideRow = [[MaybeUninit<__m256i>; 2]; GROUPS / 8];
/// The weights of a tile for some inputs: of each group the even pairs of two times eight channels, then the odd ones.
type WideTile = [[[MaybeUninit<__m256i>; 2]; 2]; GROUPS];

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

/// Some rows and some inputs at a time; they, and the weights of each tile for them, are widened once.
///
/// # Safety
///
/// The CPU has AVX2; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx2")]
unsafe fn packed<T: Widen>(shape: &MatmulShape, input: *const T, weight: *const i8, out: *mut i32) {
    let mut rows = [[[MaybeUninit::uninit(); 2]; GROUPS / 8]; ROWS];
    let mut tile = [[[MaybeUninit::uninit(); 2]; 2]; GROUPS];
    let tiles = shape.n / TILE_CHANNELS;
    let ahead = shape.bytes_to_next_weights(tiles);
    for first_row in (0..shape.m).step_by(ROWS) {
        let rows = &mut rows[..(shape.m - first_row).min(ROWS)];
        // Once for no inputs, too: then all sums are 0.
        for first in (0..shape.k.max(1)).step_by(INPUTS) {
            let inputs = (shape.k - first).min(INPUTS);
            for (row, wide) in rows.iter_mut().enumerate() {
                // SAFETY: `inputs` elements of a row of the shape, from `first` on.
                unsafe { widen_row(input.add((first_row + row) * shape.input_stride + first), inputs, wide) }
            }
            for index in 0..tiles {
                // SAFETY: the tile, its inputs from `first` on, and its rows from `first_row` on lie inside the shape; `inputs` of them
                // have been widened.
                unsafe {
                    widen_tile(
                        weight.add(index * shape.weight_stride + first * TILE_CHANNELS),
                        inputs,
                        ahead,
                        &mut tile,
                    );
                    let out = out.add(index * shape.out_tile_stride + first_row * shape.out_stride);
                    packed_rows(rows, &tile, inputs, out, shape.out_stride, first > 0);
                }
            }
        }
    }
}

/// Widens some inputs of a row; behind them there are zeros.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is at most [`INPUTS`], and so many are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen_row<T: Widen>(from: *const T, inputs: usize, wide: &mut WideRow) {
    for (first, [wide_even, wide_odd]) in (0..inputs).step_by(32).zip(wide) {
        // SAFETY: as many inputs as are left from `first` on are readable; the loads are unaligned.
        let bytes = unsafe {
            if inputs - first >= 32 {
                _mm256_loadu_si256(from.add(first).cast())
            } else {
                let mut last = [0u8; 32];
                from.add(first).cast::<u8>().copy_to_nonoverlapping(last.as_mut_ptr(), inputs - first);
                _mm256_loadu_si256(last.as_ptr().cast())
            }
        };
        let [even, odd] = T::split(bytes);
        wide_even.write(even);
        wide_odd.write(odd);
    }
}

/// Widens the weights of a tile for some inputs. Asks for the weights that are so many bytes ahead.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is a multiple of 4, at most [`INPUTS`], and the tile's weights for so many are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen_tile(weight: *const i8, inputs: usize, ahead: usize, wide: &mut WideTile) {
    for (group, [wide_even, wide_odd]) in wide[..inputs / 4].iter_mut().enumerate() {
        let weight = weight.wrapping_add(4 * TILE_CHANNELS * group);
        _mm_prefetch::<_MM_HINT_T1>(weight.wrapping_add(ahead));
        for half in 0..2 {
            // SAFETY: 64 weights of these four inputs are readable; the load is unaligned.
            let [even, odd] = i8::split(unsafe { _mm256_loadu_si256(weight.add(32 * half).cast()) });
            wide_even[half].write(even);
            wide_odd[half].write(odd);
        }
    }
}

/// All rows with one tile; the sums are added to `out` where it has those of earlier inputs.
///
/// # Safety
///
/// The CPU has AVX2; `inputs` is a multiple of 4, at most [`INPUTS`]; so many have been widened of the rows and the tile; as many rows of
/// sixteen elements, `out_stride` apart, are writable, and have been written where they are added to.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn packed_rows(rows: &[WideRow], tile: &WideTile, inputs: usize, out: *mut i32, out_stride: usize, add: bool) {
    let mut rest = rows;
    while let [first, ..] = rest {
        // SAFETY: the rows of each block are among these.
        unsafe {
            let out = out.add((rows.len() - rest.len()) * out_stride);
            let done = match rest.len() {
                6 | 7 | 9.. => packed_block::<6>(first, tile, inputs, out, out_stride, add),
                4.. => packed_block::<4>(first, tile, inputs, out, out_stride, add),
                2.. => packed_block::<2>(first, tile, inputs, out, out_stride, add),
                _ => packed_block::<1>(first, tile, inputs, out, out_stride, add),
            };
            rest = &rest[done..];
        }
    }
}

/// M rows × one tile in registers. Returns M.
///
/// # Safety
///
/// As for [`packed_rows`], for M rows from `rows` on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn packed_block<const M: usize>(
    rows: *const WideRow,
    tile: &WideTile,
    inputs: usize,
    out: *mut i32,
    out_stride: usize,
    add: bool,
) -> usize {
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    for (group, pairs) in tile[..inputs / 4].iter().enumerate() {
        for (pair, weights) in pairs.iter().enumerate() {
            // SAFETY: the weights of this group have been widened.
            let weights = weights.map(|half| unsafe { half.assume_init() });
            for row in 0..M {
                // SAFETY: of each row this group, a lane of a vector, has been widened.
                let two = unsafe { rows.add(row).cast::<i32>().add(16 * (group / 8) + 8 * pair + group % 8).read() };
                let x = _mm256_set1_epi32(two);
                for half in 0..2 {
                    sums[row][half] = _mm256_add_epi32(sums[row][half], _mm256_madd_epi16(x, weights[half]));
                }
            }
        }
    }
    for row in 0..M {
        for half in 0..2 {
            // SAFETY: the row has sixteen elements; loads and stores are unaligned.
            unsafe {
                let out = out.add(row * out_stride + 8 * half).cast();
                let before = if add { _mm256_loadu_si256(out) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(out, _mm256_add_epi32(before, sums[row][half]));
            }
        }
    }
    M
}

/// How bytes of a type become int16.
trait Widen: Copy + Into<i16> + Into<i32> {
    /// Sixteen, in order.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2 and 16 bytes are readable at `at`.
    unsafe fn widen(at: *const Self) -> __m256i;

    /// Of thirty-two, the sixteen with even numbers and the sixteen with odd ones.
    fn split(bytes: __m256i) -> [__m256i; 2];
}

impl Widen for i8 {
    #[inline(always)]
    unsafe fn widen(at: *const i8) -> __m256i {
        // SAFETY: the caller has 16 readable bytes and AVX2; the load is unaligned.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    fn split(bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: only functions that have AVX2 have a vector of this kind.
        unsafe { [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes)] }
    }
}

impl Widen for u8 {
    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m256i {
        // SAFETY: the caller has 16 readable bytes and AVX2; the load is unaligned.
        unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    fn split(bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: only functions that have AVX2 have a vector of this kind.
        unsafe { [_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16::<8>(bytes)] }
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
