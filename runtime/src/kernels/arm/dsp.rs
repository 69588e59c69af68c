//! The DSP extension: Cortex-M4, M7, M33. `SMLAD` adds two int16 products to an int32, exactly.
//!
//! Rows of both matrices are widened to int16 in scratch memory, two rows at a time side by side, so that two load-multiples of four
//! words feed eight `SMLAD`: 2 rows × 2 channels × 4 inputs. Word by word a pair of rows is
//! `[row 0: inputs 0 and 2][row 0: inputs 1 and 3][row 1: 0 and 2][row 1: 1 and 3]`, which is what `SXTB16` makes of four bytes; the order
//! within four inputs is the same on both sides and does not matter.
#![allow(unsafe_code)]

use core::arch::{asm, naked_asm};
use core::mem::MaybeUninit;

use super::{activation, magnitude, norm, quantize, softmax, tiles};
use crate::kernels::registers::{Core, table};
use crate::kernels::{Kernels, MatmulShape};
use crate::ops::fixed_point::rounding_multiply_high;

/// Runs where the compiler was told of the DSP extension: see `build.rs`.
pub(super) static DSP: Kernels = Kernels {
    scale_accumulators: tiles::scale_accumulators,
    requantize: tiles::requantize,
    add_residual: tiles::add_residual,
    activate_tile: activation::activate_tile,
    largest_i16: magnitude::largest_i16,
    quantize_i16: quantize::quantize_i16,
    quantize_i32: quantize::quantize_i32,
    softmax_row: softmax::softmax_row,
    layer_norm_sums: norm::layer_norm_sums,
    layer_norm: norm::layer_norm,
    ..table!("dsp", Dsp, matmul_i8, matmul_u8_i8)
};

struct Dsp;

impl Core for Dsp {
    #[inline(always)]
    fn multiply_high(a: i32, b: i32) -> i32 {
        // One instruction, which the compiler finds.
        rounding_multiply_high(a, b)
    }

    #[inline(always)]
    fn saturate(values: [i32; 4]) -> [i16; 4] {
        let [mut a, b, mut c, d] = values;
        // SAFETY: arithmetic. Saturated, packed in pairs, and the larger of these and −32767.
        unsafe {
            asm!(
                "ssat {a}, #16, {a}",
                "ssat {b}, #16, {b}",
                "ssat {c}, #16, {c}",
                "ssat {d}, #16, {d}",
                "pkhbt {a}, {a}, {b}, lsl #16",
                "pkhbt {c}, {c}, {d}, lsl #16",
                "ssub16 {b}, {a}, {least}",
                "sel {a}, {a}, {least}",
                "ssub16 {d}, {c}, {least}",
                "sel {c}, {c}, {least}",
                a = inout(reg) a, b = inout(reg) b => _, c = inout(reg) c, d = inout(reg) d => _,
                least = in(reg) 0x8001_8001_u32,
                options(pure, nomem, nostack),
            );
        }
        // SAFETY: two words are four halves.
        unsafe { core::mem::transmute([a, c]) }
    }
}

/// Four inputs of two rows, widened.
type Group = [u32; 4];
/// Inputs that are widened at a time, at most.
const CHUNK: usize = 128;
/// Groups of a chunk: what [`multiply`] has unrolled.
const GROUPS: usize = CHUNK / 4;
/// Channels whose weights are widened at a time.
const CHANNELS: usize = 16;
/// Scratch on the stack, in groups: the widened weights of 16 channels, and two rows; or, of a shorter chunk, up to eight rows.
const SCRATCH: usize = (CHANNELS / 2 + 1) * GROUPS;
const MOST_PAIRS: usize = 4;
const SHORT_CHUNK: usize = 72;
const _: () = assert!((CHANNELS / 2 + MOST_PAIRS) * SHORT_CHUNK / 4 <= SCRATCH);

fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

