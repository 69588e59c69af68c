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
const CHUNK: usize = 192;
/// Inputs that [`multiply`] has unrolled.
const STEP: usize = 8;

/// Two inputs of a block of channels: of the first, channels 0 and 1, and 2 and 3; the same of the second.
type Words = [u32; BLOCK];

/// Channels packed in pairs by [`pack`]: the sum of each pair's words.
type PairSums = [u32; BLOCK / 2];

/// int8 or u8.
trait Input: bytemuck::Pod + Into<i32> {
    /// What makes an int8 of it when subtracted: 0 or 128.
    const OFFSET: i32;
    /// See [`row_i8`].
    const ROW: unsafe extern "C" fn(*const Self, *const i8, usize, &mut [i32; BLOCK], *const Self);
    /// See [`pack_i8`].
    const PACK: unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums);
}

impl Input for i8 {
    const OFFSET: i32 = 0;
    const ROW: unsafe extern "C" fn(*const i8, *const i8, usize, &mut [i32; BLOCK], *const i8) = row_i8;
    const PACK: unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums) = pack_i8;
}

impl Input for u8 {
    const OFFSET: i32 = 128;
    const ROW: unsafe extern "C" fn(*const u8, *const i8, usize, &mut [i32; BLOCK], *const u8) = row_u8;
    const PACK: unsafe extern "C" fn(*const i8, usize, *mut Words, usize, &mut PairSums) = pack_and_sum;
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
    for first in (0..in_blocks).step_by(CHANNELS) {
        blocks(shape, rows, (first, CHANNELS.min(in_blocks - first)), input, weight, out);
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
    let steps = k - k % STEP;
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
) {
    let MatmulShape { k, input_stride, weight_stride, out_stride, .. } = *shape;
    let mut words = [const { MaybeUninit::<Words>::uninit() }; CHANNELS / BLOCK * CHUNK / 2];
    let mut copies = [[0u32; CHUNK / 4]; BLOCK];
    let mut sums = [0; CHANNELS];
    for out in out.chunks_mut(out_stride.max(1)).take(rows) {
        part_mut(out, first, channels).fill(0);
    }
    // Chunks of even length.
    let chunk = k.div_ceil(k.div_ceil(CHUNK).max(1)).next_multiple_of(STEP);
    let mut begin = 0;
    while begin < k {
        let len = chunk.min(k - begin);
        let padded = len.next_multiple_of(STEP);
        for (block, sums) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().take(channels / BLOCK) {
            let weights = weight.get((first + block * BLOCK) * weight_stride + begin..).unwrap_or_default();
            let words = part_mut(&mut words, block * padded / 2, padded / 2);
            pack::<T>(weights, weight_stride, len, words, sums);
        }
        for row in (0..rows).step_by(BLOCK) {
            for (index, copy) in copies.iter_mut().enumerate() {
                copy_row(part(input, (row + index) * input_stride + begin, len), copy);
            }
            let copies = copies.as_ptr().cast::<i8>();
            let out = out.as_mut_ptr().wrapping_add(row * out_stride + first);
            let (words, out_stride) = (words.as_ptr().cast(), size_of::<i32>() * out_stride);
            // SAFETY: `padded / 2` words have been written for each block of channels, and `fits` has vouched for the sums.
            unsafe { multiply(copies, words, out, out_stride, channels / BLOCK, copies.wrapping_add(padded)) };
        }
        begin += len;
    }
    if T::OFFSET != 0 {
        for out in out.chunks_mut(out_stride.max(1)).take(rows) {
            part_mut(out, first, channels).iter_mut().zip(&sums).for_each(|(out, sum)| *out += T::OFFSET * sum);
        }
    }
}

/// Copies a row to the beginning of another, as int8.
#[inline(always)]
fn copy_row<T: Input>(row: &[T], copy: &mut [u32; CHUNK / 4]) {
    let flip = 0x0101_0101 * T::OFFSET as u32;
    if let Ok(row) = bytemuck::try_cast_slice::<T, [u32; 4]>(row) {
        for (copy, words) in copy.as_chunks_mut::<4>().0.iter_mut().zip(row) {
            *copy = words.map(|word| word ^ flip);
        }
    } else {
        let copy: &mut [u8] = bytemuck::cast_slice_mut(copy);
        for (copy, &value) in copy.iter_mut().zip(bytemuck::cast_slice::<T, u8>(row)) {
            *copy = value ^ flip as u8;
        }
    }
}

/// Makes words of `len` inputs of a block of channels, with zeros behind the last; adds to the sums of the channels, if the input needs them.
fn pack<T: Input>(
    weights: &[i8],
    stride: usize,
    len: usize,
    words: &mut [MaybeUninit<Words>],
    sums: &mut [i32; BLOCK],
) {
    let mut pairs = [0; BLOCK / 2];
    let (steps, left) = (len / STEP, len % STEP);
    let first = words.as_mut_ptr().cast::<Words>();
    if steps > 0 {
        // SAFETY: four rows of weights have `len` elements each, and `words` has half as many, rounded up to whole steps.
        unsafe { T::PACK(weights.as_ptr(), stride, first, steps, &mut pairs) };
    }
    if left > 0 {
        let row = |channel: usize| part(weights, channel * stride + len - left, left);
        let padded = [0, 1, 2, 3]
            .map(|channel| core::array::from_fn::<i8, STEP, _>(|index| row(channel).get(index).copied().unwrap_or(0)));
        // SAFETY: four rows of one step, and the last words.
        unsafe { T::PACK(padded.as_ptr().cast(), STEP, first.wrapping_add(steps * STEP / 2), 1, &mut pairs) };
    }
    for (sums, pair) in sums.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        let low = i32::from(pair as i16);
        sums[0] += low;
        sums[1] += (pair as i32).wrapping_sub(low) >> 16;
    }
}

