//! NEON: products of int8 added in pairs as int16, which hold two of them, then as int32. Exact: a weight is never −128.
#![allow(unsafe_code)]

use core::arch::aarch64::*;

use super::row_major::{Multiply, row_major};
use crate::format::layout::WeightLayout;
use crate::kernels::rows::rows;
use crate::kernels::{Kernels, MatmulShape, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::softmax::RowScale;

/// For every CPU that a target with NEON is meant for.
pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    weight_layout: WeightLayout::RowMajor,
    matmul_i8,
    matmul_u8_i8,
    matmul_packed_i8: matmul_i8,
    matmul_packed_u8_i8: matmul_u8_i8,
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

rows!("neon", lanes_neon);

struct Neon;

impl Multiply for Neon {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_products(sums: int32x4_t, input: int8x16_t, weight: int8x16_t) -> int32x4_t {
        // At most 2 · 128 · 127.
        let pairs = vmull_s8(vget_low_s8(input), vget_low_s8(weight));
        vpadalq_s16(sums, vmlal_high_s8(pairs, input, weight))
    }
}

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: the target has NEON, and `fits` has shown that all rows lie inside the slices.
        unsafe { row_major::<Neon, true>(shape, input.as_ptr(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if shape.fits(input.len(), weight.len(), out.len()) {
        // SAFETY: the target has NEON, and `fits` has shown that all rows lie inside the slices.
        unsafe { row_major::<Neon, false>(shape, input.as_ptr().cast(), weight.as_ptr(), out.as_mut_ptr()) }
    }
}
