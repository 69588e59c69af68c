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

use crate::kernels::registers::{Core, table};
use crate::kernels::{Kernels, MatmulShape};
use crate::ops::fixed_point::saturate_i16;

/// Runs where the compiler was told of multiplication.
pub(super) static RV32IM: Kernels = table!("rv32im", Rv32im, matmul_i8, matmul_u8_i8);

struct Rv32im;

impl Core for Rv32im {
    #[inline(always)]
    fn multiply_high(a: i32, b: i32) -> i32 {
        let low = a.wrapping_mul(b) as u32;
        let high = ((i64::from(a) * i64::from(b)) >> 32) as i32;
        // The bit that rounds, without a carry to look for.
        high.wrapping_add((low >> 31) as i32)
    }

    #[inline(always)]
    fn saturate(values: [i32; 4]) -> [i16; 4] {
        values.map(saturate_i16)
    }
}

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

/// int8 or u8.
trait Input: bytemuck::Pod + Into<i32> {
    /// What makes an int8 of it when subtracted: 0 or 128.
    const OFFSET: i32;
}

impl Input for i8 {
    const OFFSET: i32 = 0;
}

impl Input for u8 {
    const OFFSET: i32 = 128;
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
    let MatmulShape { m, n, k, input_stride, weight_stride, out_stride, .. } = *shape;
    let rows = m - m % BLOCK;
    let channels = if rows > 0 { n - n % BLOCK } else { 0 };
    for first in (0..channels).step_by(CHANNELS) {
        let channels = CHANNELS.min(channels - first);
        // SAFETY: `fits` has shown that so many rows of the three slices lie inside of them.
        unsafe { blocks(shape, rows, (first, channels), input, weight, out) };
    }
    for (m, out) in out.chunks_mut(out_stride.max(1)).take(m).enumerate() {
        let first = if m < rows { channels } else { 0 };
        let input = part(input, m * input_stride, k);
        let mut weights = (first..n).map(|n| part(weight, n * weight_stride, k));
        let (fours, left) = part_mut(out, first, n - first).as_chunks_mut::<BLOCK>();
        for out in fours {
            *out = products(input, [(); BLOCK].map(|()| weights.next().unwrap_or_default()));
        }
        for out in left {
            [*out] = products(input, [weights.next().unwrap_or_default()]);
        }
    }
}

fn part<T>(slice: &[T], first: usize, count: usize) -> &[T] {
    slice.get(first..).and_then(|behind| behind.get(..count)).unwrap_or_default()
}

fn part_mut<T>(slice: &mut [T], first: usize, count: usize) -> &mut [T] {
    slice.get_mut(first..).and_then(|behind| behind.get_mut(..count)).unwrap_or_default()
}

/// One row by `N` channels.
#[inline(always)]
fn products<T: Input, const N: usize>(input: &[T], weights: [&[i8]; N]) -> [i32; N] {
    let (inputs, inputs_left) = input.as_chunks::<STEP>();
    let mut sums = [0; N];
    for (sum, weight) in sums.iter_mut().zip(weights) {
        let (weights, weights_left) = weight.as_chunks::<STEP>();
        let steps = inputs.as_flattened().iter().zip(weights.as_flattened());
        *sum = steps.chain(inputs_left.iter().zip(weights_left)).map(|(&x, &w)| x.into() * i32::from(w)).sum();
    }
    sums
}

/// `rows` rows by some channels, `channels` of them from `first` on: both multiples of [`BLOCK`], and not more than [`CHANNELS`].
///
/// # Safety
///
/// So many rows of the three slices lie inside of them.
unsafe fn blocks<T: Input>(
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
        let of_blocks = words.chunks_exact_mut(padded / 2).zip(sums.as_chunks_mut::<BLOCK>().0);
        for ((words, sums), channel) in of_blocks.zip((first..first + channels).step_by(BLOCK)) {
            let weights = core::array::from_fn(|index| part(weight, (channel + index) * weight_stride + begin, len));
            let of_chunk = pack(weights, words);
            sums.iter_mut().zip(of_chunk).for_each(|(sum, of_chunk)| *sum += of_chunk);
        }
        for row in (0..rows).step_by(BLOCK) {
            for (index, copy) in copies.iter_mut().enumerate() {
                copy_row(part(input, (row + index) * input_stride + begin, len), copy);
            }
            let copies = copies.as_ptr().cast::<i8>();
            let out = out.as_mut_ptr().wrapping_add(row * out_stride + first);
            // SAFETY: `padded / 2` words have been written for each block of channels, and the caller vouches for the sums.
            unsafe {
                multiply(
                    copies,
                    words.as_ptr().cast(),
                    out,
                    size_of::<i32>() * out_stride,
                    channels / BLOCK,
                    copies.wrapping_add(padded),
                );
            }
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
    if let Ok(row) = bytemuck::try_cast_slice::<T, Words>(row) {
        for (copy, words) in copy.as_chunks_mut::<BLOCK>().0.iter_mut().zip(row) {
            *copy = words.map(|word| word ^ flip);
        }
    } else {
        let copy: &mut [u8] = bytemuck::cast_slice_mut(copy);
        for (copy, &value) in copy.iter_mut().zip(bytemuck::cast_slice::<T, u8>(row)) {
            *copy = value ^ flip as u8;
        }
    }
}

/// Makes words of a block of channels, with zeros behind the last input; returns the sum of each channel.
#[inline(always)]
fn pack(weights: [&[i8]; BLOCK], words: &mut [MaybeUninit<Words>]) -> [i32; BLOCK] {
    let mut pairs = [0u32; 2];
    let mut step = |words: &mut [MaybeUninit<Words>; STEP / 2], [a, b, c, d]: [&[i8; STEP]; BLOCK]| {
        let mut input = 0;
        for words in words {
            let pair = |low: &[i8; STEP], high: &[i8; STEP], input: usize| {
                (i32::from(low[input]) + (i32::from(high[input]) << 16)) as u32
            };
            let of_words = [pair(a, b, input), pair(c, d, input), pair(a, b, input + 1), pair(c, d, input + 1)];
            pairs[0] = pairs[0].wrapping_add(of_words[0]).wrapping_add(of_words[2]);
            pairs[1] = pairs[1].wrapping_add(of_words[1]).wrapping_add(of_words[3]);
            words.write(of_words);
            input += 2;
        }
    };
    let [(a, a_left), (b, b_left), (c, c_left), (d, d_left)] = weights.map(|row| row.as_chunks::<STEP>());
    let mut steps = words.as_chunks_mut::<{ STEP / 2 }>().0.iter_mut();
    for ((((a, b), c), d), words) in a.iter().zip(b).zip(c).zip(d).zip(steps.by_ref()) {
        step(words, [a, b, c, d]);
    }
    if let Some(words) = steps.next() {
        let padded = [a_left, b_left, c_left, d_left].map(|left| core::array::from_fn(|index| left.get(index).copied().unwrap_or(0)));
        step(words, padded.each_ref());
    }
    let [low, high] = pairs.map(|pair| {
        let low = i32::from(pair as i16);
        [low, (pair.wrapping_sub(low as u32) as i32) >> 16]
    });
    [low[0], low[1], high[0], high[1]]
}

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
