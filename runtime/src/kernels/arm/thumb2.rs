//! Armv7-M without the DSP extension: Cortex-M3. `MLA` multiplies one word by one word, so a word holds the weights of two channels,
//! `w₀ + 2¹⁶ · w₁`, and one `MLA` adds the products of both.
//!
//! After two of them, from 2¹⁵ on, the low half is `2¹⁵ + Σ x · w₀`, which no two products of int8 leave, and the high half `Σ x · w₁`, exactly.
//! One sum takes the whole word and wraps, another the high half: at the end the second channel is the one, and the first what is left of the
//! other. Four instructions are 4 products, as four plain `MLA` would be, but of these a Cortex-M3 needs two cycles each, and of additions one;
//! and half of the weights' loads are saved. (`SMLAL`, with room for more in a sum, takes it up to 7 cycles.)
#![allow(unsafe_code)]

use core::arch::{asm, naked_asm};
use core::mem::MaybeUninit;

use super::{activation, magnitude, norm, quantize, softmax, tiles};
use crate::kernels::registers::{Core, table};
use crate::kernels::{Kernels, MatmulShape, scalar};

/// Runs on every Armv7-M: see `build.rs`.
pub(super) static THUMB2: Kernels = Kernels {
    scale_accumulators: tiles::scale_accumulators,
    requantize: tiles::requantize,
    add_residual: tiles::add_residual,
    activate_tile: activation::activate_tile,
    largest_i16: magnitude::largest_i16,
    quantize_i16: quantize::quantize_i16,
    softmax_row: softmax::softmax_row,
    layer_norm_sums: norm::layer_norm_sums,
    layer_norm: norm::layer_norm,
    ..table!("thumb2", Thumb2, matmul_i8, matmul_u8_i8)
};

pub(super) struct Thumb2;

impl Core for Thumb2 {
    #[inline(always)]
    fn multiply_high(a: i32, b: i32) -> i32 {
        let high;
        // SAFETY: arithmetic. The highest bit of the low half is the one that rounds.
        unsafe {
            asm!(
                "smull {low}, {high}, {a}, {b}",
                "lsls {low}, {low}, #1",
                "adc {high}, {high}, #0",
                a = in(reg) a, b = in(reg) b, low = out(reg) _, high = out(reg) high,
                options(pure, nomem, nostack),
            );
        }
        high
    }

    #[inline(always)]
    fn saturate(values: [i32; 4]) -> [i16; 4] {
        values.map(|value| {
            let saturated: i32;
            // SAFETY: arithmetic. Of what is saturated, −32768 alone stays negative with 32767 added.
            unsafe {
                asm!(
                    "ssat {value}, #16, {value}",
                    "add {sum}, {value}, {most}",
                    "sub {value}, {value}, {sum}, asr #31",
                    value = inout(reg) value => saturated, sum = out(reg) _, most = in(reg) 32767,
                    options(pure, nomem, nostack),
                );
            }
            saturated as i16
        })
    }
}

/// Inputs whose weights are packed at a time, a multiple of [`STEP`].
const CHUNK: usize = 64;
/// Inputs that [`multiply`] takes at a time.
const STEP: usize = 16;
/// Channels whose weights are packed at a time.
const CHANNELS: usize = 16;
/// Channels whose sums are in registers together.
const QUAD: usize = 4;
/// Rows that are copied at a time, where they have to be.
const ROWS: usize = 8;
/// What the low half begins with.
const HALF: usize = 1 << 15;

/// Two channels' weights of two inputs of a quad: `[channels 0 and 1, channels 2 and 3]` for each input.
type Words = [u32; 2];

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    if usable(shape, input.len(), weight.len(), out.len()) {
        matmul(shape, input, weight, out, 0);
    } else {
        (scalar::SCALAR.matmul_i8)(shape, input, weight, out);
    }
}

/// A probability less 128 is an int8; what this takes away from a sum is 128 times the sum of the weights.
fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    if usable(shape, input.len(), weight.len(), out.len()) {
        matmul(shape, bytemuck::cast_slice(input), weight, out, 0x80);
    } else {
        (scalar::SCALAR.matmul_u8_i8)(shape, input, weight, out);
    }
}

/// Whether the slices are long enough, and there are rows one behind the other.
fn usable(shape: &MatmulShape, input_len: usize, weight_len: usize, out_len: usize) -> bool {
    let MatmulShape { m, n, k, input_stride, out_stride, .. } = *shape;
    shape.fits(input_len, weight_len, out_len) && m * n * k > 0 && input_stride >= k && out_stride >= n
}

