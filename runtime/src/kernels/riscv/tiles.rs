//! What follows the sums of a linear layer: tiles of `[rows][16]` int32, a row with each time through a loop, which is assembly. A row that is not as
//! most are ends the loop, and goes another way.
//!
//! A core has the high half of a product rounded down. Rounded to nearest, `rmh(a, b)` is half of `⌊a · 2b / 2³²⌋ + 1`, rounded down again. So the
//! product of a sum and a scale is left twice as large, without its lowest bit, and multiplied as it is; and the shift behind the second product
//! halves that as well.
#![allow(unsafe_code)]

use super::rows::Rv32im;
use crate::kernels::PerChannel;
use crate::kernels::registers::{self, Core};
use crate::ops::activation;
use crate::ops::fixed_point::{saturate_i16, saturate_to_i16, scale_by_power_of_two};
use crate::ops::requantize::{self, Requantizer, SUM_FRACTION_BITS};
use crate::ops::tables::GELU_DELTA;

/// What rows are requantised with, and what becomes of their values.
#[repr(C)]
struct Rows {
    scales: *const i32,
    shifts: *const u8,
    bias: *const PerChannel,
    multiplier: *const PerChannel,
    accumulator_shift: u32,
    output_shift: i32,
    /// Bytes from a row of the output to the next.
    step: usize,
    /// Multipliers of the output, or of what is there already.
    of_output: *const PerChannel,
    table: *const [i32; 2],
    /// Up to which input, 8 added, the table is used.
    inputs: u32,
}

/// Makes values of some rows of a tile, `count` of them; returns how many are left.
type Loop = unsafe extern "C" fn(tile: *mut i32, out: *mut i16, rows: &Rows, count: usize) -> usize;

/// The value of the sum of channel `at` in t0: at most 2²⁹ in magnitude, before the bias.
macro_rules! scaled_value {
    () => {
        ".macro value at
        lw t0, 4*\\at(a0)
        lw t1, 4*\\at(a3)
        sll t0, t0, t6
        mulhsu t0, t0, t5
        addi t0, t0, 1
        andi t0, t0, -2
        mulh t0, t0, t1
        lw t1, 4*\\at(a2)
        add t0, t0, t3
        sra t0, t0, t4
        add t0, t0, t1
        .endm"
    };
}

/// Begins a row: twice its scale in t5, its shift and one more in t4, and in t3 what rounds, twice as large.
macro_rules! begin_scaled {
    () => {
        "lw t5, 0(a5)
        lbu t3, 0(a6)
        bltz t5, 2f
        sub t3, t3, s0
        sltiu t4, t3, 30
        beqz t4, 2f
        slli t5, t5, 1
        addi t4, t3, 1
        li t0, 1
        sll t3, t0, t3
        ori t3, t3, 1
        addi a5, a5, 4
        addi a6, a6, 1"
    };
}

/// The value of what stands there: at most 2²⁹ in magnitude, too, before the bias. No multiplier is negative.
macro_rules! value {
    () => {
        ".macro value at
        lw t1, 4*\\at(a3)
        lw t0, 4*\\at(a0)
        slli t1, t1, 1
        mulhsu t0, t0, t1
        lw t1, 4*\\at(a2)
        addi t0, t0, 1
        srai t0, t0, 1
        add t0, t0, t3
        sra t0, t0, t4
        add t0, t0, t1
        .endm"
    };
}

/// Begins a row of such: its shift, 1 at least, in t4, and half of a step in t3.
macro_rules! begin {
    () => {
        "lbu t4, 0(a6)
        li t0, 1
        sub t4, t4, s0
        addi t3, t4, -1
        sltiu t1, t3, 29
        beqz t1, 2f
        sll t3, t0, t3
        addi a6, a6, 1"
    };
}

