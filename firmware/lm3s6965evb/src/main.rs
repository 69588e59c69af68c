//! Stellaris LM3S6965 evaluation board: Cortex-M3, 64 KiB of RAM, the model on its SD card.
#![no_std]
#![no_main]

mod card;
mod pins;
mod questions;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::SysTick;
use mbert_firmware::{Board, end, memory, run, unexpected_trap};

const NAME: &str = "lm3s6965evb";
// SAFETY: nobody else uses the timer.
static COUNTER: SysTick = unsafe { SysTick::new(80) };

#[entry]
fn main() -> ! {
    memory::paint_stack();
    COUNTER.start();
    if cfg!(feature = "kernel-suite") {
        run(Board { name: NAME, model: &[], workspace: &mut [], counter: &COUNTER });
    }
    // SAFETY: this is the board, nobody else uses its ports, and the entry runs once.
    end(NAME, unsafe { questions::answer(&COUNTER) })
}

#[exception]
fn SysTick() {
    COUNTER.period_ended();
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
