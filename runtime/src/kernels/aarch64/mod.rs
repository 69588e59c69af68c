//! NEON, dot products and int8 matrix products of AArch64, chosen at run time on a host, at compile time without an operating system.

use super::Kernels;

mod memory;
mod lanes_neon;
mod row_major;
mod neon;
mod dotprod;
mod i8mm;

#[cfg(feature = "std")]
extern crate std;

/// Names of the tables that are compiled in.
pub(super) const COMPILED: &[&str] = &["i8mm", "dotprod", "neon", "scalar"];

/// Whether the CPU has a feature: asked at run time with `std`, else what the build was told.
macro_rules! has {
    ($feature:tt) => {{
        #[cfg(feature = "std")]
        let has = std::arch::is_aarch64_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = $feature);
        has
    }};
}

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    let dotprod = has!("dotprod");
    let i8mm = (dotprod && has!("i8mm")).then_some(&i8mm::I8MM);
    i8mm.into_iter().chain(dotprod.then_some(&dotprod::DOTPROD)).chain(core::iter::once(&neon::NEON))
}
