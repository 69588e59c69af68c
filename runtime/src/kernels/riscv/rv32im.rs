//! The base with multiplication, RV32IM, which knows neither vectors nor multiply-accumulate. One `mul` makes two products all the same:
//! two channels lie in a word, `w₀ + w₁ · 2¹⁶`, and a word times one input is both products, side by side.
//!
//! Two such words may be added, no more: `2 · 128 · 127` fills the lower half, which is signed. The upper half of that sum, rounded, is
//! exactly the second channel's part; those are added up. The sums themselves are added up modulo 2³², and when the second channel is
//! subtracted from them, the first is left. So four products take two `mul` and five other instructions, 1.75 each, where `mul` and `add`
//! would take two; with 4 rows × 4 channels in registers the loads are 0.375.
//!
//! Words of two channels are made in scratch memory, for 16 channels at a time, and rows of the input are copied beside them. u8 inputs become int8
//! there, 128 less, and 128 times the sum of a channel's weights is added in the end.
//!
//! Nothing here is dearer in cycles than in instructions: where a core takes several cycles for a `mul`, there are half as many of them.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::mem::MaybeUninit;

use super::rows::{self, Rv32im};
use crate::kernels::registers::table;
use crate::kernels::{Kernels, MatmulShape};

/// Runs where the compiler was told of multiplication.
pub(super) static RV32IM: Kernels = Kernels {
    requantize: rows::requantize,
    add_residual: rows::add_residual,
    activate_tile: rows::activate_tile,
    quantize_smoothed: rows::quantize_smoothed,
    quantize_i16: rows::quantize_i16,
    softmax_row: rows::softmax_row,
    layer_norm_sums: rows::layer_norm_sums,
    layer_norm: rows::layer_norm,
    ..table!("rv32im", Rv32im, matmul_i8, matmul_u8_i8)
};

/// Rows and channels that are in registers together.
const BLOCK: usize = 4;
/// Channels whose words are made at a time.
const CHANNELS: usize = 16;
/// Inputs whose words are made at a time, at most.
const CHUNK: usize = 96;
/// Inputs that [`multiply`] and [`pack_i8`] have unrolled.
const STEP: usize = 16;
/// Inputs that [`row_i8`] has unrolled.
const ROW_STEP: usize = 8;

/// Two inputs of a block of channels: of the first, channels 0 and 1, and 2 and 3; the same of the second.
type Words = [u32; BLOCK];

/// Rows of the input, int8.
type Copies = [[u32; CHUNK / 4]; BLOCK];
/// The words of some channels.
type Scratch = [MaybeUninit<Words>; CHANNELS / BLOCK * CHUNK / 2];
/// Of each pair of channels, the sum of its words.
type PairSums = [u32; CHANNELS / 2];
/// See [`pack_i8`].
type Pack = unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums, usize, usize);

/// int8 or u8.
trait Input: bytemuck::Pod + Into<i32> {
    /// What makes an int8 of it when subtracted: 0 or 128.
    const OFFSET: i32;
    /// See [`row_i8`].
    const ROW: unsafe extern "C" fn(*const Self, *const i8, usize, &mut [i32; BLOCK], *const Self);
    /// See [`copy_i8`].
    const COPY: unsafe extern "C" fn(*const Self, usize, *mut Copies, usize);
    /// See [`pack_i8`].
    const PACK: Pack;
}

impl Input for i8 {
    const OFFSET: i32 = 0;
    const ROW: unsafe extern "C" fn(*const i8, *const i8, usize, &mut [i32; BLOCK], *const i8) = row_i8;
    const COPY: unsafe extern "C" fn(*const i8, usize, *mut Copies, usize) = copy_i8;
    const PACK: Pack = pack_i8;
}

impl Input for u8 {
    const OFFSET: i32 = 128;
    const ROW: unsafe extern "C" fn(*const u8, *const i8, usize, &mut [i32; BLOCK], *const u8) = row_u8;
    const COPY: unsafe extern "C" fn(*const u8, usize, *mut Copies, usize) = copy_u8;
    const PACK: Pack = pack_and_sum;
}

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

