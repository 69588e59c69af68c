//! The loops of the matrix products of [`rv32im`](super::rv32im), which says how they multiply.
#![allow(unsafe_code)]

use core::arch::naked_asm;

/// Rows and channels that are in registers together.
pub(super) const BLOCK: usize = 4;
/// Channels whose words are made at a time.
pub(super) const CHANNELS: usize = 16;
/// Inputs whose words are made at a time, at most.
pub(super) const CHUNK: usize = 96;
/// Inputs that [`multiply`] and [`pack_i8`] have unrolled.
pub(super) const STEP: usize = 16;
/// Inputs that [`row_i8`] has unrolled.
pub(super) const ROW_STEP: usize = 8;

/// Two inputs of a block of channels: of the first, channels 0 and 1, and 2 and 3; the same of the second.
pub(super) type Words = [u32; BLOCK];

/// Rows of the input, int8.
pub(super) type Copies = [[u32; CHUNK / 4]; BLOCK];
/// Of each pair of channels, the sum of its words.
pub(super) type PairSums = [u32; CHANNELS / 2];
/// See [`pack_i8`].
pub(super) type Pack = unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums, usize, usize);

/// Copies `len` inputs of four rows, as int8.
macro_rules! copy {
    ($name:ident, $type:ty, $flip:literal) => {
        /// # Safety
        ///
        /// Four rows have `len` elements each, a multiple of 16, not 0. They begin at multiples of 4, `stride` apart.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(input: *const $type, stride: usize, copies: *mut Copies, len: usize) {
            naked_asm!(
                ".macro word at, register",
                "lw \\register, \\at(a0)",
                $flip,
                "sw \\register, \\at(a2)",
                ".endm",
                "li t3, 0x80808080",
                "li a4, {rows}",
                "addi a5, a2, {chunk}",
                "sub a1, a1, a3",
                "1:",
                "andi a6, a3, 16",
                "add a7, a0, a3",
                "beqz a6, 2f",
                "word 0, t0",
                "word 4, t1",
                "word 8, t2",
                "word 12, t4",
                "addi a0, a0, 16",
                "addi a2, a2, 16",
                "beq a0, a7, 3f",
                "2:",
                ".irp at, 0, 4, 8, 12, 16, 20, 24, 28",
                "word \\at, t0",
                ".endr",
                "addi a0, a0, 32",
                "addi a2, a2, 32",
                "bne a0, a7, 2b",
                "3:",
                "add a0, a0, a1",
                "mv a2, a5",
                "addi a5, a5, {chunk}",
                "addi a4, a4, -1",
                "bnez a4, 1b",
                "ret",
                ".purgem word",
                rows = const BLOCK,
                chunk = const CHUNK,
            )
        }
    };
}

copy!(copy_i8, i8, "");
copy!(copy_u8, u8, "xor \\register, \\register, t3");

/// Makes words of `steps` · [`STEP`] inputs of some blocks of channels; the second of these functions also adds them up.
macro_rules! pack {
    ($name:ident, $sum_0:literal, $sum_1:literal) => {
        /// # Safety
        ///
        /// So many rows of weights, `stride` apart, have so many elements, and for each block there is room for half as many words, `gap` bytes
        /// behind those of the last. Neither number is 0.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(
            weights: *const i8,
            stride: usize,
            words: *mut Words,
            steps: usize,
            sums: &mut PairSums,
            blocks: usize,
            gap: usize,
        ) {
            naked_asm!(
                "addi sp, sp, -16",
                "sw s0, 0(sp)",
                "sw s1, 4(sp)",
                "1:",
                "add a7, a0, a1",
                "add t0, a7, a1",
                "add t1, t0, a1",
                "mv t6, a3",
                "li s0, 0",
                "li s1, 0",
                "2:",
                ".irp input, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "lb t2, \\input(a0)",
                "lb t3, \\input(a7)",
                "lb t4, \\input(t0)",
                "lb t5, \\input(t1)",
                "slli t3, t3, 16",
                "slli t5, t5, 16",
                "add t2, t2, t3",
                "add t4, t4, t5",
                $sum_0,
                $sum_1,
                "sw t2, 8*\\input(a2)",
                "sw t4, 8*\\input+4(a2)",
                ".endr",
                "addi a0, a0, {step}",
                "addi a7, a7, {step}",
                "addi t0, t0, {step}",
                "addi t1, t1, {step}",
                "addi a2, a2, 8*{step}",
                "addi t6, t6, -1",
                "bnez t6, 2b",
                "sw s0, 0(a4)",
                "sw s1, 4(a4)",
                "addi a4, a4, 8",
                "add a2, a2, a6",
                // The next block begins a row behind the last of this one.
                "sub t1, t1, a0",
                "slli t6, a3, {step_bits}",
                "add a0, a0, t1",
                "add a0, a0, a1",
                "sub a0, a0, t6",
                "addi a5, a5, -1",
                "bnez a5, 1b",
                "lw s0, 0(sp)",
                "lw s1, 4(sp)",
                "addi sp, sp, 16",
                "ret",
                step = const STEP,
                step_bits = const STEP.ilog2(),
            )
        }
    };
}