/// Widens `eights · 8` elements of two rows, not 0, which become twice as many groups; then of the rows that lie `gap` elements behind the
/// ends of these, and so on for `pairs` pairs of rows, not 0.
type WidenEights<T> =
    unsafe extern "C" fn(row_0: *const T, row_1: *const T, out: *mut Group, eights: usize, gap: usize, pairs: usize);

/// int8 or u8.
trait Widen: Copy + Into<i32> {
    const IS_I8: bool;
    /// For rows at any address.
    const ANY: WidenEights<Self>;
    /// For rows that begin at multiples of 4.
    const ALIGNED: WidenEights<Self>;
}

impl Widen for i8 {
    const IS_I8: bool = true;
    const ANY: WidenEights<i8> = widen_i8;
    const ALIGNED: WidenEights<i8> = widen_aligned_i8;
}

impl Widen for u8 {
    const IS_I8: bool = false;
    const ANY: WidenEights<u8> = widen_u8;
    const ALIGNED: WidenEights<u8> = widen_aligned_u8;
}

/// Eights of two rows: each is loaded, taken apart and stored. From r0 and r1 to r2, r3 of them, not 0; changes r4 to r11.
macro_rules! widen_eights {
    ($load_0:literal, $load_1:literal, $load_2:literal, $load_3:literal, $extend:literal) => {
        concat!(
            ".macro eight\n",
            $load_0,
            "\n",
            $load_1,
            "\n",
            $load_2,
            "\n",
            $load_3,
            "\n",
            $extend,
            " r4, r5\n",
            $extend,
            " r5, r5, ror #8\n",
            $extend,
            " r6, r7\n",
            $extend,
            " r7, r7, ror #8\n",
            $extend,
            " r8, r9\n",
            $extend,
            " r9, r9, ror #8\n",
            $extend,
            " r10, r11\n",
            $extend,
            " r11, r11, ror #8\n",
            "stmia r2!, {{r4-r11}}\n",
            ".endm\n",
            // What is more than a multiple of four first.
            "tst r3, #1\n",
            "beq 10f\n",
            "eight\n",
            "10: tst r3, #2\n",
            "beq 11f\n",
            "eight\n",
            "eight\n",
            "11: lsrs r3, r3, #2\n",
            "beq 13f\n",
            "12: eight\n",
            "eight\n",
            "eight\n",
            "eight\n",
            "subs r3, #1\n",
            "bne 12b\n",
            "13:\n",
            ".purgem eight\n",
        )
    };
}

/// See [`WidenEights`].
macro_rules! widen {
    ($name:ident, $type:ty, $($word:literal),*) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            row_0: *const $type,
            row_1: *const $type,
            out: *mut Group,
            eights: usize,
            gap: usize,
            pairs: usize,
        ) {
            naked_asm!(
        architecture!(),
                "push {{r4-r11, lr}}",
                "ldrd lr, r12, [sp, #36]",
                "push {{r3}}",
                "1: ldr r3, [sp]",
                widen_eights!($($word),*),
                "add r0, lr",
                "add r1, lr",
                "subs r12, #1",
                "bne 1b",
                "pop {{r3-r11, pc}}",
            )
        }
    };
}

widen!(widen_i8, i8, "ldr r5, [r0], #4", "ldr r9, [r0], #4", "ldr r7, [r1], #4", "ldr r11, [r1], #4", "sxtb16");
widen!(widen_u8, u8, "ldr r5, [r0], #4", "ldr r9, [r0], #4", "ldr r7, [r1], #4", "ldr r11, [r1], #4", "uxtb16");
widen!(widen_aligned_i8, i8, "ldrd r5, r9, [r0], #8", "ldrd r7, r11, [r1], #8", "", "", "sxtb16");
widen!(widen_aligned_u8, u8, "ldrd r5, r9, [r0], #8", "ldrd r7, r11, [r1], #8", "", "", "uxtb16");