/// Whole blocks, then what is left, row by row.
fn matmul<T: Input>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    let MatmulShape { m, n, input_stride, k, out_stride, .. } = *shape;
    let rows = m - m % BLOCK;
    let in_blocks = if rows > 0 { n - n % BLOCK } else { 0 };
    let mut words = [const { MaybeUninit::uninit() }; _];
    let mut copies = [[0; _]; _];
    for first in (0..in_blocks).step_by(CHANNELS) {
        let channels = (first, CHANNELS.min(in_blocks - first));
        blocks(shape, rows, channels, input, weight, out, (&mut words, &mut copies));
    }
    for (m, out) in out.chunks_mut(out_stride.max(1)).take(m).enumerate() {
        let done = if m < rows { in_blocks } else { 0 };
        if done < n {
            row(shape, done, part(input, m * input_stride, k), weight, part_mut(out, 0, n));
        }
    }
}

fn part<T>(slice: &[T], first: usize, count: usize) -> &[T] {
    slice.get(first..).and_then(|behind| behind.get(..count)).unwrap_or_default()
}

fn part_mut<T>(slice: &mut [T], first: usize, count: usize) -> &mut [T] {
    slice.get_mut(first..).and_then(|behind| behind.get_mut(..count)).unwrap_or_default()
}

/// One row by the channels from `done` on.
fn row<T: Input>(shape: &MatmulShape, done: usize, input: &[T], weight: &[i8], out: &mut [i32]) {
    let MatmulShape { k, weight_stride, .. } = *shape;
    let steps = k - k % ROW_STEP;
    let (in_steps, left) = input.split_at(steps.min(input.len()));
    for (index, out) in out.chunks_mut(BLOCK).enumerate().skip(done / BLOCK) {
        let weights = weight.get(index * BLOCK * weight_stride..).unwrap_or_default();
        let mut sums = [0; BLOCK];
        let mut behind = 0;
        if out.len() == BLOCK && steps > 0 {
            let in_steps = in_steps.as_ptr_range();
            // SAFETY: `fits` has shown that four more channels have `k` weights each.
            unsafe { T::ROW(in_steps.start, weights.as_ptr(), weight_stride, &mut sums, in_steps.end) };
            behind = steps;
        }
        let input = if behind == 0 { input } else { left };
        for ((out, sum), channel) in out.iter_mut().zip(sums).zip(0..) {
            let weights = part(weights, channel * weight_stride + behind, k - behind);
            let products = input.iter().zip(weights).map(|(&x, &w)| x.into() * i32::from(w));
            *out = sum + products.sum::<i32>();
        }
    }
}

/// `rows` rows by some channels, `channels` of them from `first` on: both multiples of [`BLOCK`], not 0, and not more than [`CHANNELS`].
fn blocks<T: Input>(
    shape: &MatmulShape,
    rows: usize,
    (first, channels): (usize, usize),
    input: &[T],
    weight: &[i8],
    out: &mut [i32],
    (words, copies): (&mut Scratch, &mut Copies),
) {
    let MatmulShape { k, input_stride, weight_stride, out_stride, .. } = *shape;
    let weight = weight.get(first * weight_stride..).unwrap_or_default();
    // Chunks of even length; one even if there is nothing to add up.
    let chunks = k.div_ceil(CHUNK).max(1);
    let chunk = k.div_ceil(chunks).next_multiple_of(STEP).max(STEP);
    for begin in (0..chunks).map(|index| index * chunk) {
        let len = chunk.min(k - begin.min(k));
        let padded = len.next_multiple_of(STEP).max(STEP);
        let weights = weight.get(begin..).unwrap_or_default();
        let mut start = [0; CHANNELS];
        pack::<T>(weights, weight_stride, len, channels / BLOCK, words, &mut start);
        if T::OFFSET != 0 && begin > 0 {
            for out in out.chunks_mut(out_stride.max(1)).take(rows) {
                part_mut(out, first, channels).iter_mut().zip(start).for_each(|(out, start)| *out += start);
            }
        }
        for row in (0..rows).step_by(BLOCK) {
            copy(input.get(row * input_stride + begin..).unwrap_or_default(), input_stride, len, copies);
            let out = out.as_mut_ptr().wrapping_add(row * out_stride + first);
            let stride = size_of::<i32>() * out_stride;
            let (from, from_stride) = if begin == 0 { (start.as_ptr(), 0) } else { (out.cast_const(), stride) };
            // SAFETY: `padded / 2` words have been written for each block of channels, `start` has a sum for each channel, and `fits` has
            // vouched for those of the output.
            unsafe {
                multiply(copies, words.as_ptr().cast(), out, stride, channels / BLOCK, padded, from, from_stride)
            };
        }
    }
}

