//! RISC-V, 32 bits: the base with multiplication. What the core has is known when the program is built, from the compiler's own flags.

mod loops;
mod rows;
mod rv32im;

use super::Kernels;

/// Names of the tables that are compiled in.
pub(super) const COMPILED: &[&str] = &["rv32im", "scalar"];

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    core::iter::once(&rv32im::RV32IM)
}
