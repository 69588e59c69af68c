//! The loops of the matrix products of [`rv32im`](super::rv32im), which says how they multiply.
#![allow(unsafe_code)]

/// Rows that are in registers together, and the channels by which they are multiplied.
pub(super) const ROWS: usize = 2;
pub(super) const BLOCK: usize = 8;
/// Channels whose words are made at a time.
pub(super) const CHANNELS: usize = 16;
/// Inputs whose words are made at a time, at most.
pub(super) const CHUNK: usize = 128;
/// Inputs that [`multiply`] and [`pack_i8`] have unrolled.
pub(super) const STEP: usize = 16;
/// Inputs that [`row_i8`] has unrolled, and the channels by which it multiplies.
pub(super) const ROW_STEP: usize = 8;
pub(super) const ROW_BLOCK: usize = 4;

/// One input of a block of channels: of channels 0 and 1, and so on.
pub(super) type Words = [u32; BLOCK / 2];

/// Rows of the input, int8.
pub(super) type Copies = [[u32; CHUNK / 4]; ROWS];
/// Of each pair of channels, the sum of its words.
pub(super) type PairSums = [u32; CHANNELS / 2];
/// See [`pack_i8`].
pub(super) type Pack = unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums, usize, usize);

assembly! {
    /// Copies `len` inputs of two rows, 128 less: as int8.
    ///
    /// # Safety
    ///
    /// Both rows have `len` elements each, a multiple of 16, not 0. They begin at multiples of 4, `stride` apart.
    pub(super) fn copy_u8(input: *const u8, stride: usize, copies: *mut Copies, len: usize) {
        "li t3, 0x80808080",
        "add a1, a1, a0",
        "add a3, a3, a0",
        "1:",
        ".irp at, 0, 4, 8, 12",
        "lw t0, \\at(a0)",
        "lw t1, \\at(a1)",
        "xor t0, t0, t3",
        "xor t1, t1, t3",
        "sw t0, \\at(a2)",
        "sw t1, \\at+128(a2)",
        ".endr",
        "addi a0, a0, 16",
        "addi a1, a1, 16",
        "addi a2, a2, 16",
        "bne a0, a3, 1b",
        "ret",
    }
}
const _: () = assert!(CHUNK == 128);

/// Makes words of `steps` · [`STEP`] inputs of some blocks of channels; the second of these functions also adds them up.
macro_rules! pack {
    ($name:ident, $sum_0:literal, $sum_1:literal) => {
        assembly! {
            /// # Safety
            ///
            /// So many rows of weights, `stride` apart, have so many elements, and for each block there is room for as many words, `gap` bytes
            /// behind those of the last. Neither number is 0.
            pub(super) fn $name(
                weights: *const i8,
                stride: usize,
                words: *mut Words,
                steps: usize,
                sums: &mut PairSums,
                blocks: usize,
                gap: usize,
            ) {
                "addi sp, sp, -16",
                "sw s0, 0(sp)",
                "sw s1, 4(sp)",
                // One half of a block at a time.
                "slli a5, a5, 1",
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
                "sw t2, 16*\\input(a2)",
                "sw t4, 16*\\input+4(a2)",
                ".endr",
                "addi a0, a0, 16",
                "addi a7, a7, 16",
                "addi t0, t0, 16",
                "addi t1, t1, 16",
                "addi a2, a2, 256",
                "addi t6, t6, -1",
                "bnez t6, 2b",
                "sw s0, 0(a4)",
                "sw s1, 4(a4)",
                "addi a4, a4, 8",
                // The next half begins a row behind the last of this one.
                "sub t1, t1, a0",
                "slli t6, a3, 4",
                "add a0, a0, t1",
                "add a0, a0, a1",
                "sub a0, a0, t6",
                "addi a5, a5, -1",
                "andi t2, a5, 1",
                "beqz t2, 3f",
                "slli t6, t6, 4",
                "addi a2, a2, 8",
                "sub a2, a2, t6",
                "j 1b",
                "3:",
                "addi a2, a2, -8",
                "add a2, a2, a6",
                "bnez a5, 1b",
                "lw s0, 0(sp)",
                "lw s1, 4(sp)",
                "addi sp, sp, 16",
                "ret",
            }
        }
    };
}
const _: () = assert!(STEP == 16 && size_of::<Words>() == 16);

pack!(pack_i8, "", "");
pack!(pack_and_sum, "add s0, s0, t2", "add s1, s1, t4");

/// One row by some channels: what [`multiply`] leaves over.
macro_rules! row {
    ($name:ident, $type:ty, $load:literal) => {
        assembly! {
            /// # Safety
            ///
            /// The row, not empty and of whole [`ROW_STEP`]s, and four rows of as many weights, `stride` apart, are readable.
            pub(super) fn $name(
                input: *const $type,
                weights: *const i8,
                stride: usize,
                sums: &mut [i32; ROW_BLOCK],
                input_end: *const $type,
            ) {
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
                "addi a0, a0, 8",
                "addi a1, a1, 8",
                "addi a5, a5, 8",
                "addi a6, a6, 8",
                "addi a7, a7, 8",
                "bne a0, a4, 1b",
                "sw t0, 0(a3)",
                "sw t1, 4(a3)",
                "sw t2, 8(a3)",
                "sw t3, 12(a3)",
                "ret",
            }
        }
    };
}
const _: () = assert!(ROW_STEP == 8);

row!(row_i8, i8, "lb");
row!(row_u8, u8, "lbu");

