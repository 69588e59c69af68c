//! Rows of values, quantised. What is no whole number of sixteens, or of eights, is left to the reference.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use super::is_aligned;
use crate::ops::quantize::{self as reference, Reciprocal};

/// See [`quantize_i16`](reference::quantize_i16).
pub(super) fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
    let sixteens = row.len() / 16;
    // Without the DSP extension, a multiplier can have 32 bits.
    let least = if cfg!(kernel_dsp) { Reciprocal::FIRST_OF_16_BITS } else { 1 };
    if row.len() != out.len() || !is_aligned(row) || largest < least || sixteens == 0 {
        return reference::quantize_i16(row, largest, out);
    }
    let reciprocal = Reciprocal::new(largest);
    // SAFETY: so many are there, and aligned, and there is room for as many; the multiplier is small enough.
    unsafe { quantize_i16_sixteens(row.as_ptr(), out.as_mut_ptr(), sixteens, reciprocal.multiplier) };
    let tail = out.iter_mut().zip(row).skip(16 * sixteens);
    tail.for_each(|(out, &value)| *out = reciprocal.quantize(value));
    reciprocal.magnitude()
}

/// Quantises some sixteens of int16.
///
/// # Safety
///
/// `16 · sixteens`, not 0, are readable from a multiple of 4 on, and there is room for as many. The multiplier is an int16.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn quantize_i16_sixteens(row: *const i16, out: *mut i8, sixteens: usize, multiplier: i32) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "mov lr, #{half}",
        // With the lowest 8 bits of a product gone.
        "lsl r12, r3, #8",
        "mov r11, #{half} >> 8",
        // `SEL` takes the odd bytes of its first word and the even ones of its second.
        "mov r10, #0xff00ff00",
        "uadd8 r10, r10, r10",
        // Even values have their bytes from bit 16 on, and odd ones from bit 8 on.
        ".macro four first, second",
        "smlabb r8, \\first, r3, lr",
        "smlabb r9, \\second, r3, lr",
        "smlawt \\first, r12, \\first, r11",
        "smlawt \\second, r12, \\second, r11",
        "pkhtb r8, r9, r8, asr #16",
        "pkhbt r9, \\first, \\second, lsl #16",
        "sel r8, r9, r8",
        "str r8, [r1], #4",
        ".endm",
        "1:",
        ".rept 2",
        "ldmia r0!, {{r4-r7}}",
        "four r4, r5",
        "four r6, r7",
        ".endr",
        "subs r2, #1",
        "bne 1b",
        ".purgem four",
        "pop {{r4-r11, pc}}",
        half = const Reciprocal::HALF,
    )
}

/// Quantises some sixteens of int16.
///
/// # Safety
///
/// `16 · sixteens`, not 0, are readable, and there is room for as many.
#[cfg(kernel_thumb2)]
#[unsafe(naked)]
unsafe extern "C" fn quantize_i16_sixteens(row: *const i16, out: *mut i8, sixteens: usize, multiplier: i32) {
    naked_asm!(
        architecture!(),
        "push {{r4-r10, lr}}",
        "mov r8, #{half}",
        "lsl r9, r3, #8",
        "lsl r10, r8, #8",
        "1:",
        ".rept 4",
        "ldrsh r4, [r0], #2",
        "ldrsh r5, [r0], #2",
        "ldrsh r6, [r0], #2",
        "ldrsh r7, [r0], #2",
        // Even values have their bytes from bit 16 on, and odd ones from bit 24 on.
        "mla r4, r4, r3, r8",
        "mla r5, r5, r9, r10",
        "mla r6, r6, r3, r8",
        "mla r7, r7, r9, r10",
        "lsr r4, r4, #16",
        "lsr r6, r6, #16",
        "bfi r5, r4, #16, #8",
        "bfi r7, r6, #16, #8",
        "lsr r5, r5, #16",
        "bfi r7, r5, #0, #16",
        "str r7, [r1], #4",
        ".endr",
        "subs r2, #1",
        "bne 1b",
        "pop {{r4-r10, pc}}",
        half = const Reciprocal::HALF,
    )
}