/// Copies `len` inputs of four rows, as int8.
fn copy<T: Input>(input: &[T], stride: usize, len: usize, copies: &mut Copies) {
    let is_aligned = input.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(4);
    let whole = if is_aligned { len & !15 } else { 0 };
    if whole > 0 {
        // SAFETY: `fits` has shown that four rows have `len` elements each.
        unsafe { T::COPY(input.as_ptr(), stride, copies, whole) };
    }
    if whole < len {
        for (index, copy) in copies.iter_mut().enumerate() {
            let row = bytemuck::cast_slice::<T, u8>(part(input, index * stride, len)).iter();
            for (copy, &value) in bytemuck::cast_slice_mut::<u32, u8>(copy).iter_mut().zip(row).skip(whole) {
                *copy = value ^ T::OFFSET as u8;
            }
        }
    }
}

/// Copies `len` inputs of four rows, as int8.
macro_rules! copy {
    ($name:ident, $type:ty, $flip:literal) => {
        /// # Safety
        ///
        /// Four rows have `len` elements each, a multiple of 16, not 0. They begin at multiples of 4, `stride` apart.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(input: *const $type, stride: usize, copies: *mut Copies, len: usize) {
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

/// Makes words of `len` inputs of some blocks of channels, with zeros behind the last up to a whole [`STEP`], of which there is one at least;
/// `start` becomes what these inputs lack, having been made int8.
fn pack<T: Input>(
    weights: &[i8],
    stride: usize,
    len: usize,
    blocks: usize,
    words: &mut Scratch,
    start: &mut [i32; CHANNELS],
) {
    /// Words of a step.
    const WORDS: usize = STEP / 2;
    let mut sums = [0; CHANNELS / 2];
    let (steps, left) = (len / STEP, len % STEP);
    let is_padded = left > 0 || steps == 0;
    let first = words.as_mut_ptr().cast::<Words>();
    if steps > 0 {
        let gap = if is_padded { size_of::<Words>() * WORDS } else { 0 };
        // SAFETY: so many rows of weights have `len` elements each, and there is room for half as many words, rounded up to whole steps.
        unsafe { T::PACK(weights.as_ptr(), stride, first, steps, &mut sums, blocks, gap) };
    }
    if is_padded {
        for (block, sums) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate().take(blocks) {
            let mut padded = [[0i8; STEP]; BLOCK];
            for (padded, channel) in padded.iter_mut().zip(block * BLOCK..) {
                let left = part(weights, channel * stride + steps * STEP, left);
                padded.iter_mut().zip(left).for_each(|(padded, &weight)| *padded = weight);
            }
            let mut of_step = [0; CHANNELS / 2];
            let at = first.wrapping_add(block * (steps + 1) * WORDS + steps * WORDS);
            // SAFETY: four rows of one step, and the last words of their block.
            unsafe { T::PACK(padded.as_ptr().cast(), STEP, at, 1, &mut of_step, 1, 0) };
            sums.iter_mut().zip(of_step).for_each(|(sum, of_step)| *sum = sum.wrapping_add(of_step));
        }
    }
    if T::OFFSET != 0 {
        for (start, sum) in start.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
            // At most 127 for each input: an int16.
            let low = i32::from(sum as i16);
            *start = [T::OFFSET * low, T::OFFSET * ((sum as i32).wrapping_sub(low) >> 16)];
        }
    }
}

/// Makes words of `steps` · [`STEP`] inputs of some blocks of channels; the second of these functions also adds them up.
macro_rules! pack {
    ($name:ident, $sum_0:literal, $sum_1:literal) => {
        /// # Safety
        ///
        /// So many rows of weights, `stride` apart, have so many elements, and for each block there is room for half as many words, `gap` bytes
        /// behind those of the last. Neither number is 0.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
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
        unsafe extern "C" fn $name(
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
unsafe extern "C" fn multiply(
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
