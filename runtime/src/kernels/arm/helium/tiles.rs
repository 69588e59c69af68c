//! What follows the sums of a linear layer: tiles of `[rows][16]` int32, a row with each time through a loop. Sums are scaled, requantised, and
//! taken to where they go while they are in registers.

use crate::kernels::PerChannel;
use crate::ops::activation;
use crate::ops::requantize::{self, Requantizer, SUM_FRACTION_BITS};

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

/// What rows are requantised with.
#[repr(C)]
struct Rows {
    scales: *const i32,
    shifts: *const u8,
    accumulator_shift: u32,
    output_shift: i32,
    rows: usize,
    /// Bytes from a row of the output to the next.
    step: usize,
    bias: *const PerChannel,
    multiplier: *const PerChannel,
}

impl Rows {
    fn new(requantizer: &Requantizer<'_>, rows: usize, step: usize) -> Self {
        let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
        Self {
            scales: scales.unwrap_or_default().as_ptr(),
            shifts: shifts.as_ptr(),
            accumulator_shift: accumulator_shift & 31,
            output_shift,
            rows,
            step,
            bias,
            multiplier,
        }
    }
}

/// Whether a shift that is cut to −32..=31 gives what one does that is cut to −31..=30, as the reference's is. Only a product of 2³⁰ tells −32 from −31;
/// there is none of a sum that has been scaled, which is at most 2³⁰ itself, nor with a multiplier that is not negative.
fn are_shifts_small(requantizer: &Requantizer<'_>) -> bool {
    let is_small = requantizer.scales.is_some() || requantizer.multiplier.iter().all(|&multiplier| multiplier >= 0);
    requantizer.output_shift <= 30 && is_small
}

