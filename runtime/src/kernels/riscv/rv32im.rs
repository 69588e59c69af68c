//! The base with multiplication, RV32IM, which knows neither vectors nor multiply-accumulate. One `mul` makes two products all the same:
//! two channels lie in a word, `w₀ + w₁ · 2¹⁶`, and a word times one input is both products, side by side.
//!
//! Two such words may be added, no more: `2 · 128 · 127` fills the lower half, which is signed. The upper half of that sum, rounded, is
//! exactly the second channel's part; those are added up. The sums themselves are added up modulo 2³², and when the second channel is
//! subtracted from them, the first is left. So four products take two `mul` and five other instructions, 1.75 each, where `mul` and `add`
//! would take two; with 2 rows × 8 channels in registers the loads are 0.375.
//!
//! Words of two channels are made in scratch memory, for 16 channels at a time. Rows of int8 are read where they lie; of u8 inputs a copy is made, 128
//! less, and 128 times the sum of a channel's weights is added in the end.
//!
//! Nothing here is dearer in cycles than in instructions: where a core takes several cycles for a `mul`, there are half as many of them.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

use super::loops::{
    BLOCK, CHANNELS, CHUNK, Copies, Pack, PairSums, Product, ROW_BLOCK, ROW_STEP, ROWS, STEP, Words, copy_u8, multiply,
    pack_and_sum, pack_i8, row_i8, row_u8,
};
use super::rows::{self, Rv32im};
use super::tiles;
use crate::kernels::registers::table;
use crate::kernels::{Kernels, MatmulShape};

/// Runs where the compiler was told of multiplication.
pub(super) static RV32IM: Kernels = Kernels {
    requantize: tiles::requantize,
    add_residual: tiles::add_residual,
    activate_tile: tiles::activate_tile,
    largest_i16: rows::largest_i16,
    quantize_i16: rows::quantize_i16,
    softmax_row: rows::softmax_row,
    layer_norm_sums: rows::layer_norm_sums,
    layer_norm: rows::layer_norm,
    ..table!("rv32im", Rv32im, matmul_i8, matmul_u8_i8)
};

/// The words of some channels.
type Scratch = [MaybeUninit<Words>; CHANNELS / BLOCK * CHUNK];

/// int8 or u8.
trait Input: bytemuck::Pod + Into<i32> {
    /// What makes an int8 of it when subtracted: 0 or 128.
    const OFFSET: i32;
    /// See [`row_i8`].
    const ROW: unsafe extern "C" fn(*const Self, *const i8, usize, &mut [i32; ROW_BLOCK], *const Self);
    /// See [`pack_i8`].
    const PACK: Pack;
}

impl Input for i8 {
    const OFFSET: i32 = 0;
    const ROW: unsafe extern "C" fn(*const i8, *const i8, usize, &mut [i32; ROW_BLOCK], *const i8) = row_i8;
    const PACK: Pack = pack_i8;
}

impl Input for u8 {
    const OFFSET: i32 = 128;
    const ROW: unsafe extern "C" fn(*const u8, *const i8, usize, &mut [i32; ROW_BLOCK], *const u8) = row_u8;
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
    let rows = m - m % ROWS;
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
    for (index, out) in out.chunks_mut(ROW_BLOCK).enumerate().skip(done / ROW_BLOCK) {
        let weights = weight.get(index * ROW_BLOCK * weight_stride..).unwrap_or_default();
        let mut sums = [0; ROW_BLOCK];
        let mut behind = 0;
        if out.len() == ROW_BLOCK && steps > 0 {
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

/// `rows` rows by some channels, `channels` of them from `first` on: multiples of [`ROWS`] and of [`BLOCK`], not 0, and not more than
/// [`CHANNELS`].
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
    let blocks = channels / BLOCK;
    // Chunks of even length; one even if there is nothing to add up.
    let chunks = k.div_ceil(CHUNK).max(1);
    let chunk = k.div_ceil(chunks).next_multiple_of(STEP).max(STEP);
    for begin in (0..chunks).map(|index| index * chunk) {
        let len = chunk.min(k - begin.min(k));
        let padded = len.next_multiple_of(STEP).max(STEP);
        let weights = weight.get(begin..).unwrap_or_default();
        let mut start = [0; CHANNELS];
        pack::<T>(weights, weight_stride, len, blocks, words, &mut start);
        if T::OFFSET != 0 && begin > 0 {
            for out in out.chunks_mut(out_stride.max(1)).take(rows) {
                part_mut(out, first, channels).iter_mut().zip(start).for_each(|(out, start)| *out += start);
            }
        }
        // Rows that are as the loop reads them are read where they lie.
        let in_place = T::OFFSET == 0 && len == padded;
        for row in (0..rows).step_by(if in_place { rows } else { ROWS }) {
            let input = input.get(row * input_stride + begin..).unwrap_or_default();
            let (input, input_stride, pairs) = if in_place {
                (input.as_ptr().cast(), input_stride, rows / ROWS)
            } else {
                copy(input, input_stride, len, copies);
                (copies.as_ptr().cast(), CHUNK, 1)
            };
            let out = out.as_mut_ptr().wrapping_add(row * out_stride + first);
            let out_stride = size_of::<i32>() * out_stride;
            let (from, from_stride) = if begin == 0 { (start.as_ptr(), 0) } else { (out.cast_const(), out_stride) };
            let words = words.as_ptr().cast();
            // SAFETY: `padded` words have been written for each block of channels, `start` has a sum for each channel, and `fits` has vouched for
            // inputs and sums.
            unsafe {
                multiply(&mut Product {
                    input,
                    input_stride,
                    words,
                    len: padded,
                    blocks,
                    pairs,
                    out,
                    out_stride,
                    from,
                    from_stride,
                });
            }
        }
    }
}

/// Copies `len` inputs of two rows, as int8.
fn copy<T: Input>(input: &[T], stride: usize, len: usize, copies: &mut Copies) {
    let is_aligned = input.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(4);
    let whole = if is_aligned && T::OFFSET != 0 { len & !15 } else { 0 };
    if whole > 0 {
        // SAFETY: `fits` has shown that two rows have `len` elements each.
        unsafe { copy_u8(input.as_ptr().cast(), stride, copies, whole) };
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
    let mut sums: PairSums = [0; _];
    let (steps, left) = (len / STEP, len % STEP);
    let is_padded = left > 0 || steps == 0;
    let first = words.as_mut_ptr().cast::<Words>();
    if steps > 0 {
        let gap = if is_padded { size_of::<Words>() * STEP } else { 0 };
        // SAFETY: so many rows of weights have `len` elements each, and there is room for as many words, rounded up to whole steps.
        unsafe { T::PACK(weights.as_ptr(), stride, first, steps, &mut sums, blocks, gap) };
    }
    if is_padded {
        for (block, sums) in sums.as_chunks_mut::<{ BLOCK / 2 }>().0.iter_mut().enumerate().take(blocks) {
            let mut padded = [[0i8; STEP]; BLOCK];
            for (padded, channel) in padded.iter_mut().zip(block * BLOCK..) {
                let left = part(weights, channel * stride + steps * STEP, left);
                padded.iter_mut().zip(left).for_each(|(padded, &weight)| *padded = weight);
            }
            let mut of_step: PairSums = [0; _];
            let at = first.wrapping_add((block * (steps + 1) + steps) * STEP);
            // SAFETY: the rows of one step, and the last words of their block.
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
