//! AVX-512 VNNI: `vpdpbusd`, which multiplies u8 by int8.
//!
//! int8 activations are shifted to u8 by 128 (one xor), and `128 · Σ w` is taken back. That sum comes from the same
//! instruction with a constant 128, once for all rows of a block.
#![allow(unsafe_code)]
// Register blocks are indexed by row and column, as the formula is.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use crate::format::layout::WeightLayout;
use crate::kernels::scalar::SCALAR;
use crate::kernels::{Kernels, MatmulShape};

/// Handed out by `available()` only after the CPU reported AVX-512 F, BW, VL and VNNI.
pub(super) static AVX512VNNI: Kernels = Kernels {
    name: "avx512vnni",
    weight_layout: WeightLayout::Vnni16x4,
    matmul_i8,
    matmul_packed_i8,
    matmul_u8_i8,
    ..SCALAR
};

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len(), false) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `check` has shown that all rows lie inside the slices.
    unsafe { matmul_rows::<true>(shape, bytemuck::cast_slice(input), weight, out) }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len(), false) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `check` has shown that all rows lie inside the slices.
    unsafe { matmul_rows::<false>(shape, input, weight, out) }
}

fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    assert!(shape.n == 16 && shape.k.is_multiple_of(4), "a packed tile has 16 channels and whole groups of 4 inputs");
    if !shape.fits(input.len(), weight.len(), out.len(), true) {
        return;
    }
    // SAFETY: this table is handed out only after the CPU reported these features, and `check` has shown that all rows lie inside the slices.
    unsafe { matmul_packed(shape, bytemuck::cast_slice(input), weight, out) }
}

/// One dot product at a time over 64 elements; `SIGNED` input has its sign bit flipped into u8.
///
/// # Safety
///
/// The CPU has the features named; `shape.check` holds for the slices.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn matmul_rows<const SIGNED: bool>(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    let flip = _mm512_set1_epi8(if SIGNED { i8::MIN } else { 0 });
    for n in 0..shape.n {
        let w_row = &weight[n * shape.weight_stride..][..shape.k];
        let mut m = 0;
        while m < shape.m {
            let rows = (shape.m - m).min(4);
            let mut sums = [_mm512_setzero_si512(); 4];
            let mut weight_sum = _mm512_setzero_si512();
            let mut k = 0;
            while k < shape.k {
                let mask: __mmask64 = if shape.k - k >= 64 { u64::MAX } else { (1 << (shape.k - k)) - 1 };
                // SAFETY: the mask reads no element at or after `shape.k` of its row, and the rows lie inside the slices.
                unsafe {
                    // Masked-off weights are 0, so what the flip makes of masked-off inputs does not count.
                    let w = _mm512_maskz_loadu_epi8(mask, w_row.as_ptr().add(k));
                    weight_sum = _mm512_dpbusd_epi32(weight_sum, flip, w);
                    for row in 0..rows {
                        let x = _mm512_maskz_loadu_epi8(
                            mask,
                            input.as_ptr().add((m + row) * shape.input_stride + k).cast(),
                        );
                        sums[row] = _mm512_dpbusd_epi32(sums[row], _mm512_xor_si512(x, flip), w);
                    }
                }
                k += 64;
            }
            for row in 0..rows {
                out[(m + row) * shape.out_stride + n] =
                    _mm512_reduce_add_epi32(_mm512_sub_epi32(sums[row], weight_sum));
            }
            m += rows;
        }
    }
}

/// Sixteen channels at once, up to eight rows in registers.
///
/// # Safety
///
/// The CPU has the features named; `shape.check` holds for the slices; `n` is 16 and `k` a multiple of 4.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn matmul_packed(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    let mut m = 0;
    while m < shape.m {
        // SAFETY: the rows of each block lie inside the shape that `check` has shown to fit.
        unsafe {
            m += match shape.m - m {
                8.. => packed_block::<8>(shape, input, weight, out, m),
                4.. => packed_block::<4>(shape, input, weight, out, m),
                2.. => packed_block::<2>(shape, input, weight, out, m),
                _ => packed_block::<1>(shape, input, weight, out, m),
            };
        }
    }
}

/// # Safety
///
/// As for [`matmul_packed`]; rows `m..m + M` lie inside the shape. Returns M.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn packed_block<const M: usize>(
    shape: &MatmulShape,
    input: &[u8],
    weight: &[i8],
    out: &mut [i32],
    m: usize,
) -> usize {
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); M];
    let mut weight_sum = _mm512_setzero_si512();
    let mut k = 0;
    while k < shape.k {
        // SAFETY: `k + 4 ≤ shape.k`, so 64 weights and 4 bytes of each row are readable; loads are unaligned.
        unsafe {
            let w = _mm512_loadu_si512(weight.as_ptr().add(k * 16).cast());
            weight_sum = _mm512_dpbusd_epi32(weight_sum, flip, w);
            for row in 0..M {
                let four = input.as_ptr().add((m + row) * shape.input_stride + k).cast::<i32>().read_unaligned();
                sums[row] = _mm512_dpbusd_epi32(sums[row], _mm512_xor_si512(_mm512_set1_epi32(four), flip), w);
            }
        }
        k += 4;
    }
    for (row, sum) in sums.into_iter().enumerate() {
        let out = &mut out[(m + row) * shape.out_stride..][..16];
        // SAFETY: `out` has 16 elements; the store is unaligned.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_sub_epi32(sum, weight_sum)) };
    }
    M
}