/// Loads what [`Rows`] has, from r2 on: scales to r3, shifts to r4, shifts of all to r5 and r6, rows to r7, step to r8, where the biases are to r2, and
/// where the multipliers are to r10.
macro_rules! load_rows {
    () => {
        "ldrd r3, r4, [r2]
        ldrd r5, r6, [r2, #8]
        ldrd r7, r8, [r2, #16]
        ldrd r2, r10, [r2, #24]"
    };
}

/// A row's scale in q3, and its shift in r10.
macro_rules! begin_scaled {
    () => {
        "ldr r11, [r3], #4
        ldrb r10, [r4], #1
        vdup.32 q3, r11
        subs.w r10, r6, r10
        ssat r10, #6, r10"
    };
}
macro_rules! begin {
    () => {
        "ldrb r10, [r4], #1
        subs.w r10, r6, r10
        ssat r10, #6, r10"
    };
}

/// Scales the sums in q0 and q1.
macro_rules! scale {
    () => {
        "vshl.s32 q0, r5
        vshl.s32 q1, r5
        vrmulh.s32 q0, q0, q3
        vrmulh.s32 q1, q1, q3"
    };
}
macro_rules! as_they_are {
    () => {
        ""
    };
}

/// Eight values in q0 and q1: by the multipliers in two vectors, and with biases from `$at` on.
macro_rules! values {
    ($multiplier_0:literal, $multiplier_1:literal, $at:literal) => {
        concat!(
            "vrmulh.s32 q0, q0, ",
            $multiplier_0,
            "\nvldrw.32 q2, [r2, #",
            $at,
            "]\nvrmulh.s32 q1, q1, ",
            $multiplier_1,
            "\nvqrshl.s32 q0, r10\nvqrshl.s32 q1, r10\nvqadd.s32 q0, q0, q2\nvldrw.32 q2, [r2, #16 + ",
            $at,
            "]\nvqadd.s32 q1, q1, q2",
        )
    };
}

assembly! {
    /// # Safety
    ///
    /// There are so many rows of 16, and all that they are requantised with.
    fn requantize_rows(tile: *mut i32, _out: *mut i16, rows: &Rows) {
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        load_rows!(),
        "vldmia r10, {{d8-d15}}",
        "wls lr, r7, 2f",
        "1:",
        begin_scaled!(),
        "vldrw.32 q0, [r0]",
        "vldrw.32 q1, [r0, #16]",
        scale!(),
        values!("q4", "q5", "0"),
        "vstrw.32 q0, [r0], #16",
        "vstrw.32 q1, [r0], #16",
        "vldrw.32 q0, [r0]",
        "vldrw.32 q1, [r0, #16]",
        scale!(),
        values!("q6", "q7", "32"),
        "vstrw.32 q0, [r0], #16",
        "vstrw.32 q1, [r0], #16",
        "le lr, 1b",
        "2:",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    }
}

/// See [`requantize`](requantize::requantize).
pub(super) fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    if requantizer.scales.is_none() || !are_shifts_small(requantizer) {
        return requantize::requantize(tile, requantizer);
    }
    let rows = Rows::new(requantizer, requantizer.rows(tile), 0);
    // SAFETY: so many rows are there.
    unsafe { requantize_rows(tile.as_mut_ptr(), core::ptr::null_mut(), &rows) };
}

/// Adds eight values to as many of the residual stream, which are at `$at` of its row and have their multipliers in `$of_residual`. Even and odd channels
/// are apart, as the products of vectors of 16 bits are: `$multiplier_0` and `$multiplier_1` are theirs, and their biases lie, together, from `$bias` on.
macro_rules! add_eight {
    ($scale:ident, $load:literal, $multiplier_0:literal, $multiplier_1:literal, $bias:literal, $of_residual:literal, $at:literal) => {
        concat!(
            "vld20.32 {{q0, q1}}, [r0]
            vld21.32 {{q0, q1}}, [r0]!\n",
            $scale!(),
            $load,
            "\nvrmulh.s32 q0, q0, ",
            $multiplier_0,
            "\nvrmulh.s32 q1, q1, ",
            $multiplier_1,
            "\nvld20.32 {{q2, q3}}, [",
            $bias,
            "]
            vqrshl.s32 q0, r10
            vld21.32 {{q2, q3}}, [",
            $bias,
            "]
            vqrshl.s32 q1, r10
            vqadd.s32 q0, q0, q2
            vldrh.u16 q2, [r1, #",
            $at,
            "]
            vqadd.s32 q1, q1, q3
            vmullb.s16 q3, q2, ",
            $of_residual,
            "\nvmullt.s16 q2, q2, ",
            $of_residual,
            "\nvqadd.s32 q0, q0, q3
            vqadd.s32 q1, q1, q2
            vqshrnb.s32 q0, q0, #8
            vqshrnt.s32 q0, q1, #8
            vstrh.16 q0, [r1, #",
            $at,
            "]",
        )
    };
}
const _: () = assert!(SUM_FRACTION_BITS == 8);

/// `$begin` begins a row, `$scale` scales its sums, and `$again` brings back its scale, whose vector holds something else in between.
macro_rules! add_rows {
    ($name:ident, $begin:ident, $scale:ident, $again:literal) => {
        assembly! {
            /// # Safety
            ///
            /// There are so many rows of 16 of both, and all that they are requantised with. Multipliers of the residual have 16 bits.
            fn $name(tile: *const i32, residual: *mut i16, rows: &Rows, multiplier: &PerChannel) {
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "vld20.32 {{q0, q1}}, [r3]",
                "vld21.32 {{q0, q1}}, [r3]!",
                "vld20.32 {{q2, q3}}, [r3]",
                "vld21.32 {{q2, q3}}, [r3]",
                "vmovnb.i32 q6, q0",
                "vmovnt.i32 q6, q1",
                "vmovnb.i32 q7, q2",
                "vmovnt.i32 q7, q3",
                load_rows!(),
                "vld20.32 {{q4, q5}}, [r10]",
                "vld21.32 {{q4, q5}}, [r10]!",
                "mov r12, r10",
                "add r9, r2, #32",
                "wls lr, r7, 2f",
                "1:",
                $begin!(),
                add_eight!($scale, "", "q4", "q5", "r2", "q6", "0"),
                $again,
                add_eight!(
                    $scale,
                    "\nvld20.32 {{q2, q3}}, [r12]\nvld21.32 {{q2, q3}}, [r12]",
                    "q2",
                    "q3",
                    "r9",
                    "q7",
                    "16"
                ),
                "add r1, r8",
                "le lr, 1b",
                "2:",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
            }
        }
    };
}

add_rows!(add_scaled_rows, begin_scaled, scale, "vdup.32 q3, r11");
add_rows!(add_rows_as_they_are, begin, as_they_are, "");

/// Rows that lie `stride` apart and have all 16 channels, at most `rows`.
const fn whole_rows(rows: usize, channels: usize, len: usize, stride: usize) -> usize {
    if channels < 16 || len < 16 || stride < 16 {
        return 0;
    }
    let whole = (len - 16) / stride + 1;
    if whole < rows { whole } else { rows }
}

/// What lies behind the whole rows.
fn rest<'r>(
    tile: &'r mut [i32],
    rows: usize,
    out: &'r mut [i16],
    stride: usize,
) -> Option<(&'r mut [i32], &'r mut [i16])> {
    let tile = tile.get_mut(rows * 16..).filter(|tile| !tile.is_empty())?;
    Some((tile, out.get_mut(rows * stride..)?))
}

/// See [`add_residual`](requantize::add_residual).
pub(super) fn add_residual(
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    residual: &mut [i16],
    stride: usize,
) {
    let is_usual =
        are_shifts_small(requantizer) && multiplier.iter().all(|&multiplier| i16::try_from(multiplier).is_ok());
    let rows = if is_usual { whole_rows(requantizer.rows(tile), channels, residual.len(), stride) } else { 0 };
    let with = Rows::new(requantizer, rows, 2 * stride);
    let function = if requantizer.scales.is_some() { add_scaled_rows } else { add_rows_as_they_are };
    // SAFETY: so many rows are there, and if there are any, the multipliers have 16 bits.
    unsafe { function(tile.as_ptr(), residual.as_mut_ptr(), &with, multiplier) };
    if let Some((tile, residual)) = rest(tile, rows, residual, stride) {
        requantize::add_residual(tile, &requantizer.from_row(rows), channels, multiplier, residual, stride);
    }
}

/// Even and odd channels of each eight.
fn even_and_odd(channels: &PerChannel) -> PerChannel {
    let mut out = [0; 16];
    for (out, channels) in out.as_chunks_mut::<8>().0.iter_mut().zip(channels.as_chunks::<8>().0) {
        let [a, b, c, d, e, f, g, h] = *channels;
        *out = [a, c, e, g, b, d, f, h];
    }
    out
}

/// Activates eight channels, which are at `$at` of a tile and, each two bytes wide, at `$out` of the output.
macro_rules! activate_eight {
    ($at:literal, $out:literal) => {
        concat!(
            "vld20.32 {{q0, q1}}, [r0]
            vld21.32 {{q0, q1}}, [r0]!
            vshl.s32 q0, r5
            vshl.s32 q1, r5
            vrmulh.s32 q0, q0, q7
            vldrw.32 q2, [r2, #64 + ",
            $at,
            "]
            vrmulh.s32 q1, q1, q7
            vldrw.32 q3, [r2, #80 + ",
            $at,
            "]
            vrmulh.s32 q0, q0, q2
            vldrw.32 q2, [r2, #",
            $at,
            "]
            vrmulh.s32 q1, q1, q3
            vldrw.32 q3, [r2, #16 + ",
            $at,
            "]
            vqrshl.s32 q0, r10
            vqrshl.s32 q1, r10
            vqadd.s32 q0, q0, q2
            vqadd.s32 q1, q1, q3\n",
            // |x|, up to the end of the table: all channels in one vector.
            "vqmovnb.s32 q2, q0
            vqmovnt.s32 q2, q1
            vmin.s32 q0, q0, q6
            vqabs.s16 q2, q2
            vmin.s32 q1, q1, q6
            vshr.u16 q3, q2, #7
            vqshlu.s32 q0, q0, #12
            vldrh.u16 q4, [r9, q3, uxtw #1]
            vqshlu.s32 q1, q1, #12
            vldrh.u16 q5, [r12, q3, uxtw #1]\n",
            // Between two steps: a doubled high half, rounded, of a fraction that is 2⁸ times as large.
            "vshl.i16 q2, q2, #8
            vsub.i16 q5, q5, q4
            vbic.i16 q2, #0x8000
            vqrdmulh.s16 q2, q2, q5
            vadd.i16 q2, q2, q4
            vshllb.s16 q3, q2, #8
            vshllt.s16 q4, q2, #8
            vsub.i32 q0, q0, q3
            vldrw.32 q2, [r2, #128 + ",
            $at,
            "]
            vsub.i32 q1, q1, q4
            vldrw.32 q3, [r2, #144 + ",
            $at,
            "]
            vrmulh.s32 q0, q0, q2
            vrmulh.s32 q1, q1, q3
            vqmovnb.s32 q0, q0
            vqmovnt.s32 q0, q1
            vstrh.16 q0, [r1, #",
            $out,
            "]",
        )
    };
}

assembly! {
    /// # Safety
    ///
    /// There are so many rows of 16 of both, and all that they are requantised with; every index into the table is 256 at most.
    fn activate_rows(tile: *const i32, out: *mut i16, rows: &Rows, delta: &[i16; 257]) {
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        "mov r12, r3",
        load_rows!(),
        "wls lr, r7, 2f",
        "mov r9, r12",
        "adds.w r12, r12, #2",
        "movw r11, #0xffff",
        "movt r11, #0x7",
        "vdup.32 q6, r11",
        "1:",
        "ldr r11, [r3], #4",
        "ldrb r10, [r4], #1",
        "vdup.32 q7, r11",
        "subs.w r10, r6, r10",
        "ssat r10, #6, r10",
        activate_eight!("0", "0"),
        activate_eight!("32", "16"),
        "add r1, r8",
        "le lr, 1b",
        "2:",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    }
}

/// See [`activate_tile`](activation::activate_tile).
pub(super) fn activate_tile(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    // The least value of an activation, −0.17, stays above −32767 with these.
    let is_small = multiplier.iter().all(|multiplier| (0..=1 << 25).contains(multiplier));
    let is_usual = is_small && requantizer.scales.is_some() && are_shifts_small(requantizer);
    let rows = match delta {
        Some(delta) if is_usual => {
            let rows = whole_rows(requantizer.rows(tile), channels, out.len(), stride);
            let parameters = [requantizer.bias, requantizer.multiplier, multiplier].map(even_and_odd);
            let with = Rows { bias: parameters.as_ptr(), ..Rows::new(requantizer, rows, 2 * stride) };
            // SAFETY: so many rows are there, and every index into the table is 256 at most.
            unsafe { activate_rows(tile.as_ptr(), out.as_mut_ptr(), &with, delta) };
            rows
        }
        _ => 0,
    };
    if let Some((tile, out)) = rest(tile, rows, out, stride) {
        activation::activate_tile(delta, tile, &requantizer.from_row(rows), channels, multiplier, out, stride);
    }
}
