//! RISC-V, 32 bits: the base with multiplication. What the core has is known when the program is built, from the compiler's own flags.

/// Functions that are assembly.
macro_rules! assembly {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? { $($line:expr),* $(,)? }
    ) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        $visibility unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            // The assembler of naked functions does not hear of the target's features.
            core::arch::naked_asm!(".option push", ".option arch, +m", $($line,)* ".option pop")
        }
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