/// Rows of a matrix, from which two at a time are widened.
#[derive(Clone, Copy)]
struct Rows<T> {
    first: *const T,
    stride: usize,
    aligned: bool,
    widen: WidenEights<T>,
}

impl<T: Widen> Rows<T> {
    fn new(slice: &[T], stride: usize) -> Self {
        let first = slice.as_ptr();
        let aligned = first.addr().is_multiple_of(4) && stride.is_multiple_of(4);
        Self { first, stride, aligned, widen: if aligned { T::ALIGNED } else { T::ANY } }
    }

    /// Widens `k` elements of `count` rows from `row` on, with zeros up to a multiple of four. A last row without another is its own pair.
    ///
    /// # Safety
    ///
    /// All rows have `k` readable elements from `begin` on, a multiple of four, and `k` and `count` are not 0. `out` has `k / 4`, rounded up,
    /// writable groups for each pair.
    #[inline(always)]
    unsafe fn widen(&self, row: usize, count: usize, begin: usize, k: usize, out: *mut Group) {
        // SAFETY: the caller's promise; `new` has looked at the alignment.
        unsafe {
            let first = self.first.add(row * self.stride + begin);
            if k.is_multiple_of(8) && count.is_multiple_of(2) {
                let gap = (2 * self.stride).wrapping_sub(k);
                (self.widen)(first, first.add(self.stride), out, k / 8, gap, count / 2);
            } else {
                self.widen_pairs(first, count, k, out);
            }
        }
    }

    /// [`widen`](Self::widen), pair by pair.
    ///
    /// # Safety
    ///
    /// As there.
    #[cold]
    unsafe fn widen_pairs(&self, first: *const T, count: usize, k: usize, out: *mut Group) {
        let (whole, tail) = (k & !7, k % 8);
        for pair in (0..count).step_by(2) {
            // SAFETY: as there. What is left lies behind the whole eights.
            unsafe {
                let out = out.add(pair / 2 * k.div_ceil(4));
                let rows = [pair, (pair + 1).min(count - 1)].map(|row| first.add(row * self.stride));
                if whole > 0 {
                    (self.widen)(rows[0], rows[1], out, k / 8, 0, 1);
                }
                let tails = rows.map(|row| core::slice::from_raw_parts(row.add(whole), tail));
                for first in (0..tail).step_by(4) {
                    let words = |row: &[T]| {
                        let at = |index: usize| row.get(first + index).map_or(0, |&value| value.into() as u32 & 0xffff);
                        [at(0) | at(2) << 16, at(1) | at(3) << 16]
                    };
                    let [[a, b], [c, d]] = tails.map(words);
                    out.add((whole + first) / 4).write([a, b, c, d]);
                }
            }
        }
    }
}

/// What [`multiply`] multiplies. It is handed over by value: the first four words in registers, the others on the stack.
#[derive(Clone, Copy)]
#[repr(C)]
struct Products {
    /// The first two rows, widened, or room for two.
    input: *mut Group,
    /// Groups of a chunk that are not there: [`GROUPS`] less what a row has.
    absent_groups: usize,
    /// Sums of the first two rows.
    out: [*mut i32; 2],
    /// Behind the last sum of the first row.
    out_end: *mut i32,
    /// Pairs of channels, widened.
    weight: *const Group,
    /// Pairs of rows, not 0.
    row_pairs: usize,
    /// From a pair of rows to the next, in bytes: of sums, and of widened rows.
    out_step: usize,
    input_step: usize,
    /// Bytes of the sums of a row.
    out_bytes: usize,
    /// Eights of the int8 rows that are widened before they are multiplied; 0 where that has been done.
    eights: usize,
    /// The first two of these rows, which begin at multiples of 4.
    rows: [*const i8; 2],
    /// From a pair of them to the next, in bytes.
    rows_step: usize,
}

