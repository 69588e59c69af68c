//! Layer norm, and the input of the next linear layer, with the DSP extension: two values in a word.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use crate::ops::layer_norm::{self, Normalizer};
use crate::ops::quantize::{self, Steps};

/// See [`sums`](layer_norm::sums).
pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
    if !row.as_ptr().addr().is_multiple_of(4) {
        return layer_norm::sums(row);
    }
    let (eights, tail) = row.as_chunks::<8>();
    let (mut sum, mut squares) = layer_norm::sums(tail);
    if !eights.is_empty() {
        let mut of_eights = Sums { sum: 0, squares: 0 };
        // SAFETY: so many are there, and they are aligned.
        unsafe { sums_asm(eights.as_ptr(), eights.len(), &mut of_eights) };
        sum += of_eights.sum;
        squares += of_eights.squares;
    }
    (sum, squares)
}

#[repr(C)]
struct Sums {
    squares: i64,
    sum: i32,
}

/// # Safety
///
/// `eights`, not 0, are readable from a multiple of 4 on.
#[unsafe(naked)]
unsafe extern "C" fn sums_asm(row: *const [i16; 8], eights: usize, sums: &mut Sums) {
    naked_asm!(
        architecture!(),
        "push {{r4-r10, lr}}",
        "mov r12, #0x00010001",
        "movs r3, #0",
        "mov r8, #0",
        "mov r9, #0",
        "1:",
        "ldmia r0!, {{r4-r7}}",
        ".irp pair, r4, r5, r6, r7",
        "smlad r3, \\pair, r12, r3",
        "smlald r8, r9, \\pair, \\pair",
        ".endr",
        "subs r1, #1",
        "bne 1b",
        "stmia r2, {{r8, r9}}",
        "str r3, [r2, #8]",
        "pop {{r4-r10, pc}}",
    )
}

/// See [`normalize`](layer_norm::normalize).
pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) {
    let eights = row.len().min(parameters.len()) / 8;
    let Some(normalize) = Normalize::new(normalizer).filter(|_| row.as_ptr().addr().is_multiple_of(4) && eights > 0)
    else {
        return layer_norm::normalize(row, parameters, normalizer);
    };
    // SAFETY: so many are there, and they are aligned.
    unsafe { normalize_asm(row.as_mut_ptr(), parameters.as_ptr(), eights, &normalize) };
    let tail = row.get_mut(8 * eights..).unwrap_or_default();
    layer_norm::normalize(tail, parameters.get(8 * eights..).unwrap_or_default(), normalizer);
}

/// A [`Normalizer`] as [`normalize_asm`] wants it.
#[repr(C)]
struct Normalize {
    /// `width · 2^(16 + left)`.
    width: i32,
    /// `−sum · 2^left`.
    less: i32,
    inverse: i32,
    /// `−2^(32 − shift)`.
    step: i32,
}

impl Normalize {
    /// Where deviations are shifted left, and none can overflow.
    fn new(normalizer: &Normalizer) -> Option<Self> {
        let &Normalizer { width, sum, inverse, deviation_shift, shift } = normalizer;
        let left = u32::try_from(deviation_shift.checked_neg()?).ok().filter(|&left| left < 15)?;
        let largest = (i64::from(width) << 15) + i64::from(sum.unsigned_abs());
        let fits = (0..1 << (15 - left)).contains(&width) && largest << left < 1 << 31;
        (fits && (1..32).contains(&shift)).then(|| Self {
            width: width << (16 + left),
            less: -(sum << left),
            inverse,
            step: ((-1i64) << (32 - shift)) as i32,
        })
    }
}

/// # Safety
///
/// `8 · eights` values, not 0, are readable and writable from a multiple of 4 on, and as many parameters are there.
#[unsafe(naked)]
unsafe extern "C" fn normalize_asm(row: *mut i16, parameters: *const [i32; 2], eights: usize, normalize: &Normalize) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "ldmia r3, {{r8-r11}}",
        // Also −1 twice.
        "mov r12, #-1",
        "1:",
        ".rept 4",
        "ldr r3, [r0]",
        "smlawt lr, r8, r3, r9",
        "smlawb r3, r8, r3, r9",
        "ldmia r1!, {{r4-r7}}",
        "smmulr r3, r3, r10",
        "smmulr lr, lr, r10",
        "smmlar r3, r3, r4, r5",
        "smmlar lr, lr, r6, r7",
        // A rounding shift, less one, which comes back when it is saturated: so −32768 is not reached.
        "smmlsr r3, r3, r11, r12",
        "smmlsr lr, lr, r11, r12",
        "ssat r3, #16, r3",
        "ssat lr, #16, lr",
        "pkhbt r3, r3, lr, lsl #16",
        "qsub16 r3, r3, r12",
        "str r3, [r0], #4",
        ".endr",
        "subs r2, #1",
        "bne 1b",
        "pop {{r4-r11, pc}}",
    )
}

