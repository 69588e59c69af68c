//! Rows of scores, made probabilities. What is no whole number of fours is left to the reference.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use crate::kernels::registers::EXP2;
use crate::ops::softmax::{self, RowScale};

/// Scales four scores, and is minus if one is larger than lr: seldom.
macro_rules! scale_four {
    () => {
        concat!(
            "ldmia r0, {{r4-r7}}
            ldmia r1!, {{r8-r11}}\n",
            shift_four_left!("r3"),
            "\n",
            multiply_four_high!(),
            "
            stmia r0!, {{r4-r7}}
            sub r8, lr, r4
            sub r9, lr, r5
            sub r10, lr, r6
            sub r11, lr, r7
            orr r8, r9
            orr r10, r11
            orrs r8, r10",
        )
    };
}

/// The largest of r4 to r7 and lr.
macro_rules! largest_of_four {
    () => {
        ".irp score, r4, r5, r6, r7
        cmp \\score, lr
        it gt
        movgt lr, \\score
        .endr"
    };
}

/// Makes four scores probabilities.
macro_rules! exponentiate_four {
    () => {
        concat!(
            "ldmia r0!, {{r4-r7}}
            sub r4, r8, r4
            sub r5, r8, r5
            sub r6, r8, r6
            sub r7, r8, r7\n",
            multiply_four_high!("r9", "r3", "r10"),
            "
            lsr r4, r11
            lsr r5, r11
            lsr r6, r11
            lsr r7, r11
            usat r4, #12, r4
            usat r5, #12, r5
            usat r6, #12, r6
            usat r7, #12, r7
            ldrb r4, [r12, r4]
            ldrb r5, [r12, r5]
            ldrb r6, [r12, r6]
            ldrb r7, [r12, r7]\n",
            add_bytes!(),
        )
    };
}

/// Stores the bytes r4 to r7, and adds them to lr; r3 is 0, or may be anything.
#[cfg(kernel_dsp)]
macro_rules! add_bytes {
    () => {
        "orr r4, r4, r5, lsl #8\norr r4, r4, r6, lsl #16\norr r4, r4, r7, lsl #24\nstr r4, [r1], #4\nusada8 lr, r4, r3, lr"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! add_bytes {
    () => {
        "add lr, r4\nadd lr, r5\nadd lr, r6\nadd lr, r7
        orr r4, r4, r5, lsl #8\norr r4, r4, r6, lsl #16\norr r4, r4, r7, lsl #24\nstr r4, [r1], #4"
    };
}

/// See [`softmax_row`](softmax::softmax_row).
pub(super) fn softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
    if keys.len() != scores.len() || out.len() != scores.len() || scale.shift < 1 {
        return softmax::softmax_row(scores, keys, scale, out);
    }
    // No score is less.
    let mut largest = -1 << 30;
    let (fours, tail) = scores.as_chunks_mut::<4>();
    let (_, tail_keys) = keys.as_chunks::<4>();
    let (_, tail_out) = out.as_chunks_mut::<4>();
    if !fours.is_empty() {
        // SAFETY: so many are there.
        largest = unsafe { scale_scores(fours.as_mut_ptr(), keys.as_ptr(), fours.len(), scale.accumulator_shift) };
    }
    for (score, &key) in tail.iter_mut().zip(tail_keys) {
        *score = scale.score(*score, key);
        largest = largest.max(*score);
    }
    let mut sum = 0;
    for (&mut score, out) in tail.iter_mut().zip(tail_out) {
        *out = scale.probability(largest - score);
        sum += u32::from(*out);
    }
    if !fours.is_empty() {
        // |score| < 2³⁰, so a distance is below 2³¹ and its product below 2³⁰: with the half of a step it stays positive.
        let shift = scale.shift.min(31) as u32;
        let exponents =
            Exponents { largest, multiplier: scale.multiplier, half: 1 << (shift - 1), shift, table: &EXP2 };
        // SAFETY: so many are there.
        sum += unsafe { exponentiate(fours.as_ptr(), out.as_mut_ptr(), fours.len(), &exponents) };
    }
    sum
}

/// `score = rmh(score · 2^shift, key)`; returns the largest score.
///
/// # Safety
///
/// `fours` of scores and keys, not 0, are there.
#[unsafe(naked)]
unsafe extern "C" fn scale_scores(scores: *mut [i32; 4], keys: *const i32, fours: usize, shift: u32) -> i32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "mov lr, #0xc0000000",
        // An odd four comes first.
        "adds r2, #1",
        "lsrs r2, r2, #1",
        "bcc 3f",
        "1:",
        scale_four!(),
        "bmi 5f",
        "3:",
        scale_four!(),
        "bmi 6f",
        "4:",
        "subs r2, #1",
        "bne 1b",
        "mov r0, lr",
        "pop {{r4-r11, pc}}",
        "5:",
        largest_of_four!(),
        "b 3b",
        "6:",
        largest_of_four!(),
        "b 4b",
    )
}

/// How distances from the largest score become probabilities.
#[repr(C)]
struct Exponents {
    largest: i32,
    multiplier: i32,
    half: i32,
    shift: u32,
    table: *const [u8; 4096],
}

/// Writes `table[(rmh(largest − score, multiplier) + half) >> shift]` and returns the sum.
///
/// # Safety
///
/// `fours` of scores, not 0, and room for as many probabilities are there.
#[unsafe(naked)]
unsafe extern "C" fn exponentiate(scores: *const [i32; 4], out: *mut u8, fours: usize, exponents: &Exponents) -> u32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "ldmia r3, {{r8-r12}}",
        "movs r3, #0",
        "mov lr, #0",
        // An odd four comes first.
        "adds r2, #1",
        "lsrs r2, r2, #1",
        "bcc 2f",
        "1:",
        exponentiate_four!(),
        "2:",
        exponentiate_four!(),
        "subs r2, #1",
        "bne 1b",
        "mov r0, lr",
        "pop {{r4-r11, pc}}",
    )
}
