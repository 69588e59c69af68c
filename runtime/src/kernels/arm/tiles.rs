//! What follows the products of a linear layer, on tiles `[rows][16]`, four elements at a time. What these cannot do, which a model does not ask
//! for, goes to the reference.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use super::instructions::{architecture, multiply_high};
use crate::kernels::PerChannel;
use crate::kernels::registers::GELU;
use crate::ops::tables::GELU_DELTA;
use crate::ops::{activation, requantize as reference};

const CHANNELS: usize = 16;

/// From a shift in r12 what [`shift_and_add`] wants there: `2^(32 − shift)`, by which a high product is a rounding shift; or `shift − 1`.
#[cfg(kernel_dsp)]
macro_rules! half_step {
    () => {
        "rsb r12, r12, #32\nmov lr, #1\nlsl r12, lr, r12"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! half_step {
    () => {
        "sub r12, r12, #1"
    };
}

/// Shifts right, rounded, and adds.
#[cfg(kernel_dsp)]
macro_rules! shift_and_add {
    ($to:literal, $sum:literal) => {
        concat!("smmlar ", $to, ", ", $to, ", r12, ", $sum)
    };
}
#[cfg(kernel_thumb2)]
macro_rules! shift_and_add {
    ($to:literal, $sum:literal) => {
        concat!("asr ", $to, ", r12\n", "sub ", $to, ", ", $to, ", ", $to, ", asr #1\n", "add ", $to, ", ", $sum)
    };
}

/// GELU of a register through the table around lr, 24 fraction bits; changes r8 to r10.
macro_rules! gelu_of {
    ($x:literal) => {
        concat!(
            "ssat r8, #9, ",
            $x,
            ", asr #7\n",
            "ssat r10, #20, ",
            $x,
            "\n",
            "add r8, lr, r8, lsl #3\n",
            "ldrd r8, r9, [r8]\n",
            "mla ",
            $x,
            ", r9, r10, r8\n",
            "bic ",
            $x,
            ", ",
            $x,
            ", #255",
        )
    };
}

/// Stores the low halves of r4 to r7.
#[cfg(kernel_dsp)]
macro_rules! store_halves {
    () => {
        "pkhbt r4, r4, r5, lsl #16\npkhbt r6, r6, r7, lsl #16\nstr r4, [r2], #4\nstr r6, [r2], #4"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! store_halves {
    () => {
        "strh r4, [r2], #2\nstrh r5, [r2], #2\nstrh r6, [r2], #2\nstrh r7, [r2], #2"
    };
}

/// See [`scale_rows`](reference::scale_rows).
pub(super) fn scale_rows(tile: &mut [i32], scales: &[i32], shift: u32) {
    let rows = (tile.len() / CHANNELS).min(scales.len());
    if rows > 0 {
        // SAFETY: so many rows are there.
        unsafe { scale_rows_asm(tile.as_mut_ptr(), scales.as_ptr(), shift & 31, rows) };
    }
}

/// # Safety
///
/// `rows`, not 0, are readable and writable.
#[unsafe(naked)]
unsafe extern "C" fn scale_rows_asm(tile: *mut i32, scales: *const i32, shift: u32, rows: usize) {
    naked_asm!(
        architecture!(),
        "push {{r4-r8, lr}}",
        "1:",
        "ldr r8, [r1], #4",
        ".rept 4",
        "ldmia r0, {{r4-r7}}",
        "lsls r4, r2",
        "lsls r5, r2",
        "lsls r6, r2",
        "lsls r7, r2",
        multiply_high!("r4", "r4", "r8", "r12"),
        multiply_high!("r5", "r5", "r8", "r12"),
        multiply_high!("r6", "r6", "r8", "r12"),
        multiply_high!("r7", "r7", "r8", "r12"),
        "stmia r0!, {{r4-r7}}",
        ".endr",
        "subs r3, #1",
        "bne 1b",
        "pop {{r4-r8, pc}}",
    )
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
        "lsls r4, r2",
        "lsls r5, r2",
        "lsls r6, r2",
        "lsls r7, r2",
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

/// See [`requantize`](reference::requantize).
pub(super) fn requantize(
    tile: &mut [i32],
    shifts: &[u8],
    output_shift: i32,
    bias: &PerChannel,
    multiplier: &PerChannel,
) {
    // A product is at most 2³⁰, and less than half of it is left behind a shift of two and more: no sum overflows.
    let is_safe = bias.iter().all(|bias| bias.unsigned_abs() <= 1 << 30);
    let mut rows = tile.as_chunks_mut::<CHANNELS>().0;
    let mut shifts = shifts;
    loop {
        let count = rows.len().min(shifts.len());
        if count == 0 {
            return;
        }
        let left = if is_safe {
            // SAFETY: `count` rows and shifts are there.
            unsafe { requantize_asm(rows.as_mut_ptr(), shifts.as_ptr(), bias, multiplier, output_shift, count) }
        } else {
            count
        };
        // The row at which it has stopped.
        let (Some(behind), Some(behind_shifts)) = (rows.get_mut(count - left..), shifts.get(count - left..)) else {
            return;
        };
        let (Some((row, behind)), Some((&shift, behind_shifts))) =
            (behind.split_first_mut(), behind_shifts.split_first())
        else {
            return;
        };
        reference::requantize(row, &[shift], output_shift, bias, multiplier);
        (rows, shifts) = (behind, behind_shifts);
    }
}

/// Requantises row by row, up to the first whose shift is not 2 to 31, and returns how many rows are left.
///
/// # Safety
///
/// `rows`, not 0, are readable and writable, and so are their shifts.
#[unsafe(naked)]
unsafe extern "C" fn requantize_asm(
    tile: *mut [i32; CHANNELS],
    shifts: *const u8,
    bias: *const PerChannel,
    multiplier: *const PerChannel,
    output_shift: i32,
    rows: usize,
) -> usize {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "1:",
        "ldrb r12, [r1], #1",
        "ldr lr, [sp, #36]",
        "sub r12, lr",
        "sub lr, r12, #2",
        "cmp lr, #29",
        "bhi 2f",
        half_step!(),
        ".rept 4",
        "ldmia r0, {{r4-r7}}",
        "ldmia r3!, {{r8-r11}}",
        multiply_high!("r4", "r4", "r8", "r8"),
        multiply_high!("r5", "r5", "r9", "r9"),
        multiply_high!("r6", "r6", "r10", "r10"),
        multiply_high!("r7", "r7", "r11", "r11"),
        "ldmia r2!, {{r8-r11}}",
        shift_and_add!("r4", "r8"),
        shift_and_add!("r5", "r9"),
        shift_and_add!("r6", "r10"),
        shift_and_add!("r7", "r11"),
        "stmia r0!, {{r4-r7}}",
        ".endr",
        "subs r2, #64",
        "subs r3, #64",
        "ldr lr, [sp, #40]",
        "subs lr, #1",
        "str lr, [sp, #40]",
        "bne 1b",
        "2:",
        "ldr r0, [sp, #40]",
        "pop {{r4-r11, pc}}",
    )
}

/// See [`add_residual`](reference::add_residual).
#[cfg(kernel_dsp)]
pub(super) fn add_residual(tile: &[i32], channels: usize, shift: u32, residual: &mut [i16], stride: usize) {
    let rows = (tile.len() / CHANNELS).min(residual.len().div_ceil(stride.max(1)));
    let is_whole = channels >= CHANNELS && rows > 0 && residual.len() >= (rows - 1) * stride + CHANNELS;
    let is_aligned = residual.as_ptr().addr().is_multiple_of(4) && stride.is_multiple_of(2) && stride >= CHANNELS;
    if !is_whole || !is_aligned || shift > 15 {
        return reference::add_residual(tile, channels, shift, residual, stride);
    }
    // Half a step for the rounding, and a step less, which comes back when it is saturated: so −32768 is not reached.
    let less = if shift == 0 { -1 } else { -1 << (shift - 1) };
    // SAFETY: so many rows are there, and the residual's pairs are aligned.
    unsafe { add_residual_asm(tile.as_ptr(), residual.as_mut_ptr(), 2 * (stride - CHANNELS), less, shift, rows) };
}

/// # Safety
///
/// `rows`, not 0, are readable and writable; those of the residual begin at multiples of 4.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn add_residual_asm(
    tile: *const i32,
    residual: *mut i16,
    gap_bytes: usize,
    less: i32,
    shift: u32,
    rows: usize,
) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "ldrd r12, lr, [sp, #36]",
        "mov r11, #0x00010001",
        "1:",
        ".rept 4",
        "ldmia r0!, {{r4-r7}}",
        "ldrd r8, r9, [r1]",
        "sxtah r10, r3, r8",
        "qadd r4, r4, r10",
        "sxtah r10, r3, r8, ror #16",
        "qadd r5, r5, r10",
        "sxtah r10, r3, r9",
        "qadd r6, r6, r10",
        "sxtah r10, r3, r9, ror #16",
        "qadd r7, r7, r10",
        // A sum that has been saturated is so again: a shift of 15 leaves 65535.
        "asr r4, r12",
        "asr r5, r12",
        "asr r6, r12",
        "asr r7, r12",
        "ssat r4, #16, r4",
        "ssat r5, #16, r5",
        "ssat r6, #16, r6",
        "ssat r7, #16, r7",
        "pkhbt r4, r4, r5, lsl #16",
        "pkhbt r6, r6, r7, lsl #16",
        "qadd16 r4, r4, r11",
        "qadd16 r6, r6, r11",
        "strd r4, r6, [r1], #8",
        ".endr",
        "add r1, r2",
        "subs lr, #1",
        "bne 1b",
        "pop {{r4-r11, pc}}",
    )
}

/// See [`activate_tile`](activation::activate_tile).
pub(super) fn activate_tile(
    delta: Option<&[i16; 257]>,
    tile: &[i32],
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    let is_gelu = delta.is_some_and(|delta| core::ptr::eq(delta, &GELU_DELTA));
    let rows = (tile.len() / CHANNELS).min(out.len().div_ceil(stride.max(1)));
    let is_whole =
        channels >= CHANNELS && rows > 0 && stride >= CHANNELS && out.len() >= (rows - 1) * stride + CHANNELS;
    // GELU's least value, −0.17, stays above −32767 with these.
    let is_small = multiplier.iter().all(|multiplier| (0..=1 << 25).contains(multiplier));
    if !is_gelu || !is_whole || !is_small {
        return activation::activate_tile(delta, tile, channels, multiplier, out, stride);
    }
    let gap = size_of::<i16>() * (stride - CHANNELS);
    // SAFETY: so many rows are there.
    unsafe {
        gelu_asm(tile.as_ptr(), multiplier, out.as_mut_ptr(), gap, GELU.as_ptr_range().start.add(GELU.len() / 2), rows)
    };
}

/// # Safety
///
/// `rows`, not 0, are readable and writable; `zero` is the entry of [`GELU`] for 0.
#[unsafe(naked)]
unsafe extern "C" fn gelu_asm(
    tile: *const i32,
    multiplier: *const PerChannel,
    out: *mut i16,
    gap_bytes: usize,
    zero: *const [i32; 2],
    rows: usize,
) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "ldrd lr, r12, [sp, #36]",
        "1:",
        ".rept 4",
        "ldmia r0!, {{r4-r7}}",
        gelu_of!("r4"),
        gelu_of!("r5"),
        gelu_of!("r6"),
        gelu_of!("r7"),
        "ldmia r1!, {{r8-r11}}",
        multiply_high!("r4", "r4", "r8", "r8"),
        multiply_high!("r5", "r5", "r9", "r9"),
        multiply_high!("r6", "r6", "r10", "r10"),
        multiply_high!("r7", "r7", "r11", "r11"),
        "ssat r4, #16, r4",
        "ssat r5, #16, r5",
        "ssat r6, #16, r6",
        "ssat r7, #16, r7",
        store_halves!(),
        ".endr",
        "subs r1, #64",
        "add r2, r3",
        "subs r12, #1",
        "bne 1b",
        "pop {{r4-r11, pc}}",
    )
}
