//! Where the program starts, and where it goes when the CPU stops it.

use mbert_firmware::unexpected_trap;

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

/// Where a trap goes.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: usize, address: usize) -> ! {
    unexpected_trap(cause, address)
}
