//! Images of the runtime that do not link if a panic can be reached in them: the panic handler calls a function that nobody has. They
//! are never run. `.ci/no-panic` links each of `bin`.
//!
//! All that goes in is hidden from the compiler, so that it may assume nothing about texts, models and devices.
#![no_std]

use core::hint::black_box;

pub mod tokenizer;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(not(feature = "show"))]
    {
        unsafe extern "C" {
            fn a_panic_can_be_reached() -> !;
        }
        // SAFETY: never called, because what calls it does not link.
        unsafe { a_panic_can_be_reached() }
    }
    #[cfg(feature = "show")]
    loop {}
}

/// Something of which the compiler knows nothing but that it is valid.
pub fn any<T: 'static>() -> &'static mut T {
    // SAFETY: stands for the memory of a board; these programs are linked, not run.
    unsafe { &mut *black_box(0x2000_0000 as *mut T) }
}

/// Values of which the compiler knows nothing, nor how many.
pub fn some<T: 'static>() -> &'static mut [T] {
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts_mut(any(), black_box(1)) }
}

/// A text of which the compiler knows nothing but that it is UTF-8.
pub fn text() -> &'static str {
    core::str::from_utf8(some()).unwrap_or_default()
}

/// Makes the compiler believe that something is looked at.
pub fn look<T>(value: T) {
    black_box(value);
}

/// Writes nowhere.
#[derive(Debug)]
pub struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        look(text);
        *any()
    }
}
