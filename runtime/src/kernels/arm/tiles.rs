//! What follows the products of a linear layer, on tiles `[rows][16]`, four elements at a time: scaled, requantised, and taken to where they go
//! while they are in registers. What these cannot do, which a model does not ask for, goes to the reference.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use super::is_aligned;
use crate::kernels::PerChannel;
use crate::ops::requantize::{self as reference, Requantizer};

pub(super) const CHANNELS: usize = 16;

/// What rows are requantised with, one after the other; handed over by value, on the stack.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Rows {
    scales: *const i32,
    shifts: *const u8,
    output_shift: i32,
    /// Bytes from the end of a row of the output to the next.
    gap: usize,
    /// Behind the last row of the tile.
    end: *const i32,
    /// What the output needs.
    of_output: u32,
}

/// Rows of a tile, parameters of the channels, output, left shift of a sum. It stops at a row that it cannot requantise, and returns where.
pub(super) type OfRows = unsafe extern "C" fn(*const i32, *const i32, *mut u8, u32, Rows) -> *const i32;

/// Fours of each parameter of the channels in turn.
pub(super) fn in_turn<const P: usize>(parameters: [&PerChannel; P]) -> [[[i32; 4]; P]; CHANNELS / 4] {
    let mut fours = [[[0; 4]; P]; CHANNELS / 4];
    for (parameter, of_channel) in parameters.into_iter().enumerate() {
        for (fours, of_channel) in fours.iter_mut().zip(of_channel.as_chunks().0) {
            if let Some(four) = fours.get_mut(parameter) {
                *four = *of_channel;
            }
        }
    }
    fours
}

/// Whether no bias can lead to an overflow: a product is at most 2³⁰, and half of it is left behind a shift to the right.
pub(super) fn is_safe(bias: &PerChannel) -> bool {
    bias.iter().all(|bias| bias.unsigned_abs() <= 1 << 30)
}

