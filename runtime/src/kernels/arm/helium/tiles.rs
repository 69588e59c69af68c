//! What follows the sums of a linear layer: tiles of `[rows][16]` int32, a row with each time through a loop.

use core::arch::naked_asm;

use crate::kernels::PerChannel;
use crate::ops::{activation, requantize};

assembly! {
    /// # Safety
    ///
    /// There are `rows` rows of 16, and as many scales.
    fn scale(tile: *mut i32, scales: *const i32, shift: u32, rows: usize) {
        "push {{r4, lr}}",
        "wls lr, r3, 2f",
        "1:",
        "ldr r4, [r1], #4",
        "vdup.32 q3, r4",
        ".rept 2",
        "vldrw.32 q0, [r0]",
        "vldrw.32 q1, [r0, #16]",
        "vshl.s32 q0, r2",
        "vshl.s32 q1, r2",
        "vrmulh.s32 q0, q0, q3",
        "vrmulh.s32 q1, q1, q3",
        "vstrw.32 q0, [r0], #16",
        "vstrw.32 q1, [r0], #16",
        ".endr",
        "le lr, 1b",
        "2:",
        "pop {{r4, pc}}",
    }
}

/// See [`scale_rows`](requantize::scale_rows).
pub(super) fn scale_rows(tile: &mut [i32], scales: &[i32], shift: u32) {
    let rows = scales.len().min(tile.len() / 16);
    // SAFETY: so many rows and scales are there.
    unsafe { scale(tile.as_mut_ptr(), scales.as_ptr(), shift & 31, rows) };
}

assembly! {
    /// # Safety
    ///
    /// There are `rows` rows of 16 of both, and as many scales.
    fn scale_and_add(acc: *const i32, scales: *const i32, shift: u32, tile: *mut i32, rows: usize) {
        "push {{r4, lr}}",
        "ldr r4, [sp, #8]",
        "wls lr, r4, 2f",
        "1:",
        "ldr r4, [r1], #4",
        "vdup.32 q3, r4",
        ".rept 4",
        "vldrw.32 q0, [r0], #16",
        "vshl.s32 q0, r2",
        "vldrw.32 q1, [r3]",
        "vrmulh.s32 q0, q0, q3",
        "vadd.i32 q0, q0, q1",
        "vstrw.32 q0, [r3], #16",
        ".endr",
        "le lr, 1b",
        "2:",
        "pop {{r4, pc}}",
    }
}

/// See [`scale_accumulators`](requantize::scale_accumulators).
pub(super) fn scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
    let rows = scales.len().min(acc.len() / 16).min(tile.len() / 16);
    // SAFETY: so many rows and scales are there.
    unsafe { scale_and_add(acc.as_ptr(), scales.as_ptr(), shift & 31, tile.as_mut_ptr(), rows) };
}