/// The products of rows whose bytes are int8 once `flip` has been applied to them.
fn matmul(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32], flip: u8) {
    let MatmulShape { m, n, k, input_stride, weight_stride, out_stride, .. } = *shape;
    for row in out.chunks_mut(out_stride).take(m) {
        row.iter_mut().take(n).for_each(|sum| *sum = 0);
    }
    let mut words = [const { MaybeUninit::<Words>::uninit() }; CHANNELS / QUAD * CHUNK];
    let words = words.as_mut_ptr().cast::<Words>();
    let mut rows = [[0; CHUNK]; ROWS];
    let mut channel = 0;
    while channel < n {
        let channels = CHANNELS.min(n - channel);
        let mut weight_sums = [0; CHANNELS];
        let mut begin = 0;
        while begin < k {
            let count = CHUNK.min(k - begin);
            let steps = count.next_multiple_of(STEP);
            // SAFETY: `usable` has shown that `k` inputs lie in every row; there is room for `CHUNK` inputs of every quad.
            unsafe {
                let first = weight.as_ptr().add(channel * weight_stride + begin);
                pack(first, weight_stride, [channels, count], words);
                if flip != 0 {
                    for (quad, sums) in weight_sums.as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
                        sum_words(words.add(quad * steps), steps).iter().zip(sums).for_each(|(sum, all)| *all += sum);
                    }
                }
            }
            let products = |input: *const i8, stride: usize, m: usize, out: *mut i32, out_stride: usize| Products {
                input,
                weight: words,
                out,
                halves: HALF * steps / 2,
                gap: stride - steps,
                out_step: size_of::<i32>() * out_stride,
                input_end: input.wrapping_add(m * stride),
                quads: channels.div_ceil(QUAD),
                weight_bytes: size_of::<Words>() * steps,
            };
            let is_in_place = flip == 0 && count == steps;
            let is_whole = channels.is_multiple_of(QUAD);
            let block = if is_in_place && is_whole { m } else { ROWS };
            for first in (0..m).step_by(block) {
                let m = block.min(m - first);
                let from = input.get(first * input_stride + begin..).unwrap_or_default();
                let (from, stride) = if is_in_place {
                    (from.as_ptr(), input_stride)
                } else {
                    for (row, from) in rows.iter_mut().zip(from.chunks(input_stride)).take(m) {
                        copy(from.get(..count).unwrap_or_default(), flip, row);
                    }
                    (rows.as_ptr().cast(), CHUNK)
                };
                let out = out.get_mut(first * out_stride + channel..).unwrap_or_default();
                // SAFETY: `usable` has shown that `k` inputs and `n` sums lie in every row; of copies there are as many as `ROWS`.
                unsafe {
                    if is_whole {
                        multiply(products(from, stride, m, out.as_mut_ptr(), out_stride));
                    } else {
                        multiply_part(
                            out,
                            channels,
                            &products(from, stride, m, core::ptr::null_mut(), CHANNELS),
                            out_stride,
                        );
                    }
                }
            }
            begin += count;
        }
        if flip != 0 {
            let out = out.get_mut(channel..).unwrap_or_default();
            for row in out.chunks_mut(out_stride).take(m) {
                row.iter_mut().zip(&weight_sums).take(channels).for_each(|(sum, weights)| *sum += weights << 7);
            }
        }
        channel += channels;
    }
}

/// [`multiply`] for up to [`ROWS`] rows of channels that are no whole quads: through a tile that has room for what is too much.
///
/// # Safety
///
/// As for `multiply`, but for `products.out`.
#[cold]
unsafe fn multiply_part(out: &mut [i32], channels: usize, products: &Products, out_stride: usize) {
    let mut tile = [[0; CHANNELS]; ROWS];
    for (tile, out) in tile.iter_mut().zip(out.chunks(out_stride)) {
        tile.iter_mut().zip(out).take(channels).for_each(|(tile, &sum)| *tile = sum);
    }
    // SAFETY: the caller's promise; the tile has 16 channels of `ROWS` rows.
    unsafe { multiply(Products { out: tile.as_mut_ptr().cast(), ..*products }) };
    for (tile, out) in tile.iter().zip(out.chunks_mut(out_stride)) {
        out.iter_mut().zip(tile).take(channels).for_each(|(sum, &tile)| *sum = tile);
    }
}

