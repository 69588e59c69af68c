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
    scale_accumulators: requantize::scale_accumulators,
    requantize: requantize::requantize,
    add_residual: requantize::add_residual,
    activate_tile: activation::activate_tile,
    largest_i16: quantize::largest_i16,
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
fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

/// Multiplies u8 probabilities by row-major int8 values: see [`MatmulShape`].
fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

#[inline(always)]
fn matmul<T: Copy + Into<i32>>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    for m in 0..shape.m {
        let input = row(input, m, shape.input_stride, shape.k);
        let out = row_mut(out, m, shape.out_stride, shape.n);
        for (n, out) in out.iter_mut().enumerate() {
            let weight = row(weight, n, shape.weight_stride, shape.k);
            *out = input.iter().zip(weight).map(|(&x, &w)| x.into() * i32::from(w)).sum();
        }
    }
}

#[inline(always)]
fn row<T>(slice: &[T], index: usize, stride: usize, columns: usize) -> &[T] {
    slice.get(index * stride..).and_then(|row| row.get(..columns)).unwrap_or_default()
}

#[inline(always)]
fn row_mut<T>(slice: &mut [T], index: usize, stride: usize, columns: usize) -> &mut [T] {
    slice.get_mut(index * stride..).and_then(|row| row.get_mut(..columns)).unwrap_or_default()
}
