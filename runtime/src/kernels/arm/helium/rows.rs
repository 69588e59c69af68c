//! Rows of any length, made probabilities, averaged and normalised: some elements with each time through a loop; what is left a vector at a time, the
//! last few under a predicate.

use crate::ops::average::Divisor;
use crate::ops::layer_norm::{self, Normalizer};
use crate::ops::softmax::{self, RowScale, exp2_table};

assembly! {
    /// Brings scores into the unit of their row; returns the largest.
    ///
    /// # Safety
    ///
    /// Both rows have `len` elements.
    fn weigh(scores: *mut i32, keys: *const i32, len: usize, shift: u32) -> i32 {
        "push {{r4, lr}}",
        "mov r12, #0x80000000",
        "lsrs r4, r2, #5",
        "and r2, r2, #31",
        "wls lr, r4, 2f",
        "1:",
        ".rept 8",
        "vldrw.32 q0, [r0]",
        "vshl.s32 q0, r3",
        "vldrw.32 q1, [r1], #16",
        "vrmulh.s32 q0, q0, q1",
        "vmaxv.s32 r12, q0",
        "vstrw.32 q0, [r0], #16",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.32 lr, r2, 4f",
        "3:",
        "vldrw.32 q0, [r0]",
        "vshl.s32 q0, r3",
        "vldrw.32 q1, [r1], #16",
        "vrmulh.s32 q0, q0, q1",
        "vmaxv.s32 r12, q0",
        "vstrw.32 q0, [r0], #16",
        "letp lr, 3b",
        "4:",
        "mov r0, r12",
        "pop {{r4, pc}}",
    }
}

/// What [`exponentiate`] makes probabilities with.
#[repr(C)]
struct Powers {
    largest: i32,
    /// Of a score less the largest: so both are negative.
    multiplier: i32,
    /// To the left.
    shift: i32,
    last: usize,
    table: *const u8,
}

assembly! {
    /// Makes probabilities of scores; returns their sum.
    ///
    /// # Safety
    ///
    /// Both rows have `len` elements, and the table `last + 1`; `last` is below 2¹⁵.
    fn exponentiate(scores: *const i32, out: *mut u8, len: usize, powers: &Powers) -> u32 {
        "push {{r4-r8, lr}}",
        "vpush {{d8-d9}}",
        "ldrd r4, r12, [r3]",
        "vdup.32 q3, r12",
        "ldrd r5, r7, [r3, #8]",
        "vdup.16 q4, r7",
        "ldr r6, [r3, #16]",
        "movs r8, #0",
        "lsrs r3, r2, #5",
        "and r2, r2, #31",
        "wls lr, r3, 2f",
        "1:",
        ".rept 4",
        // Even and odd ones.
        "vld20.32 {{q0, q1}}, [r0]",
        "vld21.32 {{q0, q1}}, [r0]!",
        "vsub.i32 q0, q0, r4",
        "vsub.i32 q1, q1, r4",
        "vrmulh.s32 q0, q0, q3",
        "vrmulh.s32 q1, q1, q3",
        "vrshl.s32 q0, r5",
        "vrshl.s32 q1, r5",
        "vqmovnb.s32 q2, q0",
        "vqmovnt.s32 q2, q1",
        "vmin.u16 q2, q2, q4",
        "vldrb.u16 q1, [r6, q2]",
        "vstrb.16 q1, [r1], #8",
        "vaddva.u16 r8, q1",
        ".endr",
        "le lr, 1b",
        "2:",
        "vdup.32 q4, r7",
        "wlstp.32 lr, r2, 4f",
        "3:",
        "vldrw.32 q0, [r0], #16",
        "vsub.i32 q0, q0, r4",
        "vrmulh.s32 q0, q0, q3",
        "vrshl.s32 q0, r5",
        "vmin.u32 q2, q0, q4",
        "vldrb.u32 q1, [r6, q2]",
        "vstrb.32 q1, [r1], #4",
        "vaddva.u32 r8, q1",
        "letp lr, 3b",
        "4:",
        "mov r0, r8",
        "vpop {{d8-d9}}",
        "pop {{r4-r8, pc}}",
    }
}

/// Every probability that is not 0, and one that is.
static EXP2: [u8; (9 << 8) + 1] = exp2_table();

/// See [`softmax_row`](softmax::softmax_row).
pub(super) fn softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
    let RowScale { multiplier, shift, accumulator_shift } = scale;
    let len = scores.len();
    if keys.len() != len || out.len() != len || shift < 0 || multiplier < 0 {
        return softmax::softmax_row(scores, keys, scale, out);
    }
    // SAFETY: all have this length, and the table has what it says.
    unsafe {
        let largest = weigh(scores.as_mut_ptr(), keys.as_ptr(), len, accumulator_shift);
        let (last, table) = (EXP2.len() - 1, EXP2.as_ptr());
        let powers = Powers { largest, multiplier: -multiplier, shift: -shift.min(31), last, table };
        exponentiate(scores.as_ptr(), out.as_mut_ptr(), len, &powers)
    }
}