/// Makes words of `steps` · [`STEP`] inputs of a block of channels. The second of these functions also adds them up.
macro_rules! pack {
    ($name:ident, $sum_0:literal, $sum_1:literal) => {
        /// # Safety
        ///
        /// Four rows of weights, `stride` apart, have so many elements, not 0, and there is room for half as many words.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(weights: *const i8, stride: usize, words: *mut Words, steps: usize, sums: &mut PairSums) {
            naked_asm!(
                "add a5, a0, a1",
                "add a6, a5, a1",
                "add a7, a6, a1",
                "lw t4, 0(a4)",
                "lw t5, 4(a4)",
                "1:",
                ".irp input, 0, 1, 2, 3, 4, 5, 6, 7",
                "lb t0, \\input(a0)",
                "lb t1, \\input(a5)",
                "lb t2, \\input(a6)",
                "lb t3, \\input(a7)",
                "slli t1, t1, 16",
                "slli t3, t3, 16",
                "add t0, t0, t1",
                "add t2, t2, t3",
                $sum_0,
                $sum_1,
                "sw t0, 8*\\input(a2)",
                "sw t2, 8*\\input+4(a2)",
                ".endr",
                "addi a0, a0, {step}",
                "addi a5, a5, {step}",
                "addi a6, a6, {step}",
                "addi a7, a7, {step}",
                "addi a2, a2, 8*{step}",
                "addi a3, a3, -1",
                "bnez a3, 1b",
                "sw t4, 0(a4)",
                "sw t5, 4(a4)",
                "ret",
                step = const STEP,
            )
        }
    };
}

pack!(pack_i8, "", "");
pack!(pack_and_sum, "add t4, t4, t0", "add t5, t5, t2");

/// One row by a block of channels: what [`multiply`] leaves over.
macro_rules! row {
    ($name:ident, $type:ty, $load:literal) => {
        /// # Safety
        ///
        /// The row, not empty and of whole [`STEP`]s, and four rows of as many weights, `stride` apart, are readable.
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
                step = const STEP,
            )
        }
    };
}

row!(row_i8, i8, "lb");
row!(row_u8, u8, "lbu");

/// Adds to [`BLOCK`] rows of sums, for `blocks` blocks of channels, the products of the copied rows with the words of these channels.
///
/// # Safety
///
/// The rows lie `CHUNK` apart and are readable up to `input_end`, which belongs to the first; `words` holds half as many words for each block;
/// every row of sums, `out_stride` bytes behind the one before, has as many as there are channels. Neither number is 0.
#[unsafe(naked)]
unsafe extern "C" fn multiply(
    input: *const i8,
    words: *const Words,
    out: *mut i32,
    out_stride: usize,
    blocks: usize,
    input_end: *const i8,
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
        "sw a0, 0(sp)",
        "sw a2, 4(sp)",
        "sw a3, 8(sp)",
        "sw a4, 12(sp)",
        "sw a5, 16(sp)",
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
        "lw a0, 4(sp)",
        "lw a3, 8(sp)",
        "load_sums s0, s4, s1, s5",
        "load_sums s2, s6, s3, s7",
        "load_sums s8, t4, s9, t5",
        "load_sums s10, t6, s11, ra",
        "lw a0, 0(sp)",
        "lw a2, 16(sp)",
        "lui a3, 8",
        "2:",
        ".irp pair, 0, 1, 2, 3",
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
