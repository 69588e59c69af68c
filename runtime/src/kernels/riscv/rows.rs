//! Rows of values for cores whose high half of a product is rounded down, and costs three more instructions to be rounded to nearest.
//!
//! Where such a product is shifted right afterwards, the rounding rarely shows: the sum that is shifted is known to be one of two neighbours, and
//! only where the larger one is a multiple of the power of two do they give different results. Those elements go to the reference, one in
//! some hundreds; so do those that saturate. What is out of the ordinary for a whole row goes there as a whole.
#![allow(unsafe_code)]

use crate::kernels::PerChannel;
use crate::kernels::registers::{self, Core, EXP2, GELU};
use crate::ops::activation;
use crate::ops::fixed_point::{rounding_shift_right, saturate_i16, scale_by_power_of_two};
use crate::ops::layer_norm::{self, Normalizer};
use crate::ops::quantize::{self, ROW_SHIFT, Steps};
use crate::ops::requantize::{self, Requantizer};
use crate::ops::softmax::RowScale;
use crate::ops::tables::GELU_DELTA;

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

/// Something for each of eight elements: loops of eight are not unrolled by a compiler that is asked for small code.
macro_rules! eight {
    ($at:ident => $do:expr) => {
        eight!(@ $at [0, 1, 2, 3, 4, 5, 6, 7] $do)
    };
    (@ $at:ident [$($index:literal),*] $do:expr) => {
        $({
            let $at = $index;
            $do;
        })*
    };
}

/// The same for each of sixteen, a row of a tile.
macro_rules! sixteen {
    ($at:ident => $do:expr) => {
        eight!(@ $at [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] $do)
    };
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

/// The largest magnitude so far: few values in a row are larger than all before.
#[derive(Clone, Copy, Default)]
struct Largest {
    magnitude: u32,
}

impl Largest {
    /// Magnitudes are at most 2³⁰.
    #[inline(always)]
    fn see(&mut self, value: i32) {
        if (value as u32).wrapping_add(self.magnitude) > 2 * self.magnitude {
            self.magnitude = magnitude(value);
        }
    }
}

#[cold]
#[inline(never)]
fn magnitude(value: i32) -> u32 {
    value.unsigned_abs()
}

/// `⌊value / 2^shift⌋`, for a value that is known to be `upper` or one less; `shift` is 1 to 31. None where that makes a difference.
#[inline(always)]
fn shift_either(upper: i32, shift: u32) -> Option<i32> {
    if upper << (32 - shift) == 0 { None } else { Some(upper >> shift) }
}

/// Calls `each` with every row of a tile and what belongs to it in `out`, and `others` with what is left, where there are no sixteen elements.
#[inline(always)]
fn for_rows<'a>(
    mut tile: &'a [i32],
    channels: usize,
    mut out: &'a mut [i16],
    stride: usize,
    each: impl Fn(&[i32; 16], &mut [i16; 16]),
    others: impl Fn(&[i32; 16], &mut [i16]),
) {
    let has_all = channels >= 16 && stride >= 16;
    while let Some((values, behind)) = tile.split_first_chunk() {
        match out.first_chunk_mut() {
            Some(row) if has_all => each(values, row),
            _ => others(values, out.get_mut(..channels.min(out.len())).unwrap_or_default()),
        }
        tile = behind;
        out = core::mem::take(&mut out).get_mut(stride.max(1)..).unwrap_or_default();
    }
}

/// Whether no bias overflows with a product, which is at most 2³⁰ in magnitude.
fn is_small(bias: &PerChannel) -> bool {
    bias.iter().all(|bias| bias.unsigned_abs() < 1 << 30)
}

/// Within ±32767.
#[inline(always)]
fn fits_i16(value: i32) -> bool {
    value.wrapping_add(32767) as u32 <= 65534
}

/// See [`requantize`](requantize::requantize).
pub(super) fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
    let &Requantizer { scales, accumulator_shift, shifts, output_shift, bias, multiplier } = requantizer;
    let (is_small, rows) = (is_small(bias), requantizer.rows(tile));
    for (row, (tile, &shift)) in tile.as_chunks_mut::<16>().0.iter_mut().zip(shifts).enumerate().take(rows) {
        match (scales.and_then(|scales| scales.get(row)), i32::from(shift) - output_shift) {
            (Some(&scale), right @ 0..=29) if is_small => {
                let half = (1 << right) >> 1;
                sixteen!(at => {
                    let sum = Rv32im::multiply_high(tile[at].wrapping_shl(accumulator_shift), scale);
                    let product = Rv32im::multiply_high(sum, multiplier[at]);
                    tile[at] = ((product + half) >> right) + bias[at]
                });
            }
            (Some(&scale), left @ -15..=-1) if is_small => {
                let left = left.unsigned_abs();
                let limit = (1 << 30) >> left;
                sixteen!(at => {
                    let sum = Rv32im::multiply_high(tile[at].wrapping_shl(accumulator_shift), scale);
                    let product = Rv32im::multiply_high(sum, multiplier[at]);
                    // Small enough for the shift, and for the bias behind it.
                    let is_usual = product.wrapping_add(limit) as u32 <= 2 * limit as u32;
                    tile[at] =
                        if is_usual { (product << left) + bias[at] } else { shift_left_one(product, left, bias[at]) }
                });
            }
            _ => registers::requantize::<Rv32im>(tile, &requantizer.from_row(row)),
        }
    }
}

#[cold]
#[inline(never)]
fn shift_left_one(value: i32, left: u32, bias: i32) -> i32 {
    scale_by_power_of_two(value, -(left as i32)).saturating_add(bias)
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
    /// −8, where the table of GELU begins, with the fraction bits of an input.
    const LEAST: i32 = -8 << activation::ACTIVATION_INPUT_FRACTION_BITS;
    // Up to which input, at least, the product with the multiplier stays inside of int16: 7 · 2¹². That of a negative one does anyway if the
    // multiplier is below 2²⁵, GELU being above −0.17.
    let largest = multiplier.iter().fold(1, |largest: u32, multiplier| largest.max(multiplier.unsigned_abs()));
    let most = if largest < 1 << 25 { 7 * (u32::MAX / largest) } else { 0 };
    let inputs = most.min(LEAST.unsigned_abs()) + LEAST.unsigned_abs();
    if most == 0 || delta.is_none_or(|delta| !core::ptr::eq(delta, &GELU_DELTA)) {
        return activation::activate_tile(delta, tile, requantizer, channels, multiplier, out, stride);
    }
    requantize(tile, requantizer);
    let tile = tile.get(..16 * requantizer.rows(tile)).unwrap_or_default();
    let each = |values: &[i32; 16], out: &mut [i16; 16]| {
        sixteen!(at => {
            let input = values[at].wrapping_sub(LEAST) as u32;
            out[at] = match GELU.get(input as usize >> 7) {
                Some([offset, slope]) if input < inputs => {
                    let activated = offset.wrapping_add(slope.wrapping_mul(values[at])) & !255;
                    Rv32im::multiply_high(activated, multiplier[at]) as i16
                }
                _ => activate_one(values[at], multiplier[at]),
            }
        });
    };
    let others = |values: &[i32; 16], out: &mut [i16]| {
        let channels = out.iter_mut().zip(values).zip(multiplier);
        channels.for_each(|((out, &value), &multiplier)| *out = activate_one(value, multiplier));
    };
    for_rows(tile, channels, out, stride, each, others);
}

#[cold]
#[inline(never)]
fn activate_one(x: i32, multiplier: i32) -> i16 {
    saturate_i16(Rv32im::multiply_high(registers::gelu(x), multiplier))
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
