//! Rows of values for cores whose high half of a product is rounded down, and costs three more instructions to be rounded to nearest.
//!
//! Where such a product is shifted right afterwards, the rounding rarely shows: the sum that is shifted is known to be one of two neighbours, and
//! only where the larger one is a multiple of the power of two do they give different results. Those elements go to the reference, one in
//! some hundreds; so do those that saturate. What is out of the ordinary for a whole row goes there as a whole.
#![allow(unsafe_code)]

use crate::kernels::registers::{self, Core, EXP2};
use crate::ops::fixed_point::saturate_i16;
use crate::ops::layer_norm::{self, Normalizer, SCALED_FRACTION_BITS};
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

/// See [`largest_i16`](quantize::largest_i16).
pub(super) fn largest_i16(row: &[i16]) -> u32 {
    let (eights, left) = row.as_chunks::<8>();
    let mut ends = Ends::default();
    for row in eights {
        eight!(at => ends.see(row[at].into()));
    }
    quantize::largest_i16(left).max(ends.largest())
}

/// Between which a row lies so far: few of its values are beyond all before. Both have the same magnitude, but for 32768.
#[derive(Clone, Copy, Default)]
struct Ends {
    least: i32,
    most: i32,
}

impl Ends {
    /// The value, saturated to int16.
    #[inline(always)]
    fn see(&mut self, value: i32) -> i16 {
        if value > self.most || value < self.least { self.widen(value) } else { value as i16 }
    }

    #[cold]
    #[inline(never)]
    fn widen(&mut self, value: i32) -> i16 {
        let value = value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        self.least = self.least.min(-i32::from(value.unsigned_abs()));
        self.most = i32::from(i16::MAX).min(-self.least);
        value
    }

    fn largest(self) -> u32 {
        self.least.unsigned_abs()
    }
}

/// See [`quantize_i16`](quantize::quantize_i16).
pub(super) fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
    let (eights, left) = row.as_chunks::<8>();
    if row.len() != out.len() || !left.is_empty() || largest == 0 {
        return quantize::quantize_i16(row, largest, out);
    }
    let reciprocal = Reciprocal::new(largest);
    for (out, row) in out.as_chunks_mut::<8>().0.iter_mut().zip(eights) {
        eight!(at => out[at] = reciprocal.quantize(row[at]));
    }
    reciprocal.magnitude()
}

/// See [`normalize`](layer_norm::normalize).
pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
    let Normalizer { inverse, offset } = *normalizer;
    let whole = row.len().min(parameters.len()) & !7;
    let mut ends = Ends::default();
    for (row, parameters) in row.as_chunks_mut::<8>().0.iter_mut().zip(parameters.as_chunks::<8>().0) {
        eight!(at => {
            let [gamma, beta] = parameters[at];
            let normalized = high(i32::from(row[at]) << 16, inverse).wrapping_add(offset);
            row[at] = ends.see(normalized.wrapping_mul(gamma).wrapping_add(beta) >> SCALED_FRACTION_BITS);
        });
    }
    match (row.get_mut(whole..), parameters.get(whole..)) {
        (Some(row), Some(parameters)) => ends.largest().max(layer_norm::normalize(row, parameters, normalizer)),
        _ => ends.largest(),
    }
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

/// See [`sums`](layer_norm::sums).
pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
    let (eights, left) = row.as_chunks::<8>();
    let (mut sum, mut squares) = layer_norm::sums(left);
    for row in eights {
        eight!(at => sum += i32::from(row[at]));
        let square = |at: usize| (i32::from(row[at]) * i32::from(row[at])) as u32;
        // Two squares fit 32 bits.
        squares += i64::from(square(0) + square(1)) + i64::from(square(2) + square(3));
        squares += i64::from(square(4) + square(5)) + i64::from(square(6) + square(7));
    }
    (sum, squares)
}
