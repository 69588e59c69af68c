//! Helium, the vector extension of Cortex-M55 and M85: eight vectors of 16 bytes. Rust has no stable intrinsics for it, so the loops are
//! assembly: low-overhead loops, whose tails are predicated.
//!
//! One instruction works for two cycles, in a pipeline for loads and stores, one for sums and shifts, or one for products; the second cycle
//! of one is the first of the next where they are in different pipelines (LLVM's `ARMScheduleM55.td`). So loads stand between what is computed.
#![allow(unsafe_code)]

/// A function that is assembly.
macro_rules! assembly {
    ($($function:tt)*) => {
        $crate::kernels::assembly::naked_function! { [".cpu cortex-m55"] [] $($function)* }
    };
}

mod panels;
mod products;
mod quantize;
mod rows;
mod tiles;

use crate::format::layout::WeightLayout;
use crate::kernels::Kernels;

/// Runs where the compiler was told of Helium: see `build.rs`.
pub(super) static HELIUM: Kernels = Kernels {
    name: "helium",
    weight_layout: WeightLayout::Helium4x16,
    matmul_i8: products::matmul_i8,
    matmul_u8_i8: products::matmul_u8_i8,
    matmul_packed_i8: products::matmul_packed_i8,
    matmul_packed_u8_i8: products::matmul_packed_u8_i8,
    scale_accumulators: tiles::scale_accumulators,
    requantize: tiles::requantize,
    add_residual: tiles::add_residual,
    activate_tile: tiles::activate_tile,
    largest_i16: quantize::largest_i16,
    quantize_i16: quantize::quantize_i16,
    quantize_i32: quantize::quantize_i32,
    softmax_row: rows::softmax_row,
    average_row: rows::average_row,
    layer_norm_sums: rows::layer_norm_sums,
    layer_norm: rows::layer_norm,
};
