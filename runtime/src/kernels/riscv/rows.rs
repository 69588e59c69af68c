//! Rows of values: made probabilities, summed up, normalised, quantised. What does not fit the sixteen elements of a loop goes to the reference.
//!
//! A high half of a product is rounded down, and costs three more instructions to be rounded to nearest. Where it is shifted right afterwards, the
//! rounding rarely shows: the sum that is shifted is known to be one of two neighbours, and only where the larger one is a multiple of the power
//! of two do they give different results. Those elements go to the reference, one in some hundreds.
#![allow(unsafe_code)]

use crate::kernels::registers::{self, Core, EXP2};
use crate::ops::fixed_point::saturate_i16;
use crate::ops::layer_norm::{self, Normalizer};
use crate::ops::quantize::{self, Reciprocal};
use crate::ops::softmax::RowScale;

/// RISC-V with multiplication.
pub(super) struct Rv32im;

impl Core for Rv32im {
    #[inline(always)]
    fn multiply_high(a: i32, b: i32) -> i32 {
        // The bit that rounds, without a carry to look for.
        high(a, b).wrapping_add((a.wrapping_mul(b) as u32 >> 31) as i32)
    }

    #[inline(always)]
    fn saturate([a, b, c, d]: [i32; 4]) -> [i16; 4] {
        [saturate_i16(a), saturate_i16(b), saturate_i16(c), saturate_i16(d)]
    }
}

/// `⌊a · b / 2³²⌋`.
#[inline(always)]
fn high(a: i32, b: i32) -> i32 {
    let high: i32;
    // A compiler that widens a factor outside of a loop does not find the instruction.
    // SAFETY: arithmetic.
    unsafe {
        core::arch::asm!("mulh {high}, {a}, {b}", a = in(reg) a, b = in(reg) b, high = lateout(reg) high, options(pure, nomem, nostack));
    }
    high
}

/// Between which a row lies so far: few of its values are beyond.
#[derive(Clone, Copy)]
struct Ends {
    least: i32,
    most: i32,
}

impl Ends {
    /// A value among them; the other end is one step nearer to 0, which leaves it in int16.
    #[cold]
    #[inline(never)]
    fn widened(self, value: i32) -> Self {
        let least = self.least.min(-value.saturating_abs());
        Self { least, most: !least }
    }
}

/// See [`largest_i16`](quantize::largest_i16).
pub(super) fn largest_i16(row: &[i16]) -> u32 {
    let (sixteens, left) = row.as_chunks::<16>();
    let mut ends = Ends { least: 0, most: 0 };
    for row in sixteens {
        sixteen!(at => {
            let value = row[at].into();
            if value > ends.most || value < ends.least {
                ends = ends.widened(value);
            }
        });
    }
    quantize::largest_i16(left).max(ends.least.unsigned_abs())
}

/// See [`quantize_i16`](quantize::quantize_i16).
pub(super) fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
    let (sixteens, left) = row.as_chunks::<16>();
    if row.len() != out.len() || !left.is_empty() || largest == 0 {
        return quantize::quantize_i16(row, largest, out);
    }
    let reciprocal = Reciprocal::new(largest);
    for (out, row) in out.as_chunks_mut::<16>().0.iter_mut().zip(sixteens) {
        sixteen!(at => out[at] = reciprocal.quantize(row[at]));
    }
    reciprocal.magnitude()
}

/// See [`softmax_row`](crate::ops::softmax::softmax_row).
pub(super) fn softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
    let RowScale { multiplier, shift, accumulator_shift } = scale;
    if keys.len() != scores.len() || out.len() != scores.len() || !(4..=31).contains(&shift) {
        return registers::softmax_row::<Rv32im>(scores, keys, scale, out);
    }
    let (eights, left) = scores.as_chunks::<8>();
    let (key_eights, keys_left) = keys.as_chunks::<8>();
    let eights = eights.iter().zip(key_eights);
    let left = left.iter().zip(keys_left);
    // Exactly; scores are rounded down, except where one may be the largest.
    let mut largest = i32::MIN;
    for (&score, &key) in left.clone() {
        largest = larger(largest, scale, score, key);
    }
    for (score, key) in eights.clone() {
        eight!(at => {
            if high(score[at] << accumulator_shift, key[at]) >= largest {
                largest = larger(largest, scale, score[at], key[at]);
            }
        });
    }
    // A distance is exact or one too large, its product exact or one too small.
    let shift = shift as u32;
    let half = (1 << (shift - 1)) + 1;
    let mut sum = 0;
    let (out_eights, out_left) = out.as_chunks_mut::<8>();
    for (out, (score, key)) in out_eights.iter_mut().zip(eights) {
        eight!(at => {
            let distance = largest.wrapping_sub(high(score[at] << accumulator_shift, key[at]));
            let z = high(distance, multiplier).wrapping_add(half);
            let p = if z << (32 - shift) == 0 {
                probability(scale, largest, score[at], key[at])
            } else {
                u32::from(EXP2[(z as u32 >> shift).min(4095) as usize])
            };
            out[at] = p as u8;
            sum += p;
        });
    }
    for (out, (&score, &key)) in out_left.iter_mut().zip(left) {
        let p = probability(scale, largest, score, key);
        *out = p as u8;
        sum += p;
    }
    sum
}

#[cold]
#[inline(never)]
fn larger(largest: i32, scale: RowScale, score: i32, key: i32) -> i32 {
    largest.max(scale.score(score, key))
}

