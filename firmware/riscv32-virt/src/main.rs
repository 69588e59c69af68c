//! QEMU's RISC-V machine `virt`: RV32IMAC.
#![no_std]
#![no_main]

mod start;

use mbert_firmware::counter::Minstret;
use mbert_firmware::{Board, ConstStaticCell, region, run};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x8800_0000, 0x3800_0000) };
    run(Board { name: "riscv32-virt", model, workspace: WORKSPACE.take(), counter: &Minstret })
}
