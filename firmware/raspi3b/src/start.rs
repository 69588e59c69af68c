//! Where the program starts, and where it goes when the CPU stops it.

use mbert_firmware::unexpected_trap;

// What Rust relies on: one core, a stack, zeroed statics, registers of the vector unit, memory with caches, and no trap that goes unnoticed.
// The boot loader of the board starts a program at exception level 2, QEMU starts an ELF file at 3.
core::arch::global_asm!(
    ".section .text.start",
    ".global _start",
    "_start:",
    "   mrs x0, mpidr_el1",
    "   tst x0, #3",
    "   b.ne park",
    "   msr daifset, #15",
    "   mrs x0, CurrentEL",
    "   cmp x0, #12",
    "   b.ne 1f",
    // To level 2, which is not secure and of 64 bits.
    "   msr cptr_el3, xzr",
    "   mov x0, #0x5b1",
    "   msr scr_el3, x0",
    "   mov x0, #0x3c9",
    "   msr spsr_el3, x0",
    "   adr x0, 1f",
    "   msr elr_el3, x0",
    "   eret",
    "1: adrp x0, vectors",
    "   add x0, x0, :lo12:vectors",
    "   msr vbar_el2, x0",
    "   mov x0, #0x33ff",
    "   msr cptr_el2, x0",
    // Interrupts are of this level, so that they wake the core.
    "   mov x0, #1 << 4",
    "   orr x0, x0, #1 << 31",
    "   msr hcr_el2, x0",
    "   isb",
    "   adrp x0, _stack_start",
    "   mov sp, x0",
    "   adrp x0, __sbss",
    "   add x0, x0, :lo12:__sbss",
    "   adrp x1, __ebss",
    "   add x1, x1, :lo12:__ebss",
    "2: str xzr, [x0], #8",
    "   cmp x0, x1",
    "   b.lo 2b",
    // Caches: attribute 0 is memory, written back; 1 are devices. 30 bits of address in blocks of 2 MiB.
    "   adrp x0, MEMORY_MAP",
    "   msr ttbr0_el2, x0",
    "   mov x0, #0xff",
    "   msr mair_el2, x0",
    "   movz x0, #0x8080, lsl #16",
    "   movk x0, #0x3522",
    "   msr tcr_el2, x0",
    "   tlbi alle2",
    "   ic iallu",
    "   dsb sy",
    "   isb",
    "   movz x0, #0x30c5, lsl #16",
    "   movk x0, #0x1835",
    "   msr sctlr_el2, x0",
    "   isb",
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
    "   mrs x0, esr_el2",
    "   mrs x1, elr_el2",
    "   b trapped",
);

/// Descriptors of 2 MiB each, level 2 of the translation: Arm Architecture Reference Manual for A-profile, D8.3.
#[repr(C, align(4096))]
struct MemoryMap([u64; 512]);

#[unsafe(no_mangle)]
static MEMORY_MAP: MemoryMap = MemoryMap({
    const BLOCK: u64 = 2 << 20;
    /// A block that has been accessed, attribute 0, shared by the cores.
    const MEMORY: u64 = 0x741;
    /// A block that has been accessed, attribute 1, in which nothing is executed.
    const DEVICES: u64 = 0x445 | 1 << 54;
    let mut map = [0; 512];
    let mut i = 0;
    while i < map.len() {
        let address = i as u64 * BLOCK;
        map[i] = match address {
            0..0x3c00_0000 => address | MEMORY,
            // The GPU's.
            0x3c00_0000..0x3f00_0000 => 0,
            _ => address | DEVICES,
        };
        i += 1;
    }
    map
});

/// Where a trap goes.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: usize, address: usize) -> ! {
    unexpected_trap(cause, address)
}
