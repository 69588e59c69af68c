//! Layer norm: with the DSP extension, which multiplies halves of a word, and without.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::ops::Range;

use super::is_aligned;
use crate::ops::layer_norm::{self, Normalizer};

/// Values that [`sums_asm`] takes at a time.
const STEP: usize = if cfg!(kernel_dsp) { 16 } else { 24 };

/// See [`sums`](layer_norm::sums).
pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
    let (steps, tail) = row.as_chunks::<STEP>();
    if !is_aligned(row) || steps.is_empty() {
        return layer_norm::sums(row);
    }
    let mut of_steps = Sums { squares: 0, sum: 0 };
    // SAFETY: so many are there, and they are aligned.
    unsafe { sums_asm(steps.as_ptr(), steps.len(), &mut of_steps) };
    let (sum, squares) = layer_norm::sums(tail);
    (sum + of_steps.sum, squares + of_steps.squares)
}

#[repr(C)]
struct Sums {
    squares: i64,
    sum: i32,
}

/// # Safety
///
/// `steps`, not 0, are readable from a multiple of 4 on.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn sums_asm(row: *const [i16; STEP], steps: usize, sums: &mut Sums) {
    naked_asm!(
        architecture!(),
        "push {{r2, r4-r11, lr}}",
        "mov r12, #0x00010001",
        "movs r3, #0",
        "mov r10, #0",
        "mov r11, #0",
        "1:",
        "ldmia r0!, {{r2, r4-r9, lr}}",
        ".irp pair, r2, r4, r5, r6, r7, r8, r9, lr",
        "smlad r3, \\pair, r12, r3",
        "smlald r10, r11, \\pair, \\pair",
        ".endr",
        "subs r1, #1",
        "bne 1b",
        "pop {{r2}}",
        "stmia r2, {{r10, r11}}",
        "str r3, [r2, #8]",
        "pop {{r4-r11, pc}}",
    )
}

/// # Safety
///
/// `steps`, not 0, are readable.
#[cfg(kernel_thumb2)]
#[unsafe(naked)]
unsafe extern "C" fn sums_asm(row: *const [i16; STEP], steps: usize, sums: &mut Sums) {
    naked_asm!(
        architecture!(),
        "push {{r4-r8, lr}}",
        "movs r3, #0",
        "mov r8, #0",
        "mov r12, #0",
        "1:",
        ".rept {step} / 3",
        "ldrsh r4, [r0], #2",
        "ldrsh r5, [r0], #2",
        "ldrsh r6, [r0], #2",
        "add r3, r4",
        "add r3, r5",
        "add r3, r6",
        // Three squares fit a word without a sign.
        "mul r4, r4, r4",
        "mla r4, r5, r5, r4",
        "mla r4, r6, r6, r4",
        "adds r8, r4",
        "adc r12, r12, #0",
        ".endr",
        "subs r1, #1",
        "bne 1b",
        "strd r8, r12, [r2]",
        "str r3, [r2, #8]",
        "pop {{r4-r8, pc}}",
        step = const STEP,
    )
}

/// See [`normalize`](layer_norm::normalize).
pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
    let whole = row.len().min(parameters.len()) & !15;
    if !is_aligned(row) || whole == 0 {
        return layer_norm::normalize(row, parameters, normalizer);
    }
    let &Normalizer { inverse, offset } = normalizer;
    let Some((row, tail)) = row.split_at_mut_checked(whole) else { return 0 };
    let Range { start, end } = row.as_mut_ptr_range();
    // SAFETY: so many are there, and they are aligned.
    let largest = unsafe { normalize_asm(start, parameters.as_ptr(), end, inverse, offset) };
    largest.max(layer_norm::normalize(tail, parameters.get(whole..).unwrap_or_default(), normalizer))
}

/// # Safety
///
/// Some sixteens of values, not 0, are readable and writable from a multiple of 4 up to `end`, and as many parameters are there.
#[cfg(kernel_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn normalize_asm(
    row: *mut i16,
    parameters: *const [i32; 2],
    end: *mut i16,
    inverse: i32,
    offset: i32,
) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "mov r8, r3",
        "ldr r9, [sp, #36]",
        begin_largest!(),
        "1:",
        ".rept 4",
        "ldrd r10, r11, [r0]",
        ".irp pair, r10, r11",
        "ldmia r1!, {{r4-r7}}",
        "smlawb r12, r8, \\pair, r9",
        "smlawt \\pair, r8, \\pair, r9",
        "mla r12, r12, r4, r5",
        "mla \\pair, \\pair, r6, r7",
        "ssat r12, #16, r12, asr #15",
        "ssat \\pair, #16, \\pair, asr #15",
        "pkhbt \\pair, r12, \\pair, lsl #16",
        compare_pair!("\\pair"),
        ".endr",
        "strd r10, r11, [r0], #8",
        ".endr",
        branch_if_larger!("3f"),
        "2:",
        "cmp r0, r2",
        "bne 1b",
        end_largest!(),
        "pop {{r4-r11, pc}}",
        "3:",
        larger_of_sixteen!(),
        "b 2b",
    )
}

/// # Safety
///
/// Some sixteens of values, not 0, are readable and writable up to `end`, and as many parameters are there.
#[cfg(kernel_thumb2)]
#[unsafe(naked)]
unsafe extern "C" fn normalize_asm(
    row: *mut i16,
    parameters: *const [i32; 2],
    end: *mut i16,
    inverse: i32,
    offset: i32,
) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r2, r4-r11, lr}}",
        "asr r8, r3, #16",
        "uxth r9, r3",
        "ldr r10, [sp, #40]",
        begin_largest!(),
        // A value with these parameters, less its square from `left`.
        ".macro one gamma, beta, from, left",
        "ldrsh r11, [r0]",
        "mul r12, r11, r9",
        "add r12, r10, r12, asr #16",
        "mla r11, r11, r8, r12",
        "mla r11, r11, \\gamma, \\beta",
        "ssat r11, #16, r11, asr #15",
        "strh r11, [r0], #2",
        "mls \\left, r11, r11, \\from",
        ".endm",
        ".macro four",
        "ldmia r1!, {{r4-r7}}",
        "one r4, r5, r3, lr",
        "one r6, r7, lr, lr",
        "ldmia r1!, {{r4-r7}}",
        "one r4, r5, r3, r4",
        "one r6, r7, r4, r4",
        ".endm",
        "1:",
        sixteen!(),
        "ldr r4, [sp]",
        "cmp r0, r4",
        "bne 1b",
        ".purgem four",
        ".purgem one",
        end_largest!(),
        "pop {{r1, r4-r11, pc}}",
        larger_of_four!(),
    )
}

const _: () = assert!(layer_norm::SCALED_FRACTION_BITS == 15);