/// See [`quantize_i32`](reference::quantize_i32).
#[cfg(kernel_dsp)]
pub(super) fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
    let eights = row.len() / 8;
    if row.len() != out.len() || eights == 0 {
        return reference::quantize_i32(row, out);
    }
    let tail = row.get(8 * eights..).unwrap_or_default();
    // SAFETY: so many are there.
    let of_eights = unsafe { magnitude_i32(row.as_ptr(), eights) };
    let largest = tail.iter().fold(of_eights, |largest, value| largest.max(value.unsigned_abs()));
    // The most negative value has no magnitude in int32.
    let Ok(largest @ 1..) = i32::try_from(largest) else { return reference::quantize_i32(row, out) };
    let steps = reference::Steps::new(largest);
    // SAFETY: so many are there, and room for as many.
    unsafe { quantize_i32_eights(row.as_ptr(), out.as_mut_ptr(), eights, &[steps.shift as i32, steps.reciprocal]) };
    out.iter_mut().skip(8 * eights).zip(tail).for_each(|(out, &value)| *out = steps.quantize(value));
    largest
}

/// The largest magnitude of some eights of int32.
///
/// # Safety
///
/// `8 · eights`, not 0, are readable.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn magnitude_i32(row: *const i32, eights: usize) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "movs r2, #0",
        // A negative value counts as one less than its magnitude, so whatever is larger than the largest so far is not below it. What is as
        // large comes seldom.
        ".macro four slow, go_on",
        "ldmia r0!, {{r4-r7}}",
        "eor r8, r4, r4, asr #31",
        "eor r9, r5, r5, asr #31",
        "eor r10, r6, r6, asr #31",
        "eor r11, r7, r7, asr #31",
        "sub r8, r2",
        "sub r9, r2",
        "sub r10, r2",
        "sub r11, r2",
        "and r8, r9",
        "and r10, r11",
        "ands r8, r10",
        "bpl \\slow",
        "\\go_on:",
        ".endm",
        ".macro larger at, go_on",
        "\\at:",
        ".irp value, r4, r5, r6, r7",
        "cmp \\value, #0",
        "it mi",
        "rsbmi \\value, \\value, #0",
        "cmp \\value, r2",
        "it hi",
        "movhi r2, \\value",
        ".endr",
        "b \\go_on",
        ".endm",
        "1:",
        "four 4f, 2",
        "four 5f, 3",
        "subs r1, #1",
        "bne 1b",
        "mov r0, r2",
        "pop {{r4-r11, pc}}",
        "larger 4, 2b",
        "larger 5, 3b",
        ".purgem four",
        ".purgem larger",
    )
}

/// Quantises some eights of int32: `steps` are [`Steps`](reference::Steps).
///
/// # Safety
///
/// `8 · eights`, not 0, are readable, and there is room for as many.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn quantize_i32_eights(row: *const i32, out: *mut i8, eights: usize, steps: &[i32; 2]) {
    naked_asm!(
        architecture!(),
        "push {{r4-r10, lr}}",
        "ldmia r3, {{r8, r9}}",
        // Half a step.
        "mov r10, #1 << ({fraction_bits} - 1)",
        "1:",
        ".rept 2",
        "ldmia r0!, {{r4-r7}}",
        ".irp value, r4, r5, r6, r7",
        "lsl \\value, \\value, r8",
        ".endr",
        ".irp value, r4, r5, r6, r7",
        "smmlar \\value, \\value, r9, r10",
        ".endr",
        ".irp value, r4, r5, r6, r7",
        "lsr \\value, \\value, #{fraction_bits}",
        ".endr",
        "bfi r4, r5, #8, #8",
        "bfi r4, r6, #16, #8",
        "bfi r4, r7, #24, #8",
        "str r4, [r1], #4",
        ".endr",
        "subs r2, #1",
        "bne 1b",
        "pop {{r4-r10, pc}}",
        fraction_bits = const reference::Steps::FRACTION_BITS,
    )
}
