//! AVX-VNNI: `vpdpbusd` in the 256-bit registers of CPUs without AVX-512. Everything else is AVX2.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::avx2;
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

/// Tile by tile, each for blocks of rows.
///
/// # Safety
///
/// The CPU has the features named; `shape.fits_packed` holds for the memory behind the pointers.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn packed<const SIGNED: bool>(shape: &MatmulShape, input: *const u8, weight: *const i8, out: *mut i32) {
    for tile in 0..shape.n / TILE_CHANNELS {
        // 128 times the sum of each channel's weights, from the first block on.
        let mut weight_sums = [_mm256_setzero_si256(); 2];
        let mut m = 0;
        while m < shape.m {
            // SAFETY: the tile and its rows lie inside the shape.
            unsafe {
                let weight = weight.add(tile * shape.weight_stride);
                let input = input.add(m * shape.input_stride);
                let out = out.add(tile * shape.out_tile_stride + m * shape.out_stride);
                m += match (shape.m - m, SIGNED && m == 0) {
                    (6.., false) => block::<SIGNED, false, 6>(shape, input, weight, out, &mut weight_sums),
                    (4.., false) => block::<SIGNED, false, 4>(shape, input, weight, out, &mut weight_sums),
                    (2.., false) => block::<SIGNED, false, 2>(shape, input, weight, out, &mut weight_sums),
                    (_, false) => block::<SIGNED, false, 1>(shape, input, weight, out, &mut weight_sums),
                    (4.., true) => block::<true, true, 4>(shape, input, weight, out, &mut weight_sums),
                    (2.., true) => block::<true, true, 2>(shape, input, weight, out, &mut weight_sums),
                    (_, true) => block::<true, true, 1>(shape, input, weight, out, &mut weight_sums),
                };
            }
        }
    }
}

/// M rows × one tile in registers. Returns M. The first block also sums the weights, and asks for the next ones.
///
/// # Safety
///
/// As for [`packed`], for the tile and the M rows that begin at the pointers.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn block<const SIGNED: bool, const FIRST: bool, const M: usize>(
    shape: &MatmulShape,
    input: *const u8,
    weight: *const i8,
    out: *mut i32,
    weight_sums: &mut [__m256i; 2],
) -> usize {
    let flip = _mm256_set1_epi8(if SIGNED { i8::MIN } else { 0 });
    let ahead = shape.bytes_to_next_weights(shape.n / TILE_CHANNELS);
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    let mut of_weights = *weight_sums;
    let mut k = 0;
    while k < shape.k {
        // SAFETY: `k + 4 ≤ shape.k`, so 64 weights and 4 bytes of each row are readable; loads are unaligned, and a prefetch reads nothing.
        unsafe {
            let weight = weight.add(k * TILE_CHANNELS);
            let w: [__m256i; 2] = core::array::from_fn(|half| _mm256_loadu_si256(weight.add(32 * half).cast()));
            if FIRST {
                _mm_prefetch::<_MM_HINT_T1>(weight.wrapping_add(ahead));
                for half in 0..2 {
                    of_weights[half] = _mm256_dpbusd_avx_epi32(of_weights[half], flip, w[half]);
                }
            }
            for row in 0..M {
                let four = input.add(row * shape.input_stride + k).cast::<i32>().read_unaligned();
                let x = _mm256_xor_si256(_mm256_set1_epi32(four), flip);
                for half in 0..2 {
                    sums[row][half] = _mm256_dpbusd_avx_epi32(sums[row][half], x, w[half]);
                }
            }
        }
        k += 4;
    }
    *weight_sums = of_weights;
    for row in 0..M {
        for half in 0..2 {
            let sum = _mm256_sub_epi32(sums[row][half], of_weights[half]);
            // SAFETY: the row has sixteen elements; the store is unaligned.
            unsafe { _mm256_storeu_si256(out.add(row * shape.out_stride + 8 * half).cast(), sum) };
        }
    }
    M
}
