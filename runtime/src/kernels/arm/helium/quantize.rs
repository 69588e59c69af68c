//! Rows of any length, quantised: 16 to 64 elements with each time through a loop; what is left a vector at a time, the last few under a predicate.

use core::arch::naked_asm;

use crate::ops::quantize::{self, ROW_SHIFT, Steps};

assembly! {
    /// The largest magnitude of a row of int16.
    ///
    /// # Safety
    ///
    /// The row has `len` elements.
    fn largest_i16(row: *const i16, len: usize) -> u32 {
        "push {{r4, lr}}",
        "movs r3, #0",
        "lsrs r2, r1, #6",
        "and r1, r1, #63",
        "wls lr, r2, 2f",
        "1:",
        ".rept 8",
        "vldrh.16 q0, [r0], #16",
        "vmaxav.s16 r3, q0",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.16 lr, r1, 4f",
        "3:",
        "vldrh.16 q0, [r0], #16",
        "vmaxav.s16 r3, q0",
        "letp lr, 3b",
        "4:",
        "mov r0, r3",
        "pop {{r4, pc}}",
    }
}

assembly! {
    /// The largest magnitude of a row of int32.
    ///
    /// # Safety
    ///
    /// The row has `len` elements.
    fn largest_i32(row: *const i32, len: usize) -> u32 {
        "push {{r4, lr}}",
        "movs r3, #0",
        "lsrs r2, r1, #4",
        "and r1, r1, #15",
        "wls lr, r2, 2f",
        "1:",
        ".rept 4",
        "vldrw.32 q0, [r0], #16",
        "vmaxav.s32 r3, q0",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.32 lr, r1, 4f",
        "3:",
        "vldrw.32 q0, [r0], #16",
        "vmaxav.s32 r3, q0",
        "letp lr, 3b",
        "4:",
        "mov r0, r3",
        "pop {{r4, pc}}",
    }
}

assembly! {
    /// The largest magnitude of the products of two rows of int16.
    ///
    /// # Safety
    ///
    /// Both rows have `len` elements.
    fn largest_product(row: *const i16, smoothing: *const i16, len: usize) -> u32 {
        "push {{r4, lr}}",
        "movs r3, #0",
        "lsrs r4, r2, #4",
        "and r2, r2, #15",
        "wls lr, r4, 2f",
        "1:",
        ".rept 2",
        "vldrh.16 q0, [r0], #16",
        "vldrh.16 q1, [r1], #16",
        "vmullb.s16 q2, q0, q1",
        "vmaxav.s32 r3, q2",
        "vmullt.s16 q2, q0, q1",
        "vmaxav.s32 r3, q2",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.32 lr, r2, 4f",
        "3:",
        "vldrh.s32 q0, [r0], #8",
        "vldrh.s32 q1, [r1], #8",
        "vmul.i32 q2, q0, q1",
        "vmaxav.s32 r3, q2",
        "letp lr, 3b",
        "4:",
        "mov r0, r3",
        "pop {{r4, pc}}",
    }
}

/// Quantises a row: `$load` brings four elements to q0.
macro_rules! narrow {
    ($name:ident, $element:ty, $load:literal) => {
        assembly! {
            /// # Safety
            ///
            /// The row has `len` elements, and there is room for as many.
            fn $name(row: *const $element, out: *mut i8, len: usize, shift: u32, reciprocal: i32) {
                "push {{r4, lr}}",
                "ldr r4, [sp, #8]",
                "vdup.32 q3, r4",
                "lsrs r4, r2, #5",
                "and r2, r2, #31",
                "wls lr, r4, 2f",
                "1:",
                ".rept 8",
                $load,
                "vshl.s32 q0, r3",
                "vrmulh.s32 q0, q0, q3",
                "vrshr.s32 q0, q0, #22",
                "vstrb.32 q0, [r1], #4",
                ".endr",
                "le lr, 1b",
                "2:",
                "wlstp.32 lr, r2, 4f",
                "3:",
                $load,
                "vshl.s32 q0, r3",
                "vrmulh.s32 q0, q0, q3",
                "vrshr.s32 q0, q0, #22",
                "vstrb.32 q0, [r1], #4",
                "letp lr, 3b",
                "4:",
                "pop {{r4, pc}}",
            }
        }
    };
}

