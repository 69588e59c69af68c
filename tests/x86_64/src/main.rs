//! Compares the fastest kernels of this build with the scalar ones. `run.py` emulates a CPU for it.
#![no_std]
#![no_main]

mod memory;

use core::arch::asm;
use core::fmt::{self, Write};

use mbert_runtime::kernels::{Kernels, suite};

/// What is to be printed at the end.
struct Console {
    text: [u8; 512],
    bytes: usize,
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.bytes..self.bytes + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.bytes += text.len();
        Ok(())
    }
}

impl Console {
    /// Ends the program: 0 if all is well.
    fn halt(&self, status: u64) -> ! {
        loop {
            // SAFETY: stops the CPU, and changes nothing.
            unsafe {
                asm!("hlt", in("rsi") self.text.as_ptr(), in("rdx") self.bytes, in("rdi") status, options(nostack))
            };
        }
    }
}

/// Ends the program with what is to be said.
fn say(status: u64, text: fmt::Arguments<'_>) -> ! {
    let mut console = Console { text: [0; 512], bytes: 0 };
    let fits = console.write_fmt(text);
    console.halt(if fits.is_ok() { status } else { 1 })
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(1, format_args!("{info}\n"))
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let (kernels, mut memory) = (Kernels::native(), [0; suite::BYTES]);
    match suite::run(kernels, &mut memory) {
        Ok(compared) => say(0, format_args!("kernels {}: {compared} calls, all equal to scalar\n", kernels.name)),
        Err(error) => say(1, format_args!("{error}\n")),
    }
}
