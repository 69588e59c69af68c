//! AVX2, AVX-VNNI and AVX-512 VNNI, chosen at run time on a host, at compile time without an operating system.

use super::Kernels;

mod lanes_avx2;
mod lanes_avx512;
mod avx2;
mod avxvnni;
mod avx512vnni;
mod row_major;
mod unsigned_rows;

#[cfg(feature = "std")]
extern crate std;

/// Names of the tables that are compiled in.
pub(super) const COMPILED: &[&str] = &["avx512vnni", "avxvnni", "avx2", "scalar"];

/// Whether the CPU has every feature named: asked at run time with `std`, else what the build was told.
macro_rules! has {
    ($($feature:tt),+) => {{
        #[cfg(feature = "std")]
        let has = $(std::is_x86_feature_detected!($feature))&&+;
        #[cfg(not(feature = "std"))]
        let has = $(cfg!(target_feature = $feature))&&+;
        has
    }};
}

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    let vnni = has!("avx512f", "avx512bw", "avx512vl", "avx512vnni").then_some(&avx512vnni::AVX512VNNI);
    let avxvnni = has!("avx2", "avxvnni").then_some(&avxvnni::AVXVNNI);
    let avx2 = has!("avx2").then_some(&avx2::AVX2);
    vnni.into_iter().chain(avxvnni).chain(avx2)
}
