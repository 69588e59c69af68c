//! WebAssembly's 128-bit vectors. A module has them or does not start, so what it has is known when it is built.

use super::Kernels;

mod lanes_simd128;
mod simd128;

/// Names of the tables that are compiled in.
pub(super) const COMPILED: &[&str] = &["simd128", "scalar"];

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    core::iter::once(&simd128::SIMD128)
}
