//! Arm's microcontrollers: Armv7-M, its DSP extension, Helium. What the core has is known when the program is built, from the compiler's own
//! flags: `build.rs` asks for each instruction set whether it can be assembled.

#[cfg(any(kernel_dsp, kernel_thumb2))]
#[macro_use]
mod instructions;
#[cfg(any(kernel_dsp, kernel_thumb2))]
#[macro_use]
mod tiles;

#[cfg(any(kernel_dsp, kernel_thumb2))]
mod activation;
#[cfg(kernel_dsp)]
mod dsp;
#[cfg(kernel_helium)]
mod helium;
#[cfg(any(kernel_dsp, kernel_thumb2))]
#[macro_use]
mod magnitude;
#[cfg(any(kernel_dsp, kernel_thumb2))]
mod norm;
#[cfg(any(kernel_dsp, kernel_thumb2))]
mod quantize;
#[cfg(any(kernel_dsp, kernel_thumb2))]
mod softmax;
#[cfg(kernel_thumb2)]
mod thumb2;

use super::Kernels;

/// Names of the tables that are compiled in.
#[cfg(kernel_dsp)]
pub(super) const COMPILED: &[&str] = &["dsp", "scalar"];
/// Names of the tables that are compiled in.
#[cfg(kernel_thumb2)]
pub(super) const COMPILED: &[&str] = &["thumb2", "scalar"];
/// Names of the tables that are compiled in.
#[cfg(kernel_helium)]
pub(super) const COMPILED: &[&str] = &["helium", "scalar"];

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(kernel_dsp)]
    return core::iter::once(&dsp::DSP);
    #[cfg(kernel_thumb2)]
    return core::iter::once(&thumb2::THUMB2);
    #[cfg(kernel_helium)]
    return core::iter::once(&helium::HELIUM);
}

/// Whether a kernel reads and writes this row of int16: with the DSP extension, two of a word at a time.
#[cfg(any(kernel_dsp, kernel_thumb2))]
fn is_aligned(row: &[i16]) -> bool {
    cfg!(kernel_thumb2) || row.as_ptr().addr().is_multiple_of(4)
}
