//! Stellaris LM3S6965 evaluation board: Cortex-M3, 64 KiB of RAM, the model on its SD card.
#![no_std]
#![no_main]

mod card;
mod pins;
mod questions;

use core::fmt::Write;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::SysTick;
use mbert_firmware::semihosting::{self, Console};
use mbert_firmware::{memory, unexpected_trap};

// SAFETY: nobody else uses the timer.
static COUNTER: SysTick = unsafe { SysTick::new(80) };

#[entry]
fn main() -> ! {
    memory::paint_stack();
    COUNTER.start();
    #[cfg(feature = "kernel-suite")]
    mbert_firmware::run(mbert_firmware::Board {
        name: "lm3s6965evb",
        model: &[],
        workspace: &mut [],
        counter: &COUNTER,
    });
    // SAFETY: this is the board, nobody else uses its ports, and the entry runs once.
    let status = match unsafe { questions::answer(&COUNTER) } {
        Ok(()) => 0,
        Err(failure) => {
            // Without a console there is nobody to tell; the exit status remains.
            let _ = writeln!(Console::err(), "lm3s6965evb: {failure}");
            2
        }
    };
    semihosting::exit(status)
}

#[exception]
fn SysTick() {
    COUNTER.period_ended();
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