/// Adds to pairs of rows of sums the products of widened rows with widened pairs of channels.
///
/// # Safety
///
/// All that `products` tells of is readable or writable, and there is at least one pair of channels.
#[unsafe(naked)]
unsafe extern "C" fn multiply(products: Products) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        // `absent_groups` becomes the place where the code for so many groups begins.
        "movs r4, #40",
        "mul r1, r1, r4",
        "adr.w r4, 4f",
        "add r1, r4",
        "adds r1, #1",
        "push {{r0-r3}}",
        // Two rows.
        "1:",
        "ldr r3, [sp, #76]",
        "cmp r3, #0",
        "beq 2f",
        "ldr r2, [sp]",
        "ldrd r0, r1, [sp, #80]",
        widen_eights!("ldrd r5, r9, [r0], #8", "ldrd r7, r11, [r1], #8", "", "", "sxtb16"),
        "ldrd r0, r1, [sp, #80]",
        "ldr r2, [sp, #88]",
        "add r0, r2",
        "add r1, r2",
        "strd r0, r1, [sp, #80]",
        "2:",
        "ldrd r4, r5, [sp, #8]",
        "ldr lr, [sp, #56]",
        // Two channels.
        "3:",
        "ldrd r0, r1, [r4]",
        "ldrd r2, r3, [r5]",
        // The input, and to the code that begins with as many groups as there are.
        "ldmia.w sp, {{r12, pc}}",
        ".p2align 2",
        "4:",
        ".rept {groups}",
        "ldmia r12!, {{r4-r7}}",
        "ldmia lr!, {{r8-r11}}",
        "smlad r0, r4, r8, r0",
        "smlad r1, r4, r10, r1",
        "smlad r2, r6, r8, r2",
        "smlad r3, r6, r10, r3",
        "smlad r0, r5, r9, r0",
        "smlad r1, r5, r11, r1",
        "smlad r2, r7, r9, r2",
        "smlad r3, r7, r11, r3",
        ".endr",
        "ldrd r4, r5, [sp, #8]",
        "ldr r6, [sp, #52]",
        "strd r0, r1, [r4], #8",
        "strd r2, r3, [r5], #8",
        "strd r4, r5, [sp, #8]",
        "cmp r4, r6",
        "bne 3b",
        "ldrd r0, r1, [sp, #60]",
        "ldrd r2, r3, [sp, #68]",
        "ldr r7, [sp]",
        "subs r0, #1",
        "add r6, r1",
        "sub r1, r3",
        "add r4, r1",
        "add r5, r1",
        "add r7, r2",
        "strd r4, r5, [sp, #8]",
        "str r7, [sp]",
        "str r6, [sp, #52]",
        "str r0, [sp, #60]",
        "bne 1b",
        "add sp, #16",
        "pop {{r4-r11, pc}}",
        groups = const GROUPS,
    )
}

