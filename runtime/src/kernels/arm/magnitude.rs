//! The largest magnitude of int16: of a row, and of values that are being made, whose kernels have the macros of this file. They compare several values
//! with the largest magnitude so far at once; which of them is larger seldom has to be found out.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use super::is_aligned;
use crate::ops::quantize as reference;

/// The largest magnitude so far is 0. In both halves of lr is the largest, and in r3 how far its square lies below the greatest int32.
#[cfg(kernel_dsp)]
macro_rules! begin_largest {
    () => {
        "mov lr, #0
        mvn r3, #0x80000000"
    };
}
/// The largest magnitude so far is 0. In r2 is the value that has it, and in r3 its square.
#[cfg(kernel_thumb2)]
macro_rules! begin_largest {
    () => {
        "movs r2, #0
        movs r3, #0"
    };
}

/// Puts the largest magnitude in r0.
#[cfg(kernel_dsp)]
macro_rules! end_largest {
    () => {
        "uxth r0, lr"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! end_largest {
    () => {
        "eor r0, r2, r2, asr #31
        sub r0, r0, r2, asr #31"
    };
}

/// Sets Q if the squares of the two values of a word add up to more than that of the largest magnitude; changes r12.
#[cfg(kernel_dsp)]
macro_rules! compare_pair {
    ($pair:literal) => {
        concat!("smlad r12, ", $pair, ", ", $pair, ", r3")
    };
}

/// Goes to `$slow` if Q is set; changes r12.
#[cfg(kernel_dsp)]
macro_rules! branch_if_larger {
    ($slow:literal) => {
        concat!("mrs r12, apsr\nlsls r12, r12, #4\nbmi ", $slow)
    };
}

/// Finds out the larger of the sixteen values before r0, and clears Q; changes r4 to r7 and r10 to r12. Q may have been set by anything.
#[cfg(kernel_dsp)]
macro_rules! larger_of_sixteen {
    () => {
        "mov r10, #0
        sub r11, r0, #32
        .rept 2
        ldmia r11!, {{r4-r7}}
        .irp pair, r4, r5, r6, r7
        ssub16 r12, r10, \\pair
        sel \\pair, r12, \\pair
        usub16 r12, \\pair, lr
        sel lr, \\pair, lr
        .endr
        .endr
        ror r4, lr, #16
        usub16 r12, r4, lr
        sel lr, r4, lr
        smulbb r4, lr, lr
        mvn r3, #0x80000000
        sub r3, r4
        msr apsr_nzcvq, r10"
    };
}

/// Sixteen values by an assembly macro, `four`, which moves r0. In r4 and lr it puts what squares leave of that of the largest magnitude, one alone or
/// two together; where they leave less than nothing, [`larger_of_four!`] goes on.
#[cfg(kernel_thumb2)]
macro_rules! sixteen {
    () => {
        "four
        orrs r4, lr
        bmi 6f
        2: four
        orrs r4, lr
        bmi 7f
        3: four
        orrs r4, lr
        bmi 8f
        4: four
        orrs r4, lr
        bmi 9f
        5:"
    };
}

/// Finds out the larger of the four values before r0; changes r4 and r5.
#[cfg(kernel_thumb2)]
macro_rules! larger_of_four {
    () => {
        "6: bl 20f
        b 2b
        7: bl 20f
        b 3b
        8: bl 20f
        b 4b
        9: bl 20f
        b 5b
        20:
        .irp back, 8, 6, 4, 2
        ldrsh r4, [r0, #-\\back]
        mul r5, r4, r4
        cmp r5, r3
        itt hi
        movhi r3, r5
        movhi r2, r4
        .endr
        bx lr"
    };
}

/// See [`largest_i16`](reference::largest_i16).
pub(super) fn largest_i16(row: &[i16]) -> u32 {
    let sixteens = row.len() / 16;
    if !is_aligned(row) || sixteens == 0 {
        return reference::largest_i16(row);
    }
    // SAFETY: so many are there, and they are aligned.
    let of_sixteens = unsafe { largest_of_sixteens(row.as_ptr(), sixteens) };
    of_sixteens.max(reference::largest_i16(row.get(16 * sixteens..).unwrap_or_default()))
}

/// # Safety
///
/// `16 · sixteens`, not 0, are readable from a multiple of 4 on.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn largest_of_sixteens(row: *const i16, sixteens: usize) -> u32 {
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

/// # Safety
///
/// `16 · sixteens` values, not 0, are readable.
#[cfg(kernel_thumb2)]
#[unsafe(naked)]
unsafe extern "C" fn largest_of_sixteens(row: *const i16, sixteens: usize) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r7, lr}}",
        begin_largest!(),
        ".macro four",
        "ldrsh r4, [r0], #2",
        "ldrsh r5, [r0], #2",
        "ldrsh r6, [r0], #2",
        "ldrsh r7, [r0], #2",
        // A `MLS` takes two cycles, as would an addition and a comparison.
        ".irp value, r4, r5, r6, r7",
        "mls \\value, \\value, \\value, r3",
        ".endr",
        "orr r4, r5",
        "orr lr, r6, r7",
        ".endm",
        "1:",
        sixteen!(),
        "subs r1, #1",
        "bne 1b",
        ".purgem four",
        end_largest!(),
        "pop {{r4-r7, pc}}",
        larger_of_four!(),
    )
}
