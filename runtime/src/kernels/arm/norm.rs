//! Layer norm, with the DSP extension: two values in a word.
#![allow(unsafe_code)]

use core::arch::naked_asm;

use crate::ops::layer_norm;

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