fn matmul<T: Widen>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    if !shape.fits(input.len(), weight.len(), out.len()) || shape.m == 0 || shape.n == 0 {
        return;
    }
    let MatmulShape { m, n, k, input_stride, weight_stride, out_stride, .. } = *shape;
    // Rows side by side are one.
    let (rows, columns) = if out_stride == n { (1, m * n) } else { (m, n) };
    for row in out.chunks_mut(if rows == 1 { columns.max(1) } else { out_stride.max(1) }).take(rows) {
        row.iter_mut().take(columns).for_each(|sum| *sum = 0);
    }
    // Rows of the input stay in scratch from tile to tile where all fit.
    let row_pairs = m.div_ceil(2);
    let (input_pairs, chunk) =
        if n > CHANNELS && row_pairs <= MOST_PAIRS { (MOST_PAIRS, SHORT_CHUNK) } else { (1, CHUNK) };
    let stays = row_pairs <= input_pairs;
    // Chunks of even length, of whole eights.
    let chunk = k.div_ceil(k.div_ceil(chunk).max(1)).next_multiple_of(8);
    let mut scratch = [const { MaybeUninit::<Group>::uninit() }; SCRATCH];
    let wide_input = scratch.as_mut_ptr().cast::<Group>();
    let wide_weight = wide_input.wrapping_add(input_pairs * chunk / 4);
    let first_sum = out.as_mut_ptr();
    let (input, weight) = (Rows::new(input, input_stride), Rows::new(weight, weight_stride));

    let widens = T::IS_I8 && input.aligned;

    let mut begin = 0;
    while begin < k {
        let k = chunk.min(k - begin);
        let groups = k.div_ceil(4);
        if stays {
            // SAFETY: `fits` has shown that rows of the input have `k` elements behind `begin`; `wide_input` holds all of them.
            unsafe { input.widen(0, m, begin, k, wide_input) };
        }
        let mut channel = 0;
        while channel < n {
            let channels = CHANNELS.min(n - channel);
            // SAFETY: as above; `wide_weight` holds 16 channels.
            unsafe { weight.widen(channel, channels, begin, k, wide_weight) };
            // All pairs of rows at once, where `multiply` can widen them or need not.
            let is_at_once = channels.is_multiple_of(2) && (stays || widens && k.is_multiple_of(8));
            let mut row = 0;
            while row < m {
                let row_pairs = if is_at_once { ((m - row) / 2).max(1) } else { 1 };
                let rows = (2 * row_pairs).min(m - row);
                let is_widened = stays || !is_at_once || rows == 1;
                if is_widened && !stays {
                    // SAFETY: `fits` has shown that rows of the input have `k` elements behind `begin`; `wide_input` holds two.
                    unsafe { input.widen(row, rows, begin, k, wide_input) };
                }
                // A row alone is both of a pair: what is written twice is the same.
                let next = if rows == 1 { 0 } else { 1 };
                let sums = first_sum.wrapping_add(row * out_stride + channel);
                let first = input.first.wrapping_add(row * input_stride + begin).cast::<i8>();
                let products = Products {
                    out: [sums, sums.wrapping_add(next * out_stride)],
                    input: if stays { wide_input.wrapping_add(row / 2 * groups) } else { wide_input },
                    weight: wide_weight,
                    out_end: sums.wrapping_add(channels & !1),
                    absent_groups: GROUPS - groups,
                    row_pairs,
                    out_step: size_of::<i32>() * 2 * out_stride,
                    input_step: if stays { size_of::<Group>() * groups } else { 0 },
                    out_bytes: size_of::<i32>() * (channels & !1),
                    eights: if is_widened { 0 } else { k / 8 },
                    rows: [first, first.wrapping_add(next * input_stride)],
                    rows_step: 2 * input_stride,
                };
                // SAFETY: as above, and `n` sums lie in every row of `out`.
                unsafe {
                    if channels > 1 {
                        multiply(products);
                    }
                    if !channels.is_multiple_of(2) {
                        multiply_channel(products, channels - 1);
                    }
                }
                row += rows;
            }
            channel += CHANNELS;
        }
        begin += chunk;
    }
}

/// [`multiply`] for a channel without another, of one pair of rows: it has a pair of sums in a tile, where the second means nothing.
///
/// # Safety
///
/// As for `multiply`; the channel is the one behind an even number of them.
#[cold]
#[inline(never)]
unsafe fn multiply_channel(products: Products, channel: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let out = products.out.map(|row| row.add(channel));
        let mut tile = out.map(|sum| [*sum, 0]);
        let [tile_0, tile_1] = tile.each_mut().map(|row| row.as_mut_ptr());
        let weight = products.weight.add(channel / 2 * (GROUPS - products.absent_groups));
        multiply(Products { out: [tile_0, tile_1], out_end: tile_0.add(2), weight, ..products });
        out.iter().zip(tile).for_each(|(&out, [sum, _])| *out = sum);
    }
}