assembly! {
    /// # Safety
    ///
    /// All rows have `len` elements.
    fn divide(
        weighted: *const i32,
        scales: *const i32,
        out: *mut i16,
        len: usize,
        shift: u32,
        reciprocal: i32,
    ) {
        "push {{r4-r6, lr}}",
        "vpush {{d8-d11}}",
        "ldrd r4, r5, [sp, #48]",
        "vdup.32 q3, r5",
        "movw r6, #0x7fff",
        "vdup.32 q4, r6",
        "vneg.s32 q5, q4",
        "wlstp.32 lr, r3, 2f",
        "1:",
        "vldrw.32 q0, [r0], #16",
        "vshl.s32 q0, r4",
        "vrmulh.s32 q0, q0, q3",
        "vldrw.32 q1, [r1], #16",
        "vshl.i32 q0, q0, #2",
        "vrmulh.s32 q0, q0, q1",
        "vmin.s32 q0, q0, q4",
        "vmax.s32 q0, q0, q5",
        "vstrh.32 q0, [r2], #8",
        "letp lr, 1b",
        "2:",
        "vpop {{d8-d11}}",
        "pop {{r4-r6, pc}}",
    }
}

/// See [`average_row`](crate::ops::average::average_row).
pub(super) fn average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]) {
    let Divisor { shift, reciprocal } = divisor;
    let len = weighted.len().min(scales.len()).min(out.len());
    // SAFETY: all are so long.
    unsafe { divide(weighted.as_ptr(), scales.as_ptr(), out.as_mut_ptr(), len, shift, reciprocal) };
}

assembly! {
    /// # Safety
    ///
    /// The row has `len` elements.
    fn sum_and_squares(row: *const i16, len: usize, squares: &mut i64) -> i32 {
        "push {{r4-r6, lr}}",
        "clrm {{r4, r5, r12}}",
        "lsrs r6, r1, #5",
        "and r1, r1, #31",
        "wls lr, r6, 2f",
        "1:",
        ".rept 4",
        "vldrh.16 q0, [r0], #16",
        "vmlaldava.s16 r4, r5, q0, q0",
        "vaddva.s16 r12, q0",
        ".endr",
        "le lr, 1b",
        "2:",
        "wlstp.16 lr, r1, 4f",
        "3:",
        "vldrh.16 q0, [r0], #16",
        "vmlaldava.s16 r4, r5, q0, q0",
        "vaddva.s16 r12, q0",
        "letp lr, 3b",
        "4:",
        "strd r4, r5, [r2]",
        "mov r0, r12",
        "pop {{r4-r6, pc}}",
    }
}

/// See [`sums`](layer_norm::sums).
pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
    let mut squares = 0;
    // SAFETY: the row is so long.
    let sum = unsafe { sum_and_squares(row.as_ptr(), row.len(), &mut squares) };
    (sum, squares)
}

assembly! {
    /// Normalises elements, eight at a time, even and odd ones apart; returns their largest magnitude.
    ///
    /// # Safety
    ///
    /// The row has `eights · 8` elements, and there are as many pairs of parameters.
    fn normalize(row: *mut i16, parameters: *const [i32; 2], eights: usize, inverse: i32, offset: i32) -> u32 {
        "push {{r4, lr}}",
        "vpush {{d8-d15}}",
        "ldr r4, [sp, #72]",
        "vdup.32 q2, r3",
        "movs r3, #0",
        "wls lr, r2, 2f",
        "1:",
        // The doubled high half of a product with x · 2¹⁵, to which the offset is added.
        "vldrh.u16 q0, [r0]",
        "vshllt.s16 q1, q0, #15",
        // Of even channels both parameters, and of odd ones.
        "vld40.32 {{q4, q5, q6, q7}}, [r1]",
        "vshllb.s16 q0, q0, #15",
        "vld41.32 {{q4, q5, q6, q7}}, [r1]",
        "vqdmlash.s32 q0, q2, r4",
        "vld42.32 {{q4, q5, q6, q7}}, [r1]",
        "vqdmlash.s32 q1, q2, r4",
        "vld43.32 {{q4, q5, q6, q7}}, [r1]!",
        "vmul.i32 q0, q0, q4",
        "vmul.i32 q1, q1, q6",
        "vadd.i32 q0, q0, q5",
        "vadd.i32 q1, q1, q7",
        "vqshrnb.s32 q0, q0, #15",
        "vqshrnt.s32 q0, q1, #15",
        "vmaxav.s16 r3, q0",
        "vstrh.16 q0, [r0], #16",
        "le lr, 1b",
        "2:",
        "mov r0, r3",
        "vpop {{d8-d15}}",
        "pop {{r4, pc}}",
    }
}
const _: () = assert!(layer_norm::SCALED_FRACTION_BITS == 15);

/// See [`normalize`](layer_norm::normalize).
pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
    let Normalizer { inverse, offset } = *normalizer;
    // Where an offset is added to a product, which is 2³⁰ at most, the sum is saturated.
    let eights = if offset.unsigned_abs() < 1 << 30 { row.len().min(parameters.len()) / 8 } else { 0 };
    // SAFETY: so many elements and parameters are there.
    let largest = unsafe { normalize(row.as_mut_ptr(), parameters.as_ptr(), eights, inverse, offset) };
    match (row.get_mut(8 * eights..), parameters.get(8 * eights..)) {
        (Some(row), Some(parameters)) => largest.max(layer_norm::normalize(row, parameters, normalizer)),
        _ => largest,
    }
}
