//! AVX-VNNI: `vpdpbusd` in the 256-bit registers of CPUs without AVX-512. Everything else is AVX2.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::avx2;
use super::unsigned_rows::{INPUTS, ROWS, UnsignedRows};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::kernels::{Kernels, MatmulShape};

/// Handed out by `available()` only after the CPU reported AVX2 and AVX-VNNI.
pub(super) static AVXVNNI: Kernels = Kernels {
    name: "avxvnni",
    weight_layout: WeightLayout::Vnni16x4,
    matmul_packed_i8,
    matmul_packed_u8_i8,
    ..avx2::AVX2
};

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

/// Tile by tile, some rows and some inputs at a time.
///
/// # Safety
///
/// The CPU has AVX2 and AVX-VNNI; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const u8, weight: *const i8, out: *mut i32) {
    let mut rows = UnsignedRows::EMPTY;
    for tile in 0..shape.n / TILE_CHANNELS {
        // Once for no inputs, too: then all sums are 0.
        for first_input in (0..shape.k.max(1)).step_by(INPUTS) {
            let inputs = (shape.k - first_input).min(INPUTS);
            // 128 times the sum of each channel's weights, from the first rows on.
            let mut weight_sums = [_mm256_setzero_si256(); 2];
            for first_row in (0..shape.m).step_by(ROWS) {
                let count = (shape.m - first_row).min(ROWS);
                // SAFETY: these rows, these inputs and the tile lie inside the shape.
                unsafe {
                    let input = input.add(first_row * shape.input_stride + first_input);
                    rows.hold::<SIGNED>(shape, input, (first_row, count), (first_input, inputs));
                    let block = Block {
                        shape,
                        rows: &rows,
                        inputs,
                        weight: weight.add(tile * shape.weight_stride + first_input * TILE_CHANNELS),
                        out: out.add(tile * shape.out_tile_stride + first_row * shape.out_stride),
                        add: first_input > 0,
                    };
                    let mut row = 0;
                    while row < count {
                        row += match (count - row, first_row + row == 0) {
                            (4.., true) => packed_block::<SIGNED, true, 4>(&block, row, &mut weight_sums),
                            (2.., true) => packed_block::<SIGNED, true, 2>(&block, row, &mut weight_sums),
                            (_, true) => packed_block::<SIGNED, true, 1>(&block, row, &mut weight_sums),
                            (1, _) => packed_block::<SIGNED, false, 1>(&block, row, &mut weight_sums),
                            (2 | 3, _) => packed_block::<SIGNED, false, 2>(&block, row, &mut weight_sums),
                            (4 | 5 | 8, _) => packed_block::<SIGNED, false, 4>(&block, row, &mut weight_sums),
                            _ => packed_block::<SIGNED, false, 6>(&block, row, &mut weight_sums),
                        };
                    }
                }
            }
        }
    }
}

/// Some rows and some inputs of one tile.
struct Block<'a> {
    shape: &'a MatmulShape,
    rows: &'a UnsignedRows,
    /// Inputs there are.
    inputs: usize,
    weight: *const i8,
    out: *mut i32,
    /// Whether there are sums of earlier inputs, to be added to.
    add: bool,
}

/// M rows × one tile in registers. Returns M. The first block also sums the weights, and asks for the next ones.
///
/// # Safety
///
/// As for [`packed`], for the tile and for M rows from `first` on, which `block.rows` holds.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn packed_block<const SIGNED: bool, const FIRST: bool, const M: usize>(
    block: &Block<'_>,
    first: usize,
    weight_sums: &mut [__m256i; 2],
) -> usize {
    let MatmulShape { n, out_stride, .. } = *block.shape;
    let ahead = block.shape.bytes_to_next_weights(n / TILE_CHANNELS);
    let rows = block.rows.row(first);
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    let mut of_weights = *weight_sums;
    for k in (0..block.inputs).step_by(4) {
        let weights = block.weight.wrapping_add(k * TILE_CHANNELS);
        // SAFETY: 64 weights of these four inputs are readable; loads are unaligned.
        let w: [__m256i; 2] = core::array::from_fn(|half| unsafe { _mm256_loadu_si256(weights.add(32 * half).cast()) });
        if FIRST {
            _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(ahead));
        }
        if FIRST && SIGNED {
            for half in 0..2 {
                of_weights[half] = _mm256_dpbusd_avx_epi32(of_weights[half], _mm256_set1_epi8(i8::MIN), w[half]);
            }
        }
        for row in 0..M {
            // SAFETY: of each row these four inputs are held, and rows begin at a multiple of 4.
            let x = _mm256_set1_epi32(unsafe { rows.add(row * INPUTS + k).cast::<i32>().read() });
            for half in 0..2 {
                sums[row][half] = _mm256_dpbusd_avx_epi32(sums[row][half], x, w[half]);
            }
        }
    }
    *weight_sums = of_weights;
    for row in 0..M {
        for half in 0..2 {
            let sum = _mm256_sub_epi32(sums[row][half], of_weights[half]);
            // SAFETY: the row has sixteen elements; loads and stores are unaligned.
            unsafe {
                let out = block.out.add((first + row) * out_stride + 8 * half).cast();
                let before = if block.add { _mm256_loadu_si256(out) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(out, _mm256_add_epi32(before, sum));
            }
        }
    }
    M
}
