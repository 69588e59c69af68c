//! Rows of any length, quantised: 16 to 64 elements with each time through a loop; what is left a vector at a time, the last few under a predicate.

use crate::ops::quantize::{self, Reciprocal, Steps};

assembly! {
    /// The largest magnitude of a row of int16.
    ///
    /// # Safety
    ///
    /// The row has `len` elements.
    fn magnitude_i16(row: *const i16, len: usize) -> u32 {
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
    fn magnitude_i32(row: *const i32, len: usize) -> u32 {
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
    /// Quantises a row of int16: a rounded high half of 16 bits is what it is.
    ///
    /// # Safety
    ///
    /// The row has `len` elements, and there is room for as many.
    fn narrow_i16(row: *const i16, out: *mut i8, len: usize, multiplier: i16) {
        "push {{r4, lr}}",
        "vdup.16 q3, r3",
        "lsrs r4, r2, #6",
        "and r2, r2, #63",
        "wls lr, r4, 2f",
        "1:",
        ".rept 8",
        "vldrh.u16 q0, [r0], #16",
        "vrmulh.s16 q0, q0, q3",
        "vstrb.16 q0, [r1], #8",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.16 lr, r2, 4f",
        "3:",
        "vldrh.u16 q0, [r0], #16",
        "vrmulh.s16 q0, q0, q3",
        "vstrb.16 q0, [r1], #8",
        "letp lr, 3b",
        "4:",
        "pop {{r4, pc}}",
    }
}

assembly! {
    /// Quantises a row of int32.
    ///
    /// # Safety
    ///
    /// The row has `len` elements, and there is room for as many.
    fn narrow_i32(row: *const i32, out: *mut i8, len: usize, shift: u32, reciprocal: i32) {
        "push {{r4, lr}}",
        "ldr r4, [sp, #8]",
        "vdup.32 q3, r4",
        "lsrs r4, r2, #5",
        "and r2, r2, #31",
        "wls lr, r4, 2f",
        "1:",
        ".rept 8",
        "vldrw.32 q0, [r0], #16",
        "vshl.s32 q0, r3",
        "vrmulh.s32 q0, q0, q3",
        "vrshr.s32 q0, q0, #22",
        "vstrb.32 q0, [r1], #4",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.32 lr, r2, 4f",
        "3:",
        "vldrw.32 q0, [r0], #16",
        "vshl.s32 q0, r3",
        "vrmulh.s32 q0, q0, q3",
        "vrshr.s32 q0, q0, #22",
        "vstrb.32 q0, [r1], #4",
        "letp lr, 3b",
        "4:",
        "pop {{r4, pc}}",
    }
}

/// See [`largest_i16`](quantize::largest_i16).
pub(super) fn largest_i16(row: &[i16]) -> u32 {
    // SAFETY: the row has this length.
    unsafe { magnitude_i16(row.as_ptr(), row.len()) }
}

/// See [`quantize_i16`](quantize::quantize_i16).
pub(super) fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
    let reciprocal = Reciprocal::new(largest);
    if row.len() != out.len() || largest < Reciprocal::FIRST_OF_16_BITS {
        return quantize::quantize_i16(row, largest, out);
    }
    // SAFETY: both have this length.
    unsafe { narrow_i16(row.as_ptr(), out.as_mut_ptr(), row.len(), reciprocal.multiplier as i16) };
    reciprocal.magnitude()
}

/// See [`quantize_i32`](quantize::quantize_i32).
pub(super) fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
    if row.len() != out.len() {
        return quantize::quantize_i32(row, out);
    }
    // SAFETY: the row has this length.
    let largest = unsafe { magnitude_i32(row.as_ptr(), row.len()) }.min(i32::MAX as u32) as i32;
    if largest == 0 {
        out.fill(0);
        return 0;
    }
    let Steps { shift, reciprocal } = Steps::new(largest);
    // SAFETY: both have this length.
    unsafe { narrow_i32(row.as_ptr(), out.as_mut_ptr(), row.len(), shift, reciprocal) };
    largest
}