/// What [`multiply`] multiplies; strides are in bytes.
#[repr(C)]
pub(super) struct Product {
    pub(super) input: *const i8,
    pub(super) input_stride: usize,
    /// As many for each block of channels as there are inputs.
    pub(super) words: *const Words,
    /// Inputs of a row, a multiple of [`STEP`].
    pub(super) len: usize,
    pub(super) blocks: usize,
    /// Of rows.
    pub(super) pairs: usize,
    pub(super) out: *mut i32,
    pub(super) out_stride: usize,
    /// Sums to which the products are added.
    pub(super) from: *const i32,
    pub(super) from_stride: usize,
}

assembly! {
    /// Makes rows of sums: the products of pairs of rows with the words of blocks of channels, added to other rows of sums.
    ///
    /// # Safety
    ///
    /// All that `product` tells of is there, and no number is 0. It is changed on the way.
    pub(super) fn multiply(product: &mut Product) {
        // Of each pair of channels, the sum modulo 2³² of what its words make is in a register, and the second channel's.
        ".macro load_pair low, high, at
        lw \\low, \\at(a0)
        lw \\high, \\at+4(a0)
        slli t2, \\high, 16
        add \\low, \\low, t2
        .endm
        .macro store_pair low, high, at
        slli t2, \\high, 16
        sub t2, \\low, t2
        sw t2, \\at(a0)
        sw \\high, \\at+4(a0)
        .endm
        .macro next_pair at, stride
        lw t0, \\at(a0)
        lw t1, \\stride(a0)
        slli t1, t1, 1
        add t0, t0, t1
        sw t0, \\at(a0)
        .endm",
        // Two inputs of both rows, in a4 to a7, by two channels; a3 is half of what the upper half counts.
        ".macro pair word, low_0, high_0, low_1, high_1
        lw t0, \\word(a1)
        lw t1, 16+\\word(a1)
        mul t2, a4, t0
        mul t3, a5, t1
        mul t0, a6, t0
        mul t1, a7, t1
        add t2, t2, t3
        add t0, t0, t1
        add \\low_0, \\low_0, t2
        add \\low_1, \\low_1, t0
        add t2, t2, a3
        add t0, t0, a3
        srai t2, t2, 16
        srai t0, t0, 16
        add \\high_0, \\high_0, t2
        add \\high_1, \\high_1, t0
        .endm",
        "addi sp, sp, -80",
        "sw a0, 0(sp)",
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
        // Two rows.
        "1:",
        "lw t0, 0(a0)",
        "lw t1, 12(a0)",
        "lw t2, 16(a0)",
        "lw t3, 24(a0)",
        "add t0, t0, t1",
        "lw t1, 32(a0)",
        "sw t0, 4(sp)",
        "sw t2, 8(sp)",
        "sw t3, 12(sp)",
        "sw t1, 16(sp)",
        "lw a1, 8(a0)",
        // By a block of channels.
        "2:",
        "lw t0, 0(sp)",
        "lw a0, 16(sp)",
        "lw a3, 36(t0)",
        "lw a4, 0(t0)",
        "lw a2, 4(t0)",
        "addi t1, a0, 32",
        "sw t1, 16(sp)",
        "load_pair s0, s4, 0",
        "load_pair s1, s5, 8",
        "load_pair s2, s6, 16",
        "load_pair s3, s7, 24",
        "add a0, a0, a3",
        "load_pair s8, t4, 0",
        "load_pair s9, t5, 8",
        "load_pair s10, t6, 16",
        "load_pair s11, ra, 24",
        "mv a0, a4",
        "add a2, a2, a4",
        "lui a3, 8",
        "3:",
        ".irp input, 0, 2, 4, 6, 8, 10, 12, 14",
        "lb a4, \\input(a0)",
        "lb a5, \\input+1(a0)",
        "lb a6, \\input(a2)",
        "lb a7, \\input+1(a2)",
        "pair 16*\\input, s0, s4, s8, t4",
        "pair 16*\\input+4, s1, s5, s9, t5",
        "pair 16*\\input+8, s2, s6, s10, t6",
        "pair 16*\\input+12, s3, s7, s11, ra",
        ".endr",
        "lw t0, 4(sp)",
        "addi a0, a0, 16",
        "addi a1, a1, 256",
        "addi a2, a2, 16",
        "bne a0, t0, 3b",
        "lw a0, 12(sp)",
        "lw t0, 0(sp)",
        "lw t1, 8(sp)",
        "addi t3, a0, 32",
        "lw a3, 28(t0)",
        "sw t3, 12(sp)",
        "store_pair s0, s4, 0",
        "store_pair s1, s5, 8",
        "store_pair s2, s6, 16",
        "store_pair s3, s7, 24",
        "add a0, a0, a3",
        "store_pair s8, t4, 0",
        "store_pair s9, t5, 8",
        "store_pair s10, t6, 16",
        "store_pair s11, ra, 24",
        "addi t1, t1, -1",
        "sw t1, 8(sp)",
        "bnez t1, 2b",
        // The next two rows: where they are, their sums, and those from which these begin.
        "lw a0, 0(sp)",
        "lw a1, 20(a0)",
        "next_pair 0, 4",
        "next_pair 24, 28",
        "next_pair 32, 36",
        "addi a1, a1, -1",
        "sw a1, 20(a0)",
        "bnez a1, 1b",
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
        ".purgem load_pair",
        ".purgem store_pair",
        ".purgem next_pair",
        ".purgem pair",
    }
}