/// Some rows of a tile, whose outputs lie `stride` elements of so many `bytes` apart; `other` is called for those at which `function` stops.
///
/// # Safety
///
/// `parameters` are what `function` reads for 16 channels, and there is room for 16 outputs of each row.
pub(super) unsafe fn for_rows(
    function: OfRows,
    tile: *const i32,
    parameters: &[i32],
    (out, stride, bytes): (*mut u8, usize, usize),
    (requantizer, rows, of_output): (&Requantizer<'_>, usize, u32),
    mut other: impl FnMut(usize),
) {
    let end = tile.wrapping_add(rows * CHANNELS);
    let mut row = 0;
    while row < rows {
        let from = tile.wrapping_add(row * CHANNELS);
        let rows = Rows {
            // Read, but not used, where there are none.
            scales: requantizer.scales.map_or(from, |scales| scales.as_ptr().wrapping_add(row)),
            shifts: requantizer.shifts.as_ptr().wrapping_add(row),
            output_shift: requantizer.output_shift,
            gap: (stride - CHANNELS) * bytes,
            end,
            of_output,
        };
        let out = out.wrapping_add(row * stride * bytes);
        // SAFETY: the caller's promise; the requantizer has so many rows.
        let stopped = unsafe { function(from, parameters.as_ptr(), out, requantizer.accumulator_shift & 31, rows) };
        row += (stopped.addr() - from.addr()) / size_of::<[i32; CHANNELS]>();
        if stopped != end {
            other(row);
            row += 1;
        }
    }
}

/// Of a tile the rows that have all channels in the output, if all have.
pub(super) fn whole_rows(
    requantizer: &Requantizer<'_>,
    tile: &[i32],
    channels: usize,
    out: usize,
    stride: usize,
) -> Option<usize> {
    let rows = requantizer.rows(tile).min(out.div_ceil(stride.max(1)));
    let is_whole = channels >= CHANNELS && rows > 0 && stride >= CHANNELS && out >= (rows - 1) * stride + CHANNELS;
    is_whole.then_some(rows)
}

/// Scales four sums by lr.
macro_rules! scaled {
    () => {
        concat!(shift_four_left!("r3"), "\n", multiply_four_high!("lr", "r8"),)
    };
}
macro_rules! as_they_are {
    () => {
        ""
    };
}

/// A row's scale is in lr and its shift in r12; higher, if it is not 1 to 31.
macro_rules! begin_row {
    () => {
        "ldrd r4, r5, [sp, #36]
        ldr r6, [sp, #44]
        ldr lr, [r4], #4
        ldrb r12, [r5], #1
        strd r4, r5, [sp, #36]
        sub r12, r6
        sub r6, r12, #1
        cmp r6, #30"
    };
}

/// From a shift in r12, and one less in r6, what [`shift_and_add`] wants in r12: `−2^(32 − shift)`, by which a high product is a rounding shift; or
/// `shift − 1`.
#[cfg(kernel_dsp)]
macro_rules! half_step {
    () => {
        "rsb r12, r12, #32\nmov r6, #-1\nlsl r12, r6, r12"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! half_step {
    () => {
        "mov r12, r6"
    };
}

/// Shifts right, rounded, and adds.
#[cfg(kernel_dsp)]
macro_rules! shift_and_add {
    ($to:literal, $sum:literal) => {
        concat!("smmlsr ", $to, ", ", $to, ", r12, ", $sum)
    };
}
#[cfg(kernel_thumb2)]
macro_rules! shift_and_add {
    ($to:literal, $sum:literal) => {
        concat!("asr ", $to, ", r12\n", "sub ", $to, ", ", $to, ", ", $to, ", asr #1\n", "add ", $to, ", ", $sum)
    };
}

/// Multiplies and shifts r4 to r7, and adds the bias.
macro_rules! multiplied {
    () => {
        concat!(
            "ldmia r1!, {{r8-r11}}\n",
            multiply_four_high!(),
            "\nldmia r1!, {{r8-r11}}\n",
            shift_and_add!("r4", "r8"),
            "\n",
            shift_and_add!("r5", "r9"),
            "\n",
            shift_and_add!("r6", "r10"),
            "\n",
            shift_and_add!("r7", "r11"),
        )
    };
}

/// Rows of which `$sums` makes scaled sums in r4 to r7; when they are values, `$output` takes four to r2. There are so many parameters.
macro_rules! of_rows {
    ($name:ident, $parameters:literal, $sums:ident, $output:ident) => {
        /// See [`OfRows`].
        ///
        /// # Safety
        ///
        /// All that the arguments tell of is there, and at least one row.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            tile: *const i32,
            parameters: *const i32,
            out: *mut u8,
            shift: u32,
            rows: Rows,
        ) -> *const i32 {
            naked_asm!(
                architecture!(),
                "push {{r4-r11, lr}}",
                "1:",
                begin_row!(),
                "bhi 2f",
                half_step!(),
                ".rept 4",
                "ldmia r0!, {{r4-r7}}",
                $sums!(),
                multiplied!(),
                $output!(),
                ".endr",
                "ldrd r4, r5, [sp, #48]",
                concat!("subs r1, #64 * ", $parameters),
                "add r2, r4",
                "cmp r0, r5",
                "bne 1b",
                "2:",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

/// Adds the residual, times its multipliers, to four values, and stores the sums.
#[cfg(kernel_dsp)]
macro_rules! add {
    () => {
        // Both are two in a word.
        "ldrd r8, r9, [r1], #16
        ldrd r10, r11, [r2]
        smlabb r4, r10, r8, r4
        smlatt r5, r10, r8, r5
        smlabb r6, r11, r9, r6
        smlatt r7, r11, r9, r7
        ssat r4, #16, r4, asr #8
        ssat r5, #16, r5, asr #8
        ssat r6, #16, r6, asr #8
        ssat r7, #16, r7, asr #8
        pkhbt r4, r4, r5, lsl #16
        pkhbt r6, r6, r7, lsl #16
        strd r4, r6, [r2], #8"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! add {
    () => {
        "ldrd r8, r9, [r1], #8
        ldrsh r10, [r2]
        ldrsh r11, [r2, #2]
        mla r4, r10, r8, r4
        mla r5, r11, r9, r5
        ldrd r8, r9, [r1], #8
        ldrsh r10, [r2, #4]
        ldrsh r11, [r2, #6]
        mla r6, r10, r8, r6
        mla r7, r11, r9, r7
        .irp value, r4, r5, r6, r7
        ssat \\value, #16, \\value, asr #8
        .endr
        .irp value, r4, r5, r6, r7
        strh \\value, [r2], #2
        .endr"
    };
}
const _: () = assert!(reference::SUM_FRACTION_BITS == 8);

of_rows!(add_scaled_rows, "3", scaled, add);
of_rows!(add_rows, "3", as_they_are, add);

/// Multipliers of a residual as [`add!`] reads them, if all are int16. No sum overflows with such: the residual's part of it is at most 2³⁰, and a
/// product that has been shifted to the right at most 2²⁹, which leaves as much for a bias.
fn multipliers_of_16_bits(multiplier: &PerChannel) -> Option<PerChannel> {
    let is_wide = multiplier.iter().fold(0, |wide, &multiplier| wide | (multiplier ^ i32::from(multiplier as i16)));
    if cfg!(kernel_thumb2) {
        return (is_wide == 0).then_some(*multiplier);
    }
    let mut of_16_bits = *multiplier;
    for four in of_16_bits.as_chunks_mut().0 {
        let [a, b, c, d] = *four;
        *four = [a & 0xffff | b << 16, c & 0xffff | d << 16, 0, 0];
    }
    (is_wide == 0).then_some(of_16_bits)
}

/// See [`add_residual`](reference::add_residual).
pub(super) fn add_residual(
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    residual: &mut [i16],
    stride: usize,
) {
    let are_aligned = is_aligned(residual) && (cfg!(kernel_thumb2) || stride.is_multiple_of(2));
    let is_usual = are_aligned && requantizer.bias.iter().all(|bias| bias.unsigned_abs() < 1 << 29);
    let rows = whole_rows(requantizer, tile, channels, residual.len(), stride).filter(|_| is_usual);
    let (Some(rows), Some(of_16_bits)) = (rows, multipliers_of_16_bits(multiplier)) else {
        return reference::add_residual(tile, requantizer, channels, multiplier, residual, stride);
    };
    let parameters = in_turn([requantizer.multiplier, requantizer.bias, &of_16_bits]);
    let parameters = parameters.as_flattened().as_flattened();
    let function = if requantizer.scales.is_some() { add_scaled_rows } else { add_rows };
    let (first, out) = (tile.as_mut_ptr(), residual.as_mut_ptr());
    // SAFETY: so many rows are there, and the residual's are aligned.
    unsafe {
        for_rows(function, first, parameters, (out.cast(), stride, 2), (requantizer, rows, 0), |row| {
            let (sums, out) = row_of(first, out, row, stride);
            reference::add_residual(sums, &requantizer.from_row(row), CHANNELS, multiplier, out, CHANNELS);
        });
    }
}

/// See [`requantize`](reference::requantize).
pub(super) fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    if requantizer.scales.is_none() || !is_safe(requantizer.bias) {
        return reference::requantize(tile, requantizer);
    }
    let (rows, first) = (requantizer.rows(tile), tile.as_mut_ptr());
    let parameters = in_turn([requantizer.multiplier, requantizer.bias]);
    let parameters = parameters.as_flattened().as_flattened();
    // SAFETY: so many rows are there.
    unsafe {
        for_rows(requantize_rows, first, parameters, (first.cast(), CHANNELS, 4), (requantizer, rows, 0), |row| {
            let tile = core::slice::from_raw_parts_mut(first.add(row * CHANNELS), CHANNELS);
            requantize_row(tile, &requantizer.from_row(row));
        });
    }
}

/// A row that is shifted left, as those of query, key and value are.
#[cfg(kernel_thumb2)]
fn requantize_row(row: &mut [i32], requantizer: &Requantizer<'_>) {
    crate::kernels::registers::requantize::<super::thumb2::Thumb2>(row, requantizer);
}
#[cfg(kernel_dsp)]
use reference::requantize as requantize_row;

#[cfg(kernel_thumb2)]
macro_rules! store {
    () => {
        "stmia r2!, {{r4-r7}}"
    };
}
#[cfg(kernel_thumb2)]
of_rows!(requantize_rows, "2", scaled, store);

/// See [`OfRows`]; the output is in the place of the tile. Query, key and value are shifted left, too.
///
/// # Safety
///
/// As for [`OfRows`].
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn requantize_rows(
    tile: *const i32,
    parameters: *const i32,
    out: *mut u8,
    shift: u32,
    rows: Rows,
) -> *const i32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "1:",
        begin_row!(),
        "bhi 3f",
        half_step!(),
        ".rept 4",
        "ldmia r0, {{r4-r7}}",
        scaled!(),
        multiplied!(),
        "stmia r0!, {{r4-r7}}",
        ".endr",
        "2:",
        "ldr r5, [sp, #52]",
        "subs r1, #128",
        "cmp r0, r5",
        "bne 1b",
        "pop {{r4-r11, pc}}",
        // To the left, up to 15: doubled one time after the other, saturating, and the last time while the bias is added.
        "3:",
        "rsb r12, r12, #0",
        "cmp r12, #15",
        "bhi 8f",
        ".rept 4",
        "ldmia r0, {{r4-r7}}",
        scaled!(),
        "ldmia r1!, {{r8-r11}}",
        multiply_four_high!(),
        "ldmia r1!, {{r8-r11}}",
        "movs r2, r12",
        "beq 5f",
        "4:",
        "subs r2, #1",
        "beq 6f",
        "qadd r4, r4, r4",
        "qadd r5, r5, r5",
        "qadd r6, r6, r6",
        "qadd r7, r7, r7",
        "b 4b",
        "5:",
        "qadd r4, r4, r8",
        "qadd r5, r5, r9",
        "qadd r6, r6, r10",
        "qadd r7, r7, r11",
        "b 7f",
        "6:",
        "qdadd r4, r8, r4",
        "qdadd r5, r9, r5",
        "qdadd r6, r10, r6",
        "qdadd r7, r11, r7",
        "7:",
        "stmia r0!, {{r4-r7}}",
        ".endr",
        "b 2b",
        "8:",
        "pop {{r4-r11, pc}}",
    )
}

/// One row of a tile and of its output.
///
/// # Safety
///
/// There are 16 elements of this row of both, which nobody else has.
pub(super) unsafe fn row_of<'r>(
    tile: *mut i32,
    out: *mut i16,
    row: usize,
    stride: usize,
) -> (&'r mut [i32], &'r mut [i16]) {
    // SAFETY: the caller's promise.
    unsafe {
        let sums = core::slice::from_raw_parts_mut(tile.add(row * CHANNELS), CHANNELS);
        (sums, core::slice::from_raw_parts_mut(out.add(row * stride), CHANNELS))
    }
}

/// See [`scale_accumulators`](reference::scale_accumulators).
pub(super) fn scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
    let rows = (tile.len().min(acc.len()) / CHANNELS).min(scales.len());
    if rows > 0 {
        // SAFETY: so many rows are there.
        unsafe { scale_accumulators_asm(acc.as_ptr(), scales.as_ptr(), shift & 31, tile.as_mut_ptr(), rows) };
    }
}

/// # Safety
///
/// `rows`, not 0, are readable and writable.
#[unsafe(naked)]
unsafe extern "C" fn scale_accumulators_asm(
    acc: *const i32,
    scales: *const i32,
    shift: u32,
    tile: *mut i32,
    rows: usize,
) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "1:",
        "ldr r12, [r1], #4",
        ".rept 4",
        "ldmia r0!, {{r4-r7}}",
        "ldmia r3, {{r8-r11}}",
        shift_four_left!("r2"),
        multiply_high!("r8", "r4", "r12", "lr", "r8"),
        multiply_high!("r9", "r5", "r12", "lr", "r9"),
        multiply_high!("r10", "r6", "r12", "lr", "r10"),
        multiply_high!("r11", "r7", "r12", "lr", "r11"),
        "stmia r3!, {{r8-r11}}",
        ".endr",
        "ldr lr, [sp, #36]",
        "subs lr, #1",
        "str lr, [sp, #36]",
        "bne 1b",
        "pop {{r4-r11, pc}}",
    )
}
