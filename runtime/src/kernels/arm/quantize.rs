//! Rows of values, quantised. What is no whole number of sixteens, or of eights, is left to the reference.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use crate::ops::quantize as reference;

/// See [`largest_i16`](reference::largest_i16).
pub(super) fn largest_i16(row: &[i16]) -> u32 {
    let sixteens = row.len() / 16;
    if !row.as_ptr().addr().is_multiple_of(4) || sixteens == 0 {
        return reference::largest_i16(row);
    }
    // SAFETY: so many are there, and they are aligned.
    let of_sixteens = unsafe { magnitude_i16(row.as_ptr(), sixteens) };
    of_sixteens.max(reference::largest_i16(row.get(16 * sixteens..).unwrap_or_default()))
}

/// The largest magnitude of some sixteens of int16.
///
/// # Safety
///
/// `16 · sixteens`, not 0, are readable from a multiple of 4 on.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn magnitude_i16(row: *const i16, sixteens: usize) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r8, lr}}",
        // The largest and the least of even and of odd values.
        "ldr r2, [r0]",
        "mov r3, r2",
        "1:",
        ".rept 2",
        "ldmia r0!, {{r4-r7}}",
        "ssub16 r12, r4, r5",
        "sel r8, r4, r5",
        "sel r4, r5, r4",
        "ssub16 r12, r6, r7",
        "sel r5, r6, r7",
        "sel r6, r7, r6",
        "ssub16 r12, r8, r5",
        "sel r8, r8, r5",
        "ssub16 r12, r6, r4",
        "sel r4, r4, r6",
        "ssub16 r12, r8, r2",
        "sel r2, r8, r2",
        "ssub16 r12, r3, r4",
        "sel r3, r4, r3",
        ".endr",
        "subs r1, #1",
        "bne 1b",
        "sxth r0, r2",
        "asr r2, r2, #16",
        "cmp r2, r0",
        "it gt",
        "movgt r0, r2",
        ".irp turn, 0, 16",
        "sxth r1, r3, ror #\\turn",
        "rsbs r1, r1, #0",
        "cmp r1, r0",
        "it gt",
        "movgt r0, r1",
        ".endr",
        "pop {{r4-r8, pc}}",
    )
}

/// The largest magnitude of some sixteens of int16.
///
/// # Safety
///
/// `16 · sixteens`, not 0, are readable.
#[cfg(kernel_thumb2)]
#[unsafe(naked)]
unsafe extern "C" fn magnitude_i16(row: *const i16, sixteens: usize) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r10, lr}}",
        // The magnitude so far, and its square: what that of a value must not pass. A `MLS` takes two cycles, as would an addition and a comparison.
        "movs r2, #0",
        "movs r3, #0",
        "lsls r1, r1, #1",
        ".macro four slow, go_on",
        ".irp value, r4, r5, r6, r7",
        "ldrsh \\value, [r0], #2",
        ".endr",
        ".irp value, r4, r5, r6, r7",
        "mls \\value, \\value, \\value, r3",
        ".endr",
        "orr r4, r5",
        "orr r6, r7",
        "orrs r4, r6",
        "bmi \\slow",
        "\\go_on:",
        ".endm",
        ".macro larger at, go_on",
        "\\at:",
        ".irp back, 8, 6, 4, 2",
        "ldrsh r4, [r0, #-\\back]",
        "cmp r4, #0",
        "it mi",
        "rsbmi r4, r4, #0",
        "cmp r4, r2",
        "it hi",
        "movhi r2, r4",
        ".endr",
        "mul r3, r2, r2",
        "b \\go_on",
        ".endm",
        "1:",
        "four 4f, 2",
        "four 5f, 3",
        "subs r1, #1",
        "bne 1b",
        "mov r0, r2",
        "pop {{r4-r10, pc}}",
        "larger 4, 2b",
        "larger 5, 3b",
        ".purgem four",
        ".purgem larger",
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
