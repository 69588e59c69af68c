//! Rows of values: quantised, made probabilities, averaged, normalised.

use super::{Case, Difference, Suite, Values, lengths, take};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::{Normalizer, sums};
use crate::ops::quantize::largest_i16;
use crate::ops::softmax::SoftmaxScale;

impl Suite<'_> {
    pub(super) fn quantizations(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths() {
                // A slice that is shorter than the output counts as followed by zeros.
                for short in [0, 1 + self.next() as usize % 9] {
                    let mut rest = &mut *memory;
                    let case = Case { rows: 1, columns: len, k: short as i64, values };
                    let row = self.input::<i16>(&mut rest, len);
                    let wide = self.input::<i32>(&mut rest, len);
                    let mut out = self.outputs::<i8>(&mut rest, len);
                    self.fill_i16(values, row);
                    // Rows of small values have larger multipliers.
                    let right = self.next() % 17;
                    row.iter_mut().for_each(|value| *value >>= right.min(15));
                    self.fill(values, wide, |value| value);
                    let (row, wide) = (&row[..len.saturating_sub(short)], &wide[..len.saturating_sub(short)]);
                    self.compare("largest_i16", case, &mut out, |kernels, _| [(kernels.largest_i16)(row).into(), 0])?;
                    let largest = largest_i16(row);
                    self.compare("quantize_i16", case, &mut out, |kernels, out| {
                        [(kernels.quantize_i16)(row, largest, out).into(), 0]
                    })?;
                    self.compare("quantize_i32", case, &mut out, |kernels, out| {
                        [(kernels.quantize_i32)(wide, out).into(), 0]
                    })?;
                }
            }
        }
        self.near_ties(memory)
    }

    /// Values that end half-way between two steps, and those that only the first of both roundings brings there.
    fn near_ties(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        let mut rest = memory;
        let case = Case { rows: 1, columns: 128, k: 0, values: Values::Random };
        let mut out = self.outputs::<i8>(&mut rest, 128);
        // 127 · v / 254, and both sides of where a multiplier has 16 bits.
        for largest in [254, 255, 256, 257, 508] {
            let row: [i16; 128] = core::array::from_fn(|i| [largest, 4 * i as i16 - 255][usize::from(i > 0)]);
            let largest = largest_i16(&row);
            self.compare("quantize_i16", case, &mut out, |kernels, out| {
                [(kernels.quantize_i16)(&row, largest, out).into(), 0]
            })?;
        }
        for offset in [0, 1] {
            // 127 · v / 2³¹
            let half = |i: i64| (((2 * i - 127) << 30) / 127 + offset) as i32;
            let row: [i32; 128] = core::array::from_fn(|i| if i == 0 { i32::MAX } else { half(i as i64) });
            self.compare("quantize_i32", case, &mut out, |kernels, out| [(kernels.quantize_i32)(&row, out).into(), 0])?;
        }
        Ok(())
    }

    pub(super) fn softmax(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        // Every size of step between two scores, from one that leaves all alike to one that leaves one key.
        for (values, exponents) in [
            (Values::Random, 30..=100),
            (Values::Magnitudes, 30..=100),
            (Values::Min, 60..=64),
            (Values::Max, 60..=64),
            (Values::Alternating, 55..=70),
            (Values::Zero, 60..=64),
        ] {
            for exponent in exponents {
                self.softmax_rows(memory, values, exponent, [1, 7, 8, 31, 64, 100].into_iter())?;
            }
        }
        for exponent in [-1023, -100, 1023, 50, 60, 63, 72] {
            self.softmax_rows(memory, Values::Random, exponent, lengths())?;
        }
        Ok(())
    }

    fn softmax_rows(
        &mut self,
        memory: &mut [u8],
        values: Values,
        exponent: i32,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<(), Difference> {
        for len in lengths {
            let mut rest = &mut *memory;
            let case = Case { rows: 1, columns: len, k: exponent.into(), values };
            let scores = self.input::<i32>(&mut rest, len);
            let keys = self.input::<i32>(&mut rest, len);
            let mut out = self.outputs::<u8>(&mut rest, len);
            let head_dim = [1, 32, 64, 768][len % 4];
            // Sums of so many products of int8.
            let bits = (head_dim * 127 * 127_usize).ilog2();
            self.fill(values, scores, |value| value >> (31 - bits));
            self.fill(Values::Magnitudes, keys, |value| value & i32::MAX);
            let magnitude = (self.value(Values::Magnitudes, 0) & i32::MAX) * i32::from(exponent != 63);
            let multiplier = 1 << 30 | self.next() as i32 & i32::MAX;
            let scale = SoftmaxScale { multiplier, exponent }.row(magnitude, self.next() % 31, head_dim);
            let keys = &*keys;
            // Scores are overwritten with what the kernel likes.
            let again = take::<i32>(&mut rest, len);
            let again = core::cell::RefCell::new(again);
            self.compare("softmax_row", case, &mut out, |kernels, out| {
                let mut again = again.borrow_mut();
                again.copy_from_slice(scores);
                [(kernels.softmax_row)(&mut again, keys, scale, out).into(), 0]
            })?;
        }
        Ok(())
    }

    pub(super) fn averages(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths() {
                for short in [0, 1] {
                    let mut rest = &mut *memory;
                    let weighted = self.input::<i32>(&mut rest, len);
                    let scales = self.input::<i32>(&mut rest, len);
                    let mut out = self.outputs::<i16>(&mut rest, len);
                    let ends = [0, 1, 255, 256, 255 * 4096, u32::MAX];
                    let sum = ends.get(len % 8).copied().unwrap_or(self.next() % (255 * 4096));
                    let case = Case { rows: 1, columns: len, k: sum.into(), values };
                    // Averages of int8 values, and what they cannot be.
                    let bits = if short == 0 { (32 - sum.leading_zeros() + 7).min(32) } else { 32 };
                    self.fill(values, weighted, |value| value >> (32 - bits));
                    self.fill(if len % 2 == 0 { Values::Magnitudes } else { values }, scales, |value| value);
                    let (weighted, scales) = (&weighted[..len.saturating_sub(short)], &*scales);
                    self.compare("average_row", case, &mut out, |kernels, out| {
                        (kernels.average_row)(weighted, Divisor::new(sum), scales, out);
                        [0; 2]
                    })?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn layer_norms(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths().chain([4096]) {
                let mut rest = &mut *memory;
                let mut row = self.outputs::<i16>(&mut rest, len);
                self.fill_i16(values, row.expected);
                let case = Case { rows: 1, columns: len, k: 0, values };
                self.compare("layer_norm_sums", case, &mut row, |kernels, row| {
                    let (sum, squares) = (kernels.layer_norm_sums)(row);
                    [sum.into(), squares]
                })?;
                let count = len.min(768);
                let parameters = take::<[i32; 2]>(&mut rest, count);
                for short in [0, 1] {
                    // Any parameters, and such that most rows stay in int16.
                    let right = if short == 0 { 0 } else { 6 + self.next() % 10 };
                    self.fill(Values::Magnitudes, parameters.as_flattened_mut(), |value| value);
                    if short == 0 && len % 3 == 0 {
                        self.fill(values, parameters.as_flattened_mut(), |value| value);
                    }
                    parameters.iter_mut().for_each(|[gamma, beta]| (*gamma, *beta) = (*gamma >> right, *beta >> 4));
                    self.fill_i16(values, row.expected);
                    let inner = &row.expected[row.inner()];
                    let width = len.max(1);
                    let mut normalizer = Normalizer::new(width, sums(inner), 1 << (self.next() % 56));
                    if short == 1 && len % 2 == 1 {
                        // Any, whether or not a row leads to it.
                        normalizer = Normalizer { inverse: self.next() as i32 & i32::MAX, offset: self.next() as i32 };
                    }
                    let parameters = &parameters[..count.saturating_sub(short)];
                    let case = Case { k: right.into(), ..case };
                    self.compare("layer_norm", case, &mut row, |kernels, row| {
                        [(kernels.layer_norm)(row, parameters, &normalizer).into(), 0]
                    })?;
                }
            }
        }
        Ok(())
    }
}