/// What `$sink` makes of the values of a row, with constants in s2 and s3; where it leads to `3` and a channel's number, that is `$rarely`, which may
/// call `$function`.
macro_rules! rows {
    (
        $name:ident, $begin:ident, $value:ident,
        [$($constant:literal),*], [$($sink:literal),*], [$($rarely:literal),*], [$($function:literal),*]
    ) => {
        assembly! {
            /// # Safety
            ///
            /// So many rows of 16 of the tile and of the output are there, and all that [`Rows`] tells of.
            fn $name(tile: *mut i32, out: *mut i16, rows: &Rows, count: usize) -> usize {
                $value!(),
                "addi sp, sp, -32",
                "sw s0, 0(sp)",
                "sw s1, 4(sp)",
                "sw s2, 8(sp)",
                "sw s3, 12(sp)",
                "sw s4, 16(sp)",
                "sw s5, 20(sp)",
                "mv a7, a3",
                "lw a5, 0(a2)",
                "lw a6, 4(a2)",
                "lw a3, 12(a2)",
                "lw t6, 16(a2)",
                "lw s0, 20(a2)",
                "lw s1, 24(a2)",
                "lw a4, 28(a2)",
                $($constant,)*
                "lw a2, 8(a2)",
                "beqz a7, 2f",
                "1:",
                $begin!(),
                ".irp at, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "value \\at",
                $($sink,)*
                ".endr",
                "addi a0, a0, 64",
                "add a1, a1, s1",
                "addi a7, a7, -1",
                "bnez a7, 1b",
                "2:",
                "mv a0, a7",
                "lw s0, 0(sp)",
                "lw s1, 4(sp)",
                "lw s2, 8(sp)",
                "lw s3, 12(sp)",
                "lw s4, 16(sp)",
                "lw s5, 20(sp)",
                "addi sp, sp, 32",
                "ret",
                ".irp at, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                $($rarely,)*
                ".endr",
                $($function,)*
                ".purgem value",
            }
        }
    };
}

rows!(requantize_rows, begin_scaled, scaled_value, [], ["sw t0, 4*\\at(a0)"], [], []);

/// Adds values to the residual stream.
macro_rules! add_rows {
    ($name:ident, $begin:ident, $value:ident) => {
        rows!(
            $name,
            $begin,
            $value,
            ["lui s3, 0xffff8", "not s2, s3"],
            [
                "lh t1, 2*\\at(a1)",
                "lw t2, 4*\\at(a4)",
                "mul t1, t1, t2",
                "add t0, t0, t1",
                "srai t0, t0, 8",
                "bgt t0, s2, 3\\at\\()f",
                "blt t0, s3, 3\\at\\()f",
                "4\\at:",
                "sh t0, 2*\\at(a1)"
            ],
            ["3\\at:", "srai t0, t0, 31", "xor t0, t0, s2", "j 4\\at\\()b"],
            []
        );
    };
}
const _: () = assert!(SUM_FRACTION_BITS == 8);

add_rows!(add_scaled_rows, begin_scaled, scaled_value);
add_rows!(add_rows, begin, value);

// Biases are 8 too large. Rarely, an input is outside of the table, or the product may be outside of int16.
rows!(
    activate_rows,
    begin_scaled,
    scaled_value,
    ["lw s2, 32(a2)", "lw s3, 36(a2)"],
    [
        "bgeu t0, s3, 3\\at\\()f",
        "srli t1, t0, 4",
        "andi t1, t1, -8",
        "add t1, t1, s2",
        "lw t2, 4(t1)",
        "lw t1, 0(t1)",
        "mul t0, t0, t2",
        "lw t2, 4*\\at(a4)",
        "add t0, t0, t1",
        "andi t0, t0, -512",
        "mulh t0, t0, t2",
        "addi t0, t0, 1",
        "srai t0, t0, 1",
        "4\\at:",
        "sh t0, 2*\\at(a1)"
    ],
    ["3\\at:", "lw t1, 4*\\at(a4)", "jal t2, 5f", "j 4\\at\\()b"],
    [
        "5:",
        "bgez t0, 6f",
        "li t0, 0",
        "jr t2",
        "6:",
        "srli s4, t0, 16",
        "bnez s4, 7f",
        "srli s4, t0, 4",
        "andi s4, s4, -8",
        "add s4, s4, s2",
        "lw s5, 4(s4)",
        "lw s4, 0(s4)",
        "mul t0, t0, s5",
        "add t0, t0, s4",
        "andi t0, t0, -512",
        "srai t0, t0, 1",
        "j 8f",
        // As it is, up to 128.
        "7:",
        "lui s5, 8",
        "lui s4, 0x80",
        "sub t0, t0, s5",
        "addi s4, s4, -1",
        "blt t0, s4, 6f",
        "mv t0, s4",
        "6:",
        "slli t0, t0, 12",
        "8:",
        "mul s4, t0, t1",
        "mulh t0, t0, t1",
        "srli s4, s4, 31",
        "add t0, t0, s4",
        "lui s4, 8",
        "addi s4, s4, -1",
        "blt t0, s4, 6f",
        "mv t0, s4",
        "6:",
        "neg s4, s4",
        "bgt t0, s4, 6f",
        "mv t0, s4",
        "6:",
        "jr t2"
    ]
);
const _: () = assert!(activation::INPUT_LIMIT == (1 << 19) - 1 && LEAST == -1 << 15);

