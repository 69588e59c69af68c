//! Helium, the vector extension of Cortex-M55 and M85: eight vectors of 16 bytes. Rust has no stable intrinsics for it, so the loops are
//! assembly: low-overhead loops, whose tails are predicated.
//!
//! One instruction works for two cycles, in a pipeline for loads and stores, one for sums and shifts, or one for products; the second cycle
//! of one is the first of the next where they are in different pipelines (LLVM's `ARMScheduleM55.td`). So loads stand between what is computed.
#![allow(unsafe_code)]

mod products;

use crate::format::layout::WeightLayout;
use crate::kernels::Kernels;
use crate::kernels::scalar::SCALAR;

/// Runs where the compiler was told of Helium: see `build.rs`.
pub(super) static HELIUM: Kernels = Kernels {
    name: "helium",
    weight_layout: WeightLayout::Helium64,
    matmul_i8: products::matmul_i8,
    matmul_u8_i8: products::matmul_u8_i8,
    matmul_packed_i8: products::matmul_packed_i8,
    matmul_packed_u8_i8: products::matmul_packed_u8_i8,
    ..SCALAR
};
