//! Raspberry Pi 3B: one Cortex-A53 in 64-bit mode.
#![no_std]
#![no_main]

mod start;

use mbert_firmware::counter::GenericTimer;
use mbert_firmware::{Board, ConstStaticCell, region, run};

static WORKSPACE: ConstStaticCell<[u8; 4 << 20]> = ConstStaticCell::new([0; 4 << 20]);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x1000_0000, 0x2c00_0000) };
    run(Board { name: "raspi3b", model, workspace: WORKSPACE.take(), counter: &GenericTimer })
}