/// Whether all are within `±2^bits`.
#[inline(always)]
fn are_within(channels: &PerChannel, bits: u32) -> bool {
    let mut all = 0;
    sixteen!(at => all |= channels[at].wrapping_add(1 << bits) as u32);
    all < 2 << bits
}

/// No bias is larger, in bits: so it does not overflow with a value of 2²⁹, nor with the product of a residual, which is 2³⁰ at most.
const BIAS_BITS: u32 = 28;

impl Rows {
    fn new(requantizer: &Requantizer<'_>, of_output: &PerChannel, stride: usize) -> Self {
        let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
        Self {
            scales: scales.unwrap_or_default().as_ptr(),
            shifts: shifts.as_ptr(),
            bias,
            multiplier,
            accumulator_shift,
            output_shift,
            step: size_of::<i16>() * stride,
            of_output,
            table: GELU.as_ptr(),
            inputs: 0,
        }
    }

    /// Makes values of `count` rows; `other` does those that end the loop.
    ///
    /// # Safety
    ///
    /// There are so many rows of the tile and of the output, and the parameters are what the loop needs.
    #[inline(always)]
    unsafe fn run(
        mut self,
        rows: Loop,
        count: usize,
        mut tile: &mut [i32],
        mut out: &mut [i16],
        other: impl Fn(usize, &mut [i32], &mut [i16]),
    ) {
        let mut left = count;
        while left > 0 {
            // SAFETY: the caller's promise.
            let behind = unsafe { rows(tile.as_mut_ptr(), out.as_mut_ptr(), &self, left) };
            let taken = left - behind;
            let stride = self.step / size_of::<i16>();
            tile = core::mem::take(&mut tile).get_mut(16 * taken..).unwrap_or_default();
            out = core::mem::take(&mut out).get_mut(stride * taken..).unwrap_or_default();
            if behind == 0 {
                return;
            }
            let (row, tiles) = tile.split_at_mut(tile.len().min(16));
            other(count - behind, row, out);
            tile = tiles;
            out = core::mem::take(&mut out).get_mut(stride..).unwrap_or_default();
            self.scales = self.scales.wrapping_add(taken + 1);
            self.shifts = self.shifts.wrapping_add(taken + 1);
            left = behind - 1;
        }
    }
}

/// Rows that lie `stride` apart and have all 16 channels, at most `rows`.
const fn whole_rows(rows: usize, channels: usize, len: usize, stride: usize) -> usize {
    if channels < 16 || len < 16 || stride < 16 {
        return 0;
    }
    let whole = (len - 16) / stride + 1;
    if whole < rows { whole } else { rows }
}

/// See [`requantize`](requantize::requantize).
pub(super) fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    let is_usual = requantizer.scales.is_some() && are_within(requantizer.bias, BIAS_BITS);
    let rows = if is_usual { requantizer.rows(tile) } else { 0 };
    let with = Rows::new(requantizer, requantizer.multiplier, 0);
    // SAFETY: so many rows and scales are there; nothing is written to the output.
    unsafe {
        with.run(requantize_rows, rows, tile, &mut [], |row, tile, _| others(tile, &requantizer.from_row(row)));
    }
    if !is_usual {
        others(tile, requantizer);
    }
}

/// Requantises rows that are not as most are.
fn others(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
    let rows = requantizer.rows(tile);
    for (row, (tile, &shift)) in tile.as_chunks_mut::<16>().0.iter_mut().zip(shifts).enumerate().take(rows) {
        let scale = scales.and_then(|scales| scales.get(row));
        match i32::from(shift) - output_shift {
            left @ -15..=-1 if are_within(bias, BIAS_BITS) => {
                let left = left.unsigned_abs();
                let limit = (1 << 30) >> left;
                for ((t, &multiplier), &bias) in tile.iter_mut().zip(multiplier).zip(bias) {
                    let sum =
                        scale.map_or(*t, |&scale| Rv32im::multiply_high(t.wrapping_shl(accumulator_shift), scale));
                    let product = Rv32im::multiply_high(sum, multiplier);
                    // Small enough for the shift, and for the bias behind it.
                    let is_usual = product.wrapping_add(limit) as u32 <= 2 * limit as u32;
                    *t = if is_usual { (product << left) + bias } else { shift_left_one(product, left, bias) };
                }
            }
            _ => registers::requantize::<Rv32im>(tile, &requantizer.from_row(row)),
        }
    }
}

