//! Arm's microcontrollers: DSP extension and Helium. What the core has is known when the program is built, from the compiler's own flags:
//! `build.rs` asks for each instruction set whether it can be assembled.

#[cfg(kernel_dsp)]
mod dsp;
#[cfg(kernel_helium)]
mod helium;

use super::Kernels;

/// Names of the tables that are compiled in.
#[cfg(kernel_dsp)]
pub(super) const COMPILED: &[&str] = &["dsp", "scalar"];
/// Names of the tables that are compiled in.
#[cfg(kernel_helium)]
pub(super) const COMPILED: &[&str] = &["helium", "scalar"];

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(kernel_dsp)]
    return core::iter::once(&dsp::DSP);
    #[cfg(kernel_helium)]
    return core::iter::once(&helium::HELIUM);
}