/// Copies inputs with `flip` applied to each; the row may be longer.
#[inline(always)]
fn copy(from: &[i8], flip: u8, row: &mut [i8; CHUNK]) {
    let flips = u32::from_ne_bytes([flip; 4]);
    match from.as_array::<CHUNK>() {
        Some(from) => {
            for (to, &from) in row.as_chunks_mut::<16>().0.iter_mut().zip(from.as_chunks::<16>().0) {
                let [a, b, c, d]: [u32; 4] = bytemuck::cast(from);
                *to = bytemuck::cast([a ^ flips, b ^ flips, c ^ flips, d ^ flips]);
            }
        }
        None => row.iter_mut().zip(from).for_each(|(to, &from)| *to = from ^ flip as i8),
    }
}

/// What the packed weights of each channel of a quad add up to.
///
/// # Safety
///
/// `steps`, a multiple of [`STEP`], not 0, and at most [`CHUNK`], are readable.
unsafe fn sum_words(words: *const Words, steps: usize) -> [i32; QUAD] {
    let (mut low, mut high) = (0i32, 0i32);
    // SAFETY: the caller's promise. A word's sum is that of its halves, below 2¹⁵ each.
    unsafe {
        asm!(
            "2:",
            "ldmia {words}!, {{r4, r5, r8, r10}}",
            "add {low}, r4",
            "add {high}, r5",
            "add {low}, r8",
            "add {high}, r10",
            "ldmia {words}!, {{r4, r5, r8, r10}}",
            "add {low}, r4",
            "add {high}, r5",
            "add {low}, r8",
            "add {high}, r10",
            "subs {steps}, #4",
            "bne 2b",
            words = inout(reg) words => _, steps = inout(reg) steps => _, low = inout(reg) low, high = inout(reg) high,
            out("r4") _, out("r5") _, out("r8") _, out("r10") _,
            options(readonly, nostack),
        );
    }
    let halves = |word: i32| {
        let first = i32::from(word as i16);
        [first, (word - first) >> 16]
    };
    let ([a, b], [c, d]) = (halves(low), halves(high));
    [a, b, c, d]
}

/// Packs `count` inputs of some channels, whose rows lie `stride` elements apart, with zeros up to whole steps. Behind the last channel of a
/// quad it stands again; its sums are not used.
///
/// # Safety
///
/// Of neither there are 0, the rows are readable, and `out` has room for the steps of every quad.
unsafe fn pack(first: *const i8, stride: usize, [channels, count]: [usize; 2], out: *mut Words) {
    let quad_of =
        |quad: usize| [0, 1, 2, 3].map(|index| first.wrapping_add((QUAD * quad + index).min(channels - 1) * stride));
    // SAFETY: the caller's promise.
    unsafe {
        if count.is_multiple_of(STEP) && channels.is_multiple_of(QUAD) {
            let [row_0, row_1, row_2, row_3] = quad_of(0);
            pack_fours(row_0, row_1, row_2, row_3, out, count / 4, QUAD * stride - count, channels / QUAD);
        } else {
            let steps = count.next_multiple_of(STEP);
            for quad in 0..channels.div_ceil(QUAD) {
                pack_quad(quad_of(quad), count, core::slice::from_raw_parts_mut(out.add(quad * steps), steps));
            }
        }
    }
}

/// Packs `count` inputs of a quad, not 0, and zeros behind them.
///
/// # Safety
///
/// So many are readable of each row.
#[cold]
unsafe fn pack_quad(rows: [*const i8; QUAD], count: usize, out: &mut [Words]) {
    let fours = count / 4;
    // SAFETY: the caller's promise.
    let rows_read = rows.map(|row| unsafe { core::slice::from_raw_parts(row, count) });
    if fours > 0 {
        let [row_0, row_1, row_2, row_3] = rows;
        // SAFETY: as above, and `out` has room for them.
        unsafe { pack_fours(row_0, row_1, row_2, row_3, out.as_mut_ptr(), fours, 0, 1) };
    }
    for (index, words) in out.iter_mut().enumerate().skip(4 * fours) {
        let [a, b, c, d] = rows_read.map(|row| i32::from(row.get(index).copied().unwrap_or(0)) as u32);
        *words = [a.wrapping_add(b << 16), c.wrapping_add(d << 16)];
    }
}