/// See [`quantize_smoothed`](quantize::quantize_smoothed).
pub(super) fn quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32 {
    let eights = out.len() / 8;
    let are_aligned = [row, smoothing].iter().all(|values| values.as_ptr().addr().is_multiple_of(4));
    if row.len() != out.len() || smoothing.len() != out.len() || !are_aligned || eights == 0 {
        return quantize::quantize_smoothed(row, smoothing, out);
    }
    let tail = || row.iter().zip(smoothing).skip(8 * eights).map(|(&value, &by)| i32::from(value) * i32::from(by));
    // SAFETY: so many are there, and they are aligned.
    let of_eights = unsafe { magnitude_of_products(row.as_ptr(), smoothing.as_ptr(), eights) };
    let largest = tail().fold(of_eights, |largest, product| largest.max(product.abs()));
    if largest == 0 {
        out.fill(0);
        return 0;
    }
    let steps = Steps::new(largest);
    // SAFETY: as above.
    unsafe {
        quantize_products(row.as_ptr(), smoothing.as_ptr(), out.as_mut_ptr(), eights, steps.reciprocal, steps.shift)
    };
    out.iter_mut().skip(8 * eights).zip(tail()).for_each(|(out, product)| *out = steps.quantize(product));
    largest
}

/// The largest magnitude of the products of two rows of int16.
///
/// A multiplication that adds tells, for as many values as one likes, if a sum has overflowed: from a number that lies the largest magnitude so far
/// below the greatest int32, which only a greater product does, and likewise from the least.
///
/// # Safety
///
/// `8 · eights` of both, not 0, are readable from a multiple of 4 on.
#[unsafe(naked)]
unsafe extern "C" fn magnitude_of_products(a: *const i16, b: *const i16, eights: usize) -> i32 {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "mvn r12, #0x80000000",
        "mov lr, #0x80000000",
        "movs r3, #0",
        "msr apsr_nzcvq, r3",
        "1:",
        "ldmia r0!, {{r4-r7}}",
        "ldmia r1!, {{r8-r11}}",
        ".irp limit, r12, lr",
        "smlabb r3, r4, r8, \\limit",
        "smlatt r3, r4, r8, \\limit",
        "smlabb r3, r5, r9, \\limit",
        "smlatt r3, r5, r9, \\limit",
        "smlabb r3, r6, r10, \\limit",
        "smlatt r3, r6, r10, \\limit",
        "smlabb r3, r7, r11, \\limit",
        "smlatt r3, r7, r11, \\limit",
        ".endr",
        "mrs r3, apsr",
        "lsls r3, r3, #4",
        "bmi 3f",
        "2:",
        "subs r2, #1",
        "bne 1b",
        "sub r0, lr, #0x80000000",
        "pop {{r4-r11, pc}}",
        // The magnitude is taken from the second limit, and both are made anew.
        "3:",
        "sub lr, lr, #0x80000000",
        ".macro larger factors:vararg",
        "\\factors",
        "cmp r12, #0",
        "it mi",
        "rsbmi r12, r12, #0",
        "cmp r12, lr",
        "it gt",
        "movgt lr, r12",
        ".endm",
        "larger smulbb r12, r4, r8",
        "larger smultt r12, r4, r8",
        "larger smulbb r12, r5, r9",
        "larger smultt r12, r5, r9",
        "larger smulbb r12, r6, r10",
        "larger smultt r12, r6, r10",
        "larger smulbb r12, r7, r11",
        "larger smultt r12, r7, r11",
        ".purgem larger",
        "mvn r12, #0x80000000",
        "sub r12, r12, lr",
        "add lr, lr, #0x80000000",
        "movs r3, #0",
        "msr apsr_nzcvq, r3",
        "b 2b",
    )
}

/// Quantises the products of two rows of int16.
///
/// # Safety
///
/// `8 · eights` of both, not 0, are readable from a multiple of 4 on, and there is room for as many.
#[unsafe(naked)]
unsafe extern "C" fn quantize_products(
    a: *const i16,
    b: *const i16,
    out: *mut i8,
    eights: usize,
    reciprocal: i32,
    shift: u32,
) {
    naked_asm!(
        architecture!(),
        "push {{r4-r11, lr}}",
        "ldrd r9, r10, [sp, #36]",
        "mov r11, #{half}",
        "mov r12, #0x00ff00ff",
        "1:",
        ".rept 2",
        "ldrd r4, r5, [r0], #8",
        "ldrd r6, r7, [r1], #8",
        "smulbb r8, r4, r6",
        "smultt r4, r4, r6",
        "smulbb r6, r5, r7",
        "smultt r5, r5, r7",
        "lsl r8, r10",
        "lsl r4, r10",
        "lsl r6, r10",
        "lsl r5, r10",
        "smmlar r8, r8, r9, r11",
        "smmlar r4, r4, r9, r11",
        "smmlar r6, r6, r9, r11",
        "smmlar r5, r5, r9, r11",
        // Bits 22 to 29 of four words become a word.
        "pkhtb r6, r6, r8, asr #16",
        "pkhtb r5, r5, r4, asr #16",
        "and r6, r12, r6, lsr #6",
        "and r5, r12, r5, lsr #6",
        "orr r6, r6, r5, lsl #8",
        "str r6, [r2], #4",
        ".endr",
        "subs r3, #1",
        "bne 1b",
        "pop {{r4-r11, pc}}",
        half = const 1 << (Steps::FRACTION_BITS - 1),
    )
}
