//! RISC-V, 32 bits: the base with multiplication. What the core has is known when the program is built, from the compiler's own flags.

/// A function that is assembly.
macro_rules! assembly {
    ($($function:tt)*) => {
        $crate::kernels::assembly::naked_function! { [".option push", ".option arch, +m"] [".option pop"] $($function)* }
    };
}

/// Something for each of eight elements: loops of eight are not unrolled by a compiler that is asked for small code.
macro_rules! eight {
    ($at:ident => $do:expr) => {
        eight!(@ $at [0, 1, 2, 3, 4, 5, 6, 7] $do)
    };
    (@ $at:ident [$($index:literal),*] $do:expr) => {{
        $({
            let $at = $index;
            $do;
        })*
    }};
}

/// The same for each of sixteen, a row of a tile.
macro_rules! sixteen {
    ($at:ident => $do:expr) => {
        eight!(@ $at [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] $do)
    };
}

mod loops;
mod rows;
mod rv32im;
mod tiles;

use super::Kernels;

/// Names of the tables that are compiled in.
pub(super) const COMPILED: &[&str] = &["rv32im", "scalar"];

pub(super) fn available() -> impl Iterator<Item = &'static Kernels> {
    core::iter::once(&rv32im::RV32IM)
}
