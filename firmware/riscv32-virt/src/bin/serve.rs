//! QEMU's RISC-V machine `virt`, answering on its UART.
#![no_std]
#![no_main]

#[path = "../start.rs"]
mod start;

use mbert_firmware::counter::Minstret;
use mbert_firmware::uart::{Interrupt, Ns16550};
use mbert_firmware::{CfiFlash, ConstStaticCell, Serving};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);

/// The second bank of flash, and its size.
const FLASH: (usize, usize) = (0x2200_0000, 32 << 20);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: UART and interrupt controller lie at these addresses, and nobody else uses them.
    let line = unsafe { Ns16550::line(0x1000_0000, Interrupt::new(0x0c00_0000, 10)) };
    // SAFETY: the flash lies at this address, and nobody else uses it.
    let flash: CfiFlash =
        unsafe { CfiFlash::new(FLASH.0 as *mut u32, FLASH.1) }.expect("the machine has two banks of flash");
    let serving = Serving { name: "riscv32-virt", workspace: WORKSPACE.take(), counter: &Minstret, line, flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}