assembly! {
    /// # Safety
    ///
    /// There are `rows` rows of 16, and as many shifts.
    fn requantize_rows(
        tile: *mut i32,
        shifts: *const u8,
        rows: usize,
        output_shift: i32,
        bias: &PerChannel,
        multiplier: &PerChannel,
    ) {
        "push {{r4-r8, lr}}",
        "vpush {{d8-d15}}",
        "ldrd r4, r5, [sp, #88]",
        "vldrw.32 q4, [r5]",
        "vldrw.32 q5, [r5, #16]",
        "vldrw.32 q6, [r5, #32]",
        "vldrw.32 q7, [r5, #48]",
        "movs r7, #30",
        "mvn r8, #30",
        "wls lr, r2, 2f",
        "1:",
        // The shift to the left, −31 to 30.
        "ldrb r6, [r1], #1",
        "subs r6, r3, r6",
        "cmp r6, r7",
        "csel r6, r7, r6, gt",
        "cmp r6, r8",
        "csel r6, r8, r6, lt",
        "vldrw.32 q0, [r0]",
        "vrmulh.s32 q0, q0, q4",
        "vldrw.32 q1, [r0, #16]",
        "vrmulh.s32 q1, q1, q5",
        "vqrshl.s32 q0, r6",
        "vldrw.32 q2, [r4]",
        "vqrshl.s32 q1, r6",
        "vldrw.32 q3, [r4, #16]",
        "vqadd.s32 q0, q0, q2",
        "vstrw.32 q0, [r0], #16",
        "vqadd.s32 q1, q1, q3",
        "vstrw.32 q1, [r0], #16",
        "vldrw.32 q0, [r0]",
        "vrmulh.s32 q0, q0, q6",
        "vldrw.32 q1, [r0, #16]",
        "vrmulh.s32 q1, q1, q7",
        "vqrshl.s32 q0, r6",
        "vldrw.32 q2, [r4, #32]",
        "vqrshl.s32 q1, r6",
        "vldrw.32 q3, [r4, #48]",
        "vqadd.s32 q0, q0, q2",
        "vstrw.32 q0, [r0], #16",
        "vqadd.s32 q1, q1, q3",
        "vstrw.32 q1, [r0], #16",
        "le lr, 1b",
        "2:",
        "vpop {{d8-d15}}",
        "pop {{r4-r8, pc}}",
    }
}

/// See [`requantize`](requantize::requantize).
pub(super) fn requantize(
    tile: &mut [i32],
    shifts: &[u8],
    output_shift: i32,
    bias: &PerChannel,
    multiplier: &PerChannel,
) {
    let rows = shifts.len().min(tile.len() / 16);
    // SAFETY: so many rows and shifts are there.
    unsafe { requantize_rows(tile.as_mut_ptr(), shifts.as_ptr(), rows, output_shift, bias, multiplier) };
}

assembly! {
    /// # Safety
    ///
    /// There are `rows` rows of 16 of both; those of the residual are `step` bytes apart.
    fn add_rows(tile: *const i32, residual: *mut i16, step: usize, rows: usize, shift: u32) {
        "push {{r4, lr}}",
        "vpush {{d8-d9}}",
        "ldr r4, [sp, #24]",
        "rsbs r4, r4, #0",
        "sub r2, r2, #32",
        "movw r12, #0x8001",
        "vdup.16 q4, r12",
        "wls lr, r3, 2f",
        "1:",
        ".rept 2",
        // Even and odd channels.
        "vld20.32 {{q0, q1}}, [r0]",
        "vld21.32 {{q0, q1}}, [r0]!",
        "vldrh.u16 q2, [r1]",
        "vmovlb.s16 q3, q2",
        "vmovlt.s16 q2, q2",
        "vqadd.s32 q0, q0, q3",
        "vqadd.s32 q1, q1, q2",
        "vrshl.s32 q0, r4",
        "vrshl.s32 q1, r4",
        "vqmovnb.s32 q2, q0",
        "vqmovnt.s32 q2, q1",
        "vmax.s16 q2, q2, q4",
        "vstrh.16 q2, [r1], #16",
        ".endr",
        "add r1, r2",
        "le lr, 1b",
        "2:",
        "vpop {{d8-d9}}",
        "pop {{r4, pc}}",
    }
}

/// Rows that lie `stride` apart and have all 16 channels, at most `rows`.
const fn whole_rows(rows: usize, channels: usize, len: usize, stride: usize) -> usize {
    if channels < 16 || len < 16 || stride < 16 {
        return 0;
    }
    let whole = (len - 16) / stride + 1;
    if whole < rows { whole } else { rows }
}

/// What lies behind the whole rows.
fn rest<'r>(tile: &'r [i32], rows: usize, out: &'r mut [i16], stride: usize) -> Option<(&'r [i32], &'r mut [i16])> {
    let tile = tile.get(rows * 16..).filter(|tile| !tile.is_empty())?;
    Some((tile, out.get_mut(rows * stride..)?))
}

