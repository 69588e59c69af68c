//! QEMU's AArch64 machine `virt` with every instruction that it knows: one core, caches and memory management off.
#![no_std]
#![no_main]

use mbert_firmware::counter::GenericTimer;
use mbert_firmware::{Board, ConstStaticCell, region, run, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 4 << 20]> = ConstStaticCell::new([0; 4 << 20]);

// What Rust relies on: a stack, zeroed statics, registers of the vector unit, and no trap that goes unnoticed. The core starts at exception
// level 1.
core::arch::global_asm!(
    ".section .text.start",
    ".global _start",
    "_start:",
    "   adrp x0, vectors",
    "   add x0, x0, :lo12:vectors",
    "   msr vbar_el1, x0",
    "   mov x0, #3 << 20",
    "   msr cpacr_el1, x0",
    "   isb",
    "   adrp x0, _stack_start",
    "   mov sp, x0",
    "   adrp x0, __sbss",
    "   add x0, x0, :lo12:__sbss",
    "   adrp x1, __ebss",
    "   add x1, x1, :lo12:__ebss",
    "1: str xzr, [x0], #8",
    "   cmp x0, x1",
    "   b.lo 1b",
    "   b main",
    // Sixteen vectors of 128 bytes, all with the same end.
    ".balign 2048",
    "vectors:",
    ".rept 16",
    ".balign 128",
    "   b trap",
    ".endr",
    "trap:",
    "   mrs x0, esr_el1",
    "   mrs x1, elr_el1",
    "   b trapped",
);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x5000_0000, 0x3000_0000) };
    run(Board { name: "aarch64-virt", model, workspace: WORKSPACE.take(), counter: &GenericTimer })
}

/// Where a trap goes.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: usize, address: usize) -> ! {
    unexpected_trap(cause, address)
}
