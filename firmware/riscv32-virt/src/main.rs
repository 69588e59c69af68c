//! QEMU's RISC-V machine `virt`: RV32IMAC.
#![no_std]
#![no_main]

use mbert_firmware::counter::Minstret;
use mbert_firmware::{Board, ConstStaticCell, region, run, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);

// What Rust relies on: a stack, zeroed statics, and no trap that goes unnoticed.
core::arch::global_asm!(
    ".section .text.start",
    ".global _start",
    "_start:",
    "   la sp, _stack_start",
    "   la t0, trap",
    "   csrw mtvec, t0",
    "   la t0, __sbss",
    "   la t1, __ebss",
    "1: sw zero, 0(t0)",
    "   addi t0, t0, 4",
    "   bltu t0, t1, 1b",
    "   j main",
    // A vector is a multiple of four.
    ".balign 4",
    "trap:",
    "   csrr a0, mcause",
    "   csrr a1, mepc",
    "   j trapped",
);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x8800_0000, 0x3800_0000) };
    run(Board { name: "riscv32-virt", model, workspace: WORKSPACE.take(), counter: &Minstret })
}

/// Where a trap goes.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: usize, address: usize) -> ! {
    unexpected_trap(cause, address)
}
