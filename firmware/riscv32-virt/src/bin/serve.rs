//! QEMU's RISC-V machine `virt`, answering on its UART.
#![no_std]
#![no_main]

#[path = "../start.rs"]
mod start;

use mbert_firmware::counter::Minstret;
use mbert_firmware::uart::Ns16550;
use mbert_firmware::{Board, ConstStaticCell, region, serve};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: the UART lies at this address, and nobody else uses it.
    let line = unsafe { Ns16550::line(0x1000_0000) };
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x8800_0000, 0x3800_0000) };
    serve(Board { name: "riscv32-virt", model, workspace: WORKSPACE.take(), counter: &Minstret }, line)
}