/// See [`add_residual`](requantize::add_residual).
pub(super) fn add_residual(tile: &[i32], channels: usize, shift: u32, residual: &mut [i16], stride: usize) {
    let rows = whole_rows(tile.len() / 16, channels, residual.len(), stride);
    // SAFETY: so many rows are there.
    unsafe { add_rows(tile.as_ptr(), residual.as_mut_ptr(), 2 * stride, rows, shift.min(31)) };
    if let Some((tile, residual)) = rest(tile, rows, residual, stride) {
        requantize::add_residual(tile, channels, shift, residual, stride);
    }
}

assembly! {
    /// # Safety
    ///
    /// There are `rows` rows of 16 of both; those of the output are `step` bytes apart.
    fn activate_rows(
        delta: &[i16; 257],
        tile: *const i32,
        multiplier: &PerChannel,
        rows: usize,
        out: *mut i16,
        step: usize,
    ) {
        "push {{r4-r8, lr}}",
        "vpush {{d8-d15}}",
        "ldrd r4, r5, [sp, #88]",
        "movw r6, #0xffff",
        "movt r6, #0x7",
        "movw r7, #0x8001",
        "adds r8, r0, #2",
        // Eight channels, then the other eight.
        "mov r12, #2",
        "3:",
        "push {{r1, r4}}",
        "vld20.32 {{q6, q7}}, [r2]",
        "vld21.32 {{q6, q7}}, [r2]!",
        "wls lr, r3, 2f",
        "1:",
        "vld20.32 {{q0, q1}}, [r1]",
        "vld21.32 {{q0, q1}}, [r1]",
        // |x|, up to the end of the table: all channels in one vector.
        "vqmovnb.s32 q2, q0",
        "vqmovnt.s32 q2, q1",
        "vdup.32 q5, r6",
        "vqabs.s16 q2, q2",
        "vmin.s32 q0, q0, q5",
        "vshr.u16 q3, q2, #7",
        "vmin.s32 q1, q1, q5",
        "vldrh.u16 q4, [r0, q3, uxtw #1]",
        "vqshlu.s32 q0, q0, #12",
        "vldrh.u16 q5, [r8, q3, uxtw #1]",
        "vqshlu.s32 q1, q1, #12",
        // Between two steps: a doubled high half, rounded, of a fraction that is 2⁸ times as large.
        "vshl.i16 q2, q2, #8",
        "vsub.i16 q5, q5, q4",
        "vbic.i16 q2, #0x8000",
        "vqrdmulh.s16 q2, q2, q5",
        "vadd.i16 q2, q2, q4",
        "vshllb.s16 q3, q2, #8",
        "vshllt.s16 q4, q2, #8",
        "vsub.i32 q0, q0, q3",
        "vsub.i32 q1, q1, q4",
        "vrmulh.s32 q0, q0, q6",
        "vrmulh.s32 q1, q1, q7",
        "vdup.16 q5, r7",
        "vqmovnb.s32 q2, q0",
        "vqmovnt.s32 q2, q1",
        "vmax.s16 q2, q2, q5",
        "vstrh.16 q2, [r4]",
        "adds r1, #64",
        "add r4, r5",
        "le lr, 1b",
        "2:",
        "pop {{r1, r4}}",
        "adds r1, #32",
        "adds r4, #16",
        "subs r12, #1",
        "bne 3b",
        "vpop {{d8-d15}}",
        "pop {{r4-r8, pc}}",
    }
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
    let rows = match delta {
        Some(delta) => {
            let rows = whole_rows(tile.len() / 16, channels, out.len(), stride);
            // SAFETY: so many rows are there, and every index into the table is 256 at most.
            unsafe { activate_rows(delta, tile.as_ptr(), multiplier, rows, out.as_mut_ptr(), 2 * stride) };
            rows
        }
        None => 0,
    };
    if let Some((tile, out)) = rest(tile, rows, out, stride) {
        activation::activate_tile(delta, tile, channels, multiplier, out, stride);
    }
}