/// Packs `fours · 4` inputs, not 0, of four channels; then of the four whose rows begin `gap` elements behind the ends of these, and so on for
/// `quads` quads, not 0.
///
/// # Safety
///
/// So many are readable, and there is room for them.
#[unsafe(naked)]
unsafe extern "C" fn pack_fours(
    row_0: *const i8,
    row_1: *const i8,
    row_2: *const i8,
    row_3: *const i8,
    out: *mut Words,
    fours: usize,
    gap: usize,
    quads: usize,
) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldr r12, [sp, #36]",
        "1:",
        "ldr lr, [sp, #40]",
        "2:",
        "ldr r4, [r0], #4",
        "ldr r5, [r1], #4",
        "ldr r6, [r2], #4",
        "ldr r7, [r3], #4",
        ".irp turn, 0, 8, 16, 24",
        "sxtb r8, r4, ror #\\turn",
        "sxtb r9, r5, ror #\\turn",
        "sxtb r10, r6, ror #\\turn",
        "sxtb r11, r7, ror #\\turn",
        "add r8, r8, r9, lsl #16",
        "add r10, r10, r11, lsl #16",
        "strd r8, r10, [r12], #8",
        ".endr",
        "subs lr, #1",
        "bne 2b",
        "ldrd r4, r5, [sp, #44]",
        "add r0, r4",
        "add r1, r4",
        "add r2, r4",
        "add r3, r4",
        "subs r5, #1",
        "str r5, [sp, #48]",
        "bne 1b",
        "pop {{r4-r11, pc}}",
    )
}

/// What [`multiply`] multiplies. It is handed over by value: the first four words in registers, the others on the stack.
#[derive(Clone, Copy)]
#[repr(C)]
struct Products {
    /// The first row.
    input: *const i8,
    /// Quads of channels, packed.
    weight: *const Words,
    /// Sums of the first row.
    out: *mut i32,
    /// What [`HALF`] has added to a sum in the end.
    halves: usize,
    /// From the end of a row to the next.
    gap: usize,
    /// From a row of sums to the next, in bytes.
    out_step: usize,
    /// Where the row behind the last would begin.
    input_end: *const i8,
    /// Quads, not 0.
    quads: usize,
    /// Bytes of a quad.
    weight_bytes: usize,
}

/// Adds to rows of sums the products of rows with quads of channels.
///
/// # Safety
///
/// All that `products` tells of is readable or writable; there is at least one row, of a multiple of [`STEP`] inputs, not 0.
#[unsafe(naked)]
unsafe extern "C" fn multiply(products: Products) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "add r7, sp, #36",
        "ldmia r7, {{r4-r6}}",
        // The first row and its sums stand where the gap and the step were.
        "strd r0, r2, [sp, #36]",
        "push {{r1-r6}}",
        "mov r2, #{half}",
        // A quad.
        "1:",
        "ldr r0, [sp, #60]",
        "ldr r3, [sp, #76]",
        "ldmia.w sp, {{r1, r8-r12}}",
        "add r3, r1",
        // A row.
        "2:",
        "ldmia.w r8, {{r4-r7}}",
        "add r4, r4, r5, lsl #16",
        "add r6, r6, r7, lsl #16",
        "sub r4, r9",
        "sub r6, r9",
        "3:",
        ".rept {step} / 2",
        "ldrsb lr, [r0, #1]",
        "ldrsb r12, [r0], #2",
        "ldmia.w r1!, {{r8-r11}}",
        "mla r8, r12, r8, r2",
        "mla r9, r12, r9, r2",
        "mla r8, lr, r10, r8",
        "mla r9, lr, r11, r9",
        "add r4, r8",
        "add r5, r5, r8, asr #16",
        "add r6, r9",
        "add r7, r7, r9, asr #16",
        ".endr",
        "cmp r1, r3",
        "bne 3b",
        "sub r4, r4, r5, lsl #16",
        "sub r6, r6, r7, lsl #16",
        "ldmia.w sp, {{r1, r8-r12}}",
        "stmia.w r8, {{r4-r7}}",
        "add r8, r11",
        "add r0, r10",
        "str r8, [sp, #4]",
        "cmp r0, r12",
        "bne 2b",
        "ldr r4, [sp, #72]",
        "ldr r5, [sp, #64]",
        "str r3, [sp]",
        "adds r5, #16",
        "str r5, [sp, #4]",
        "str r5, [sp, #64]",
        "subs r4, #1",
        "str r4, [sp, #72]",
        "bne 1b",
        "add sp, #24",
        "pop {{r4-r11, pc}}",
        half = const HALF,
        step = const STEP,
    )
}
