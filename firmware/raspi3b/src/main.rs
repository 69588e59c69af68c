//! Raspberry Pi 3B: Cortex-A53 in 64-bit mode, one core, caches and memory management off.
#![no_std]
#![no_main]

use mbert_firmware::counter::GenericTimer;
use mbert_firmware::{Board, ConstStaticCell, region, run, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 4 << 20]> = ConstStaticCell::new([0; 4 << 20]);

// What Rust relies on: one core, a stack, zeroed statics, registers of the vector unit, and no trap that goes unnoticed. The core may
// start at exception level 3 (QEMU) or 2 (the boot loader of the board).
core::arch::global_asm!(
    ".section .text.start",
    ".global _start",
    "_start:",
    "   mrs x0, mpidr_el1",
    "   tst x0, #3",
    "   b.ne park",
    "   adrp x0, vectors",
    "   add x0, x0, :lo12:vectors",
    "   mrs x1, CurrentEL",
    "   cmp x1, #12",
    "   b.ne 1f",
    "   msr vbar_el3, x0",
    "   msr cptr_el3, xzr",
    "   b 2f",
    "1: msr vbar_el2, x0",
    "   mov x1, #0x33ff",
    "   msr cptr_el2, x1",
    "2: isb",
    "   adrp x0, _stack_start",
    "   mov sp, x0",
    "   adrp x0, __sbss",
    "   add x0, x0, :lo12:__sbss",
    "   adrp x1, __ebss",
    "   add x1, x1, :lo12:__ebss",
    "3: str xzr, [x0], #8",
    "   cmp x0, x1",
    "   b.lo 3b",
    "   b main",
    "park:",
    "   wfe",
    "   b park",
    // Sixteen vectors of 128 bytes, all with the same end.
    ".balign 2048",
    "vectors:",
    ".rept 16",
    ".balign 128",
    "   b trap",
    ".endr",
    "trap:",
    "   mrs x2, CurrentEL",
    "   cmp x2, #12",
    "   b.ne 1f",
    "   mrs x0, esr_el3",
    "   mrs x1, elr_el3",
    "   b trapped",
    "1: mrs x0, esr_el2",
    "   mrs x1, elr_el2",
    "   b trapped",
);

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: RAM behind the program's own, which only the loader writes, before the start.
    let model = unsafe { region(0x1000_0000, 0x2c00_0000) };
    run(Board { name: "raspi3b", model, workspace: WORKSPACE.take(), counter: &GenericTimer })
}

/// Where a trap goes.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: usize, address: usize) -> ! {
    unexpected_trap(cause, address)
}