#[cold]
#[inline(never)]
fn probability(scale: RowScale, largest: i32, score: i32, key: i32) -> u32 {
    scale.probability(largest - scale.score(score, key)).into()
}

assembly! {
    /// Sum of some elements, and of their squares.
    ///
    /// # Safety
    ///
    /// The row, not empty, has a multiple of 16 elements.
    fn sum_and_squares(row: *const i16, end: *const i16, squares: &mut i64) -> i32 {
        "li a3, 0",
        "li a4, 0",
        "li a5, 0",
        "1:",
        // Three squares fit 32 bits; with those before, they seldom do not.
        ".irp at, 0, 3, 6, 9, 12",
        "lh t0, 2*\\at(a0)",
        "lh t1, 2*\\at+2(a0)",
        "lh t2, 2*\\at+4(a0)",
        "add a3, a3, t0",
        "mul t0, t0, t0",
        "add a3, a3, t1",
        "mul t1, t1, t1",
        "add a3, a3, t2",
        "mul t2, t2, t2",
        "add t0, t0, t1",
        "add t0, t0, t2",
        "add a4, a4, t0",
        "bltu a4, t0, 3\\at\\()f",
        "4\\at:",
        ".endr",
        "lh t0, 30(a0)",
        "addi a0, a0, 32",
        "add a3, a3, t0",
        "mul t0, t0, t0",
        "add a4, a4, t0",
        "bltu a4, t0, 315f",
        "415:",
        "bne a0, a1, 1b",
        "sw a4, 0(a2)",
        "sw a5, 4(a2)",
        "mv a0, a3",
        "ret",
        ".irp at, 0, 3, 6, 9, 12, 15",
        "3\\at:",
        "addi a5, a5, 1",
        "j 4\\at\\()b",
        ".endr",
    }
}

/// See [`sums`](layer_norm::sums).
pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
    let (sixteens, left) = row.as_chunks::<16>();
    let (mut sum, mut squares) = layer_norm::sums(left);
    if !sixteens.is_empty() {
        let mut of_sixteens = 0;
        let row = sixteens.as_flattened().as_ptr_range();
        // SAFETY: the row is as long as that, and not empty.
        sum += unsafe { sum_and_squares(row.start, row.end, &mut of_sixteens) };
        squares += of_sixteens;
    }
    (sum, squares)
}

assembly! {
    /// Normalises elements; returns the largest magnitude, negative.
    ///
    /// # Safety
    ///
    /// The row, not empty, has a multiple of 16 elements, which lie in words, and there are as many pairs of parameters.
    fn normalize(row: *mut i16, parameters: *const [i32; 2], end: *const i16, inverse: i32, offset: i32) -> i32 {
        // t1 is x · 2¹⁶. Few results are beyond a6 and a5, see `Ends`, which may have to be saturated.
        ".macro channel at
        mulh t1, t1, a3
        lw t2, 8*\\at(a1)
        add t1, t1, a4
        lw t3, 8*\\at+4(a1)
        mul t1, t1, t2
        add t1, t1, t3
        srai t1, t1, 15
        bgt t1, a5, 3\\at\\()f
        blt t1, a6, 3\\at\\()f
        4\\at:
        sh t1, 2*\\at(a0)
        .endm
        .macro channels at, next
        lw t0, 2*\\at(a0)
        slli t1, t0, 16
        channel \\at
        and t1, t0, a7
        channel \\next
        .endm",
        "li a5, 0",
        "li a6, 0",
        "lui a7, 0xffff0",
        "1:",
        "channels 0, 1",
        "channels 2, 3",
        "channels 4, 5",
        "channels 6, 7",
        "channels 8, 9",
        "channels 10, 11",
        "channels 12, 13",
        "channels 14, 15",
        "addi a0, a0, 32",
        "addi a1, a1, 128",
        "bne a0, a2, 1b",
        "mv a0, a6",
        "ret",
        ".irp at, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "3\\at:",
        "jal t2, 2f",
        "j 4\\at\\()b",
        ".endr",
        "2:",
        "lui t3, 0xffff8",
        "bge t1, t3, 5f",
        "mv t1, t3",
        "5:",
        "not t3, t3",
        "ble t1, t3, 6f",
        "mv t1, t3",
        "6:",
        // Less its magnitude.
        "srai t3, t1, 31",
        "xor t4, t1, t3",
        "sub t3, t3, t4",
        "bge t3, a6, 7f",
        "mv a6, t3",
        "not a5, t3",
        "7:",
        "jr t2",
        ".purgem channel",
        ".purgem channels",
    }
}
const _: () = assert!(layer_norm::SCALED_FRACTION_BITS == 15);

/// See [`normalize`](layer_norm::normalize).
pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
    let Normalizer { inverse, offset } = *normalizer;
    let is_in_words = row.as_ptr().addr().is_multiple_of(4);
    let whole = if is_in_words { row.len().min(parameters.len()) & !15 } else { 0 };
    let mut largest = 0;
    if whole > 0 {
        let end = row.as_ptr().wrapping_add(whole);
        // SAFETY: so many elements and parameters are there.
        let least = unsafe { normalize(row.as_mut_ptr(), parameters.as_ptr(), end, inverse, offset) };
        largest = least.unsigned_abs();
    }
    match (row.get_mut(whole..), parameters.get(whole..)) {
        (Some(row), Some(parameters)) => largest.max(layer_norm::normalize(row, parameters, normalizer)),
        _ => largest,
    }
}