#[cold]
#[inline(never)]
fn shift_left_one(value: i32, left: u32, bias: i32) -> i32 {
    scale_by_power_of_two(value, -(left as i32)).saturating_add(bias)
}

/// See [`add_residual`](requantize::add_residual).
pub(super) fn add_residual(
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    residual: &mut [i16],
    stride: usize,
) {
    let function = if requantizer.scales.is_some() { add_scaled_rows } else { add_rows };
    let is_usual = are_within(requantizer.bias, BIAS_BITS)
        && are_within(multiplier, 15)
        && (requantizer.scales.is_some() || requantizer.multiplier.iter().all(|&multiplier| multiplier >= 0));
    let whole = whole_rows(requantizer.rows(tile), channels, residual.len(), stride);
    let rows = if is_usual { whole } else { 0 };
    let with = Rows::new(requantizer, multiplier, stride);
    // SAFETY: so many rows are there.
    unsafe {
        with.run(function, rows, tile, residual, |row, tile, residual| {
            requantize(tile, &requantizer.from_row(row));
            for ((residual, &value), &multiplier) in residual.iter_mut().zip(&*tile).zip(multiplier) {
                let sum = value.saturating_add(i32::from(*residual) * multiplier) >> SUM_FRACTION_BITS;
                *residual = saturate_to_i16(sum);
            }
        });
    }
    if let (Some(tile), Some(residual)) = (tile.get_mut(16 * rows..), residual.get_mut(rows * stride..)) {
        requantize::add_residual(tile, &requantizer.from_row(rows), channels, multiplier, residual, stride);
    }
}

/// GELU as [`registers::GELU`] has it, for x + 8: `⌊(offset + slope · x) / 2⁹⌋`.
static GELU: [[i32; 2]; 512] = {
    let mut steps = registers::GELU;
    let mut index = 0;
    while index < steps.len() {
        let [offset, slope] = steps[index];
        steps[index] = [2 * (offset + slope * LEAST), 2 * slope];
        index += 1;
    }
    steps
};
/// −8, where the table begins, with the fraction bits of an input.
const LEAST: i32 = -8 << activation::ACTIVATION_INPUT_FRACTION_BITS;

/// See [`activate_tile`](activation::activate_tile).
pub(super) fn activate_tile(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    // Up to which input, at least, the product with the multiplier stays inside of int16: 7 · 2¹². That of a negative one does anyway if the
    // multiplier is below 2²⁵, GELU being above −0.17.
    let largest = multiplier.iter().fold(1, |largest: u32, multiplier| largest.max(multiplier.unsigned_abs()));
    let most = if largest < 1 << 25 { 7 * (u32::MAX / largest) } else { 0 };
    let is_usual = delta.is_some_and(|delta| core::ptr::eq(delta, &GELU_DELTA))
        && requantizer.scales.is_some()
        && most > 0
        && are_within(requantizer.bias, BIAS_BITS);
    let whole = whole_rows(requantizer.rows(tile), channels, out.len(), stride);
    let rows = if is_usual { whole } else { 0 };
    let bias = requantizer.bias.map(|bias| bias.wrapping_sub(LEAST));
    let inputs = most.min(LEAST.unsigned_abs()) + LEAST.unsigned_abs();
    let with = Rows { bias: &bias, inputs, ..Rows::new(requantizer, multiplier, stride) };
    // SAFETY: so many rows are there, and no input is larger than the table.
    unsafe {
        with.run(activate_rows, rows, tile, out, |row, tile, out| {
            requantize(tile, &requantizer.from_row(row));
            for ((out, &value), &multiplier) in out.iter_mut().zip(&*tile).zip(multiplier) {
                let activated = activation::activate(Some(&GELU_DELTA), value) << 8;
                *out = saturate_i16(Rv32im::multiply_high(activated, multiplier));
            }
        });
    }
    if let (Some(tile), Some(out)) = (tile.get_mut(16 * rows..), out.get_mut(rows * stride..)) {
        activation::activate_tile(delta, tile, &requantizer.from_row(rows), channels, multiplier, out, stride);
    }
}
