//! What should never happen still ends with a message and a non-zero exit, so that no script takes it for an answer.

use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;

use defmt::{Display2Format, error};

use crate::semihosting::{self, Console};

/// The exit status of a panic, as of a program on a host.
const PANIC_STATUS: usize = 101;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(format_args!("{info}"))
}

/// The end of a program that the CPU has stopped: `cause` and `address` as its registers tell them.
pub fn unexpected_trap(cause: usize, address: usize) -> ! {
    stop(format_args!("the CPU stopped the program: cause {cause:#x}, address {address:#x}"))
}

fn stop(message: Arguments<'_>) -> ! {
    // If even this cannot be printed, the exit status remains.
    let _ = writeln!(Console::err(), "{message}");
    error!("{}", Display2Format(&message));
    semihosting::exit(PANIC_STATUS)
}