pack!(pack_i8, "", "");
pack!(pack_and_sum, "add s0, s0, t2", "add s1, s1, t4");

/// One row by a block of channels: what [`multiply`] leaves over.
macro_rules! row {
    ($name:ident, $type:ty, $load:literal) => {
        /// # Safety
        ///
        /// The row, not empty and of whole [`ROW_STEP`]s, and four rows of as many weights, `stride` apart, are readable.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(
            input: *const $type,
            weights: *const i8,
            stride: usize,
            sums: &mut [i32; BLOCK],
            input_end: *const $type,
        ) {
            naked_asm!(
                ".option push",
                ".option arch, +m",
                "add a5, a1, a2",
                "add a6, a5, a2",
                "add a7, a6, a2",
                "li t0, 0",
                "li t1, 0",
                "li t2, 0",
                "li t3, 0",
                "1:",
                ".irp input, 0, 1, 2, 3, 4, 5, 6, 7",
                concat!($load, " a2, \\input(a0)"),
                "lb t4, \\input(a1)",
                "lb t5, \\input(a5)",
                "mul t4, t4, a2",
                "lb t6, \\input(a6)",
                "mul t5, t5, a2",
                "add t0, t0, t4",
                "lb t4, \\input(a7)",
                "mul t6, t6, a2",
                "add t1, t1, t5",
                "mul t4, t4, a2",
                "add t2, t2, t6",
                "add t3, t3, t4",
                ".endr",
                "addi a0, a0, {step}",
                "addi a1, a1, {step}",
                "addi a5, a5, {step}",
                "addi a6, a6, {step}",
                "addi a7, a7, {step}",
                "bne a0, a4, 1b",
                "sw t0, 0(a3)",
                "sw t1, 4(a3)",
                "sw t2, 8(a3)",
                "sw t3, 12(a3)",
                "ret",
                ".option pop",
                step = const ROW_STEP,
            )
        }
    };
}

row!(row_i8, i8, "lb");
row!(row_u8, u8, "lbu");

