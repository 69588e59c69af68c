//! The reference: plain, safe Rust, always compiled. It defines what every other table must give.

use super::{Kernels, MatmulShape};
use crate::format::layout::WeightLayout;
use crate::ops::{activation, average, layer_norm, quantize, requantize, softmax};

/// Runs on every CPU.
pub static SCALAR: Kernels = Kernels {
    name: "scalar",
    weight_layout: WeightLayout::RowMajor,
    matmul_i8,
    matmul_u8_i8,
    matmul_packed_i8: matmul_i8,
    matmul_packed_u8_i8: matmul_u8_i8,
    scale_rows: requantize::scale_rows,
    scale_accumulators: requantize::scale_accumulators,
    requantize: requantize::requantize,
    add_residual: requantize::add_residual,
    activate_tile: activation::activate_tile,
    quantize_smoothed: quantize::quantize_smoothed,
    quantize_i16: quantize::quantize_i16,
    quantize_i32: quantize::quantize_i32,
    softmax_row: softmax::softmax_row,
    average_row: average::average_row,
    layer_norm_sums: layer_norm::sums,
    layer_norm: layer_norm::normalize,
};

/// Multiplies int8 activations by row-major int8 weights: see [`MatmulShape`].
///
/// Source: `torch.nn.functional.linear`.
///
/// # Panics
///
/// If a slice is shorter than its shape.
fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    shape.check(input.len(), weight.len(), out.len());
    matmul(shape, input, weight, out);
}

/// Multiplies u8 probabilities by row-major int8 values: see [`MatmulShape`].
///
/// # Panics
///
/// If a slice is shorter than its shape.
fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    shape.check(input.len(), weight.len(), out.len());
    matmul(shape, input, weight, out);
}

#[inline(always)]
fn matmul<T: Copy + Into<i32>>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    for m in 0..shape.m {
        let input = &input[m * shape.input_stride..][..shape.k];
        for n in 0..shape.n {
            let weight = &weight[n * shape.weight_stride..][..shape.k];
            out[m * shape.out_stride + n] = input.iter().zip(weight).map(|(&x, &w)| x.into() * i32::from(w)).sum();
        }
    }
}