narrow!(narrow_i16, i16, "vldrh.s32 q0, [r0], #8");
narrow!(narrow_i32, i32, "vldrw.32 q0, [r0], #16");

assembly! {
    /// Quantises the products of two rows.
    ///
    /// # Safety
    ///
    /// Both rows have `len` elements, and there is room for as many.
    fn narrow_products(row: *const i16, smoothing: *const i16, out: *mut i8, len: usize, shift: u32, reciprocal: i32) {
        "push {{r4-r5, lr}}",
        "vpush {{d8-d9}}",
        "ldrd r4, r5, [sp, #28]",
        "vdup.32 q4, r5",
        "lsrs r5, r3, #4",
        "and r3, r3, #15",
        "wls lr, r5, 2f",
        "1:",
        ".rept 2",
        "vldrh.16 q0, [r0], #16",
        "vldrh.16 q1, [r1], #16",
        "vmullb.s16 q2, q0, q1",
        "vmullt.s16 q3, q0, q1",
        "vshl.s32 q2, r4",
        "vshl.s32 q3, r4",
        "vrmulh.s32 q2, q2, q4",
        "vrmulh.s32 q3, q3, q4",
        "vrshr.s32 q2, q2, #22",
        "vrshr.s32 q3, q3, #22",
        "vmovnt.i32 q2, q3",
        "vstrb.16 q2, [r2], #8",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.32 lr, r3, 4f",
        "3:",
        "vldrh.s32 q0, [r0], #8",
        "vldrh.s32 q1, [r1], #8",
        "vmul.i32 q0, q0, q1",
        "vshl.s32 q0, r4",
        "vrmulh.s32 q0, q0, q4",
        "vrshr.s32 q0, q0, #22",
        "vstrb.32 q0, [r2], #4",
        "letp lr, 3b",
        "4:",
        "vpop {{d8-d9}}",
        "pop {{r4-r5, pc}}",
    }
}

/// See [`quantize_row`](quantize::quantize_row), for a row of this largest magnitude that `narrow` quantises.
#[inline(always)]
fn quantize_row(largest: u32, out: &mut [i8], narrow: impl FnOnce(&mut [i8], Steps)) -> i32 {
    let largest = largest.min(i32::MAX as u32) as i32;
    if largest == 0 {
        out.fill(0);
    } else {
        narrow(out, Steps::new(largest));
    }
    largest
}

/// See [`quantize_smoothed`](quantize::quantize_smoothed).
pub(super) fn quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32 {
    if row.len() != out.len() || smoothing.len() != out.len() {
        return quantize::quantize_smoothed(row, smoothing, out);
    }
    let (row, smoothing, len) = (row.as_ptr(), smoothing.as_ptr(), row.len());
    // SAFETY: all have this length.
    let largest = unsafe { largest_product(row, smoothing, len) };
    quantize_row(largest, out, |out, Steps { shift, reciprocal }| {
        // SAFETY: as above.
        unsafe { narrow_products(row, smoothing, out.as_mut_ptr(), len, shift, reciprocal) }
    })
}

/// See [`quantize_i16`](quantize::quantize_i16).
pub(super) fn quantize_i16(row: &[i16], out: &mut [i8]) -> i32 {
    if row.len() != out.len() {
        return quantize::quantize_i16(row, out);
    }
    // SAFETY: the row has this length.
    let largest = unsafe { largest_i16(row.as_ptr(), row.len()) };
    quantize_row(largest << ROW_SHIFT, out, |out, Steps { shift, reciprocal }| {
        // SAFETY: both have this length.
        unsafe { narrow_i16(row.as_ptr(), out.as_mut_ptr(), row.len(), shift + ROW_SHIFT, reciprocal) }
    })
}

/// See [`quantize_i32`](quantize::quantize_i32).
pub(super) fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
    if row.len() != out.len() {
        return quantize::quantize_i32(row, out);
    }
    // SAFETY: the row has this length.
    let largest = unsafe { largest_i32(row.as_ptr(), row.len()) };
    quantize_row(largest, out, |out, Steps { shift, reciprocal }| {
        // SAFETY: both have this length.
        unsafe { narrow_i32(row.as_ptr(), out.as_mut_ptr(), row.len(), shift, reciprocal) }
    })
}