/// Makes [`BLOCK`] rows of sums, for `blocks` blocks of channels: the products of the copied rows with the words of these channels, added to other
/// rows of sums.
///
/// # Safety
///
/// `words` holds half as many words for each block as there are inputs: `len`, a multiple of [`STEP`]. Both kinds of sums have as many in a row as there are channels; from one
/// row to the next it is so many bytes. No number is 0.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn multiply(
    copies: &Copies,
    words: *const Words,
    out: *mut i32,
    out_stride: usize,
    blocks: usize,
    len: usize,
    from: *const i32,
    from_stride: usize,
) {
    naked_asm!(
        // The assembler of naked functions does not hear of the target's features.
        ".option push",
        ".option arch, +m",
        // One row of sums is loaded: of each pair of channels, the sum modulo 2³² of what its words make, and the second channel's.
        ".macro load_sums low_0, high_0, low_1, high_1",
        "lw \\low_0, 0(a0)",
        "lw \\high_0, 4(a0)",
        "lw \\low_1, 8(a0)",
        "lw \\high_1, 12(a0)",
        "slli t2, \\high_0, 16",
        "slli t3, \\high_1, 16",
        "add \\low_0, \\low_0, t2",
        "add \\low_1, \\low_1, t3",
        "add a0, a0, a3",
        ".endm",
        ".macro store_sums low_0, high_0, low_1, high_1",
        "slli t2, \\high_0, 16",
        "slli t3, \\high_1, 16",
        "sub \\low_0, \\low_0, t2",
        "sub \\low_1, \\low_1, t3",
        "sw \\low_0, 0(a0)",
        "sw \\high_0, 4(a0)",
        "sw \\low_1, 8(a0)",
        "sw \\high_1, 12(a0)",
        "add a0, a0, a3",
        ".endm",
        // Two inputs, in a4 and a5, by two channels; a3 is half of what the upper half counts.
        ".macro channels low, high, word_0, word_1",
        "mul t2, a4, \\word_0",
        "mul t3, a5, \\word_1",
        "add t2, t2, t3",
        "add \\low, \\low, t2",
        "add t2, t2, a3",
        "srai t2, t2, 16",
        "add \\high, \\high, t2",
        ".endm",
        ".macro row low_0, high_0, low_1, high_1, input",
        "lb a4, \\input(a0)",
        "lb a5, \\input+1(a0)",
        "channels \\low_0, \\high_0, a6, t0",
        "channels \\low_1, \\high_1, a7, t1",
        ".endm",
        "addi sp, sp, -80",
        "add a5, a0, a5",
        "sw a0, 0(sp)",
        "sw a2, 4(sp)",
        "sw a3, 8(sp)",
        "sw a4, 12(sp)",
        "sw a5, 16(sp)",
        "sw a6, 72(sp)",
        "sw a7, 76(sp)",
        "sw ra, 20(sp)",
        "sw s0, 24(sp)",
        "sw s1, 28(sp)",
        "sw s2, 32(sp)",
        "sw s3, 36(sp)",
        "sw s4, 40(sp)",
        "sw s5, 44(sp)",
        "sw s6, 48(sp)",
        "sw s7, 52(sp)",
        "sw s8, 56(sp)",
        "sw s9, 60(sp)",
        "sw s10, 64(sp)",
        "sw s11, 68(sp)",
        "1:",
        "lw a0, 72(sp)",
        "lw a3, 76(sp)",
        "addi t0, a0, 16",
        "sw t0, 72(sp)",
        "load_sums s0, s4, s1, s5",
        "load_sums s2, s6, s3, s7",
        "load_sums s8, t4, s9, t5",
        "load_sums s10, t6, s11, ra",
        "lw a0, 0(sp)",
        "lw a2, 16(sp)",
        "lui a3, 8",
        "2:",
        ".irp pair, 0, 1, 2, 3, 4, 5, 6, 7",
        "lw a6, 16*\\pair(a1)",
        "lw a7, 16*\\pair+4(a1)",
        "lw t0, 16*\\pair+8(a1)",
        "lw t1, 16*\\pair+12(a1)",
        "row s0, s4, s1, s5, 2*\\pair",
        "row s2, s6, s3, s7, {chunk}+2*\\pair",
        "row s8, t4, s9, t5, 2*{chunk}+2*\\pair",
        "row s10, t6, s11, ra, 3*{chunk}+2*\\pair",
        ".endr",
        "addi a0, a0, {step}",
        "addi a1, a1, 8*{step}",
        "bne a0, a2, 2b",
        "lw a0, 4(sp)",
        "lw a3, 8(sp)",
        "lw a4, 12(sp)",
        "addi t0, a0, 16",
        "addi a4, a4, -1",
        "sw t0, 4(sp)",
        "sw a4, 12(sp)",
        "store_sums s0, s4, s1, s5",
        "store_sums s2, s6, s3, s7",
        "store_sums s8, t4, s9, t5",
        "store_sums s10, t6, s11, ra",
        "bnez a4, 1b",
        "lw ra, 20(sp)",
        "lw s0, 24(sp)",
        "lw s1, 28(sp)",
        "lw s2, 32(sp)",
        "lw s3, 36(sp)",
        "lw s4, 40(sp)",
        "lw s5, 44(sp)",
        "lw s6, 48(sp)",
        "lw s7, 52(sp)",
        "lw s8, 56(sp)",
        "lw s9, 60(sp)",
        "lw s10, 64(sp)",
        "lw s11, 68(sp)",
        "addi sp, sp, 80",
        "ret",
        ".purgem load_sums",
        ".purgem store_sums",
        ".purgem channels",
        ".purgem row",
        ".option pop",
        chunk = const CHUNK,
        step = const STEP,
    )
}
