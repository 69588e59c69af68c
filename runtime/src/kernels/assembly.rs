//! Functions that are assembly.

/// A naked function: its lines, between those that tell the assembler what the core has, which it does not hear from the compiler.
macro_rules! naked_function {
    (
        [$($begin:literal),*] [$($end:literal),*]
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? { $($line:expr),* $(,)? }
    ) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        $visibility unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            core::arch::naked_asm!($($begin,)* $($line,)* $($end),*)
        }
    };
}

pub(super) use naked_function;
