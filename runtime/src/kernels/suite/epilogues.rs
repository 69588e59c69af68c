//! What follows the sums of a linear layer: everything that works on tiles.

use super::{Case, Difference, Suite, Values, take};
use crate::config::HiddenAct;
use crate::format::layout::TILE_CHANNELS;
use crate::kernels::PerChannel;
use crate::ops::activation::delta_table;
use crate::ops::requantize::Requantizer;

/// What leads to the values of a tile.
struct Source<'m> {
    sums: &'m [i32],
    /// Apart from the sums, so that a table can change them.
    scales: &'m [i32],
    shifts: &'m [u8],
    bias: PerChannel,
    multiplier: PerChannel,
    accumulator_shift: u32,
    output_shift: i32,
}

impl Source<'_> {
    /// With scales, and without.
    fn requantizers(&self) -> [Requantizer<'_>; 2] {
        let &Self { scales, shifts, ref bias, ref multiplier, accumulator_shift, output_shift, .. } = self;
        [Some(scales), None].map(|scales| Requantizer {
            scales,
            accumulator_shift,
            shifts,
            output_shift,
            bias,
            multiplier,
        })
    }
}

impl Suite<'_> {
    pub(super) fn epilogues(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for rows in [0, 1, 2, 3, 7, 8, 9, 16, 33] {
                for shift in [0, 1, 2, 7, 8, 15, 16, 24, 29, 30, 31] {
                    self.epilogue(memory, values, rows, shift)?;
                }
            }
        }
        Ok(())
    }

    /// Everything that works on a tile of some rows.
    fn epilogue(&mut self, memory: &mut [u8], values: Values, rows: usize, shift: u32) -> Result<(), Difference> {
        let mut rest = &mut *memory;
        let case = Case { rows, columns: TILE_CHANNELS, k: shift.into(), values };
        let elements = rows * TILE_CHANNELS;
        let sums = self.input::<i32>(&mut rest, elements);
        self.fill(values, sums, |value| value);
        let sums = &*sums;
        let scales = self.input::<i32>(&mut rest, rows);
        self.fill(Values::Magnitudes, scales, |value| value);
        if values == Values::Alternating {
            self.fill(Values::Min, scales, |value| value);
        }
        let scales = &*scales;
        let mut tile = self.outputs(&mut rest, elements);
        self.fill(values, tile.expected, |value| value);
        self.compare("scale_accumulators", case, &mut tile, |kernels, tile| {
            (kernels.scale_accumulators)(sums, scales, shift, tile);
            [0; 2]
        })?;

        let shifts = self.input::<u8>(&mut rest, rows);
        for output_shift in [0, shift as i32, -1023, -40, -31, -1, 1, 30, 31, 32, 1023] {
            self.fill(Values::Random, shifts, |value| (value & 31) as u8);
            for channel_values in [values, Values::Magnitudes] {
                let (bias, multiplier) = (self.per_channel(values), self.per_channel(channel_values));
                let source = Source { sums, scales, shifts, bias, multiplier, accumulator_shift: shift, output_shift };
                let case = Case { k: output_shift.into(), ..case };
                self.fill(values, tile.expected, |value| value);
                for requantizer in source.requantizers() {
                    self.compare("requantize", case, &mut tile, |kernels, tile| {
                        (kernels.requantize)(tile, &requantizer);
                        [0; 2]
                    })?;
                }
            }
        }

        // Any sums, of which most leave int16; and values near it, which are known.
        let bias = self.per_channel(Values::Magnitudes);
        let multiplier = self.per_channel(if shift.is_multiple_of(3) { values } else { Values::Magnitudes });
        let output_shift = -((self.next() % 40) as i32) + 8;
        let any = Source { sums, scales, shifts, bias, multiplier, accumulator_shift: shift, output_shift };
        self.sinks(rest, &any, case)?;
        self.near_int16(memory, rows, case)
    }

    /// Values of int16 and a little more, by way of 16 and of no bits to the right.
    fn near_int16(&mut self, memory: &mut [u8], rows: usize, case: Case) -> Result<(), Difference> {
        let mut rest = memory;
        let sums = &mut take::<i32>(&mut rest, rows * TILE_CHANNELS)[..];
        let (scales, shifts) = (&mut take::<i32>(&mut rest, rows)[..], &mut take::<u8>(&mut rest, rows)[..]);
        scales.fill(1 << 30);
        let mut bias = self.per_channel(Values::Random);
        bias.iter_mut().for_each(|bias| *bias >>= 20);
        let right = [0, 1, 2, 10][case.k as usize % 4];
        // A scale and a shift of 2 before it are 1, a multiplier is ¼.
        self.fill(Values::Random, sums, |value| (value >> 15) << right << 2);
        self.fill(Values::Random, shifts, |value| (value & 7) as u8);
        for (sums, shift) in sums.chunks_exact_mut(TILE_CHANNELS).zip(&*shifts) {
            sums.iter_mut().for_each(|sum| *sum = sum.saturating_mul(1 << shift));
        }
        let multiplier = [1 << 30; TILE_CHANNELS];
        let source = Source { sums, scales, shifts, bias, multiplier, accumulator_shift: 2, output_shift: -right };
        self.sinks(rest, &source, case)
    }

    /// Where values go from a tile.
    fn sinks(&mut self, memory: &mut [u8], source: &Source<'_>, case: Case) -> Result<(), Difference> {
        let rows = case.rows;
        // Sums are overwritten with what the kernel likes.
        let mut memory = memory;
        let again = core::cell::RefCell::new(take::<i32>(&mut memory, source.sums.len()));
        let sums = || {
            let mut again = again.borrow_mut();
            again.copy_from_slice(source.sums);
            again
        };
        for requantizer in &source.requantizers() {
            for channels in [TILE_CHANNELS, (self.next() % 17) as usize] {
                let mut rest = &mut *memory;
                let stride = channels + (self.next() % 20) as usize;
                // The last row ends with its channels, or early.
                let cut = (self.next() as usize % 3) * usize::from(stride > channels);
                let len = (rows.saturating_sub(1) * stride + channels * rows.min(1)).saturating_sub(cut);
                let case = Case { columns: channels, ..case };
                let mut residual = self.outputs::<i16>(&mut rest, len);
                for right in [0, 16, 22] {
                    // Any multipliers, those of int16, and small ones.
                    let multiplier = self.per_channel(case.values).map(|multiplier| multiplier >> right);
                    self.fill_i16(if right == 0 { case.values } else { Values::Random }, residual.expected);
                    self.compare("add_residual", Case { k: right.into(), ..case }, &mut residual, |kernels, out| {
                        (kernels.add_residual)(&mut sums(), requantizer, channels, &multiplier, out, stride);
                        [0; 2]
                    })?;
                }
                for hidden_act in [HiddenAct::Gelu, HiddenAct::GeluNew, HiddenAct::Relu] {
                    let delta = delta_table(hidden_act);
                    let multiplier = self.per_channel(if channels == 0 { case.values } else { Values::Magnitudes });
                    self.compare("activate_tile", case, &mut residual, |kernels, out| {
                        (kernels.activate_tile)(delta, &mut sums(), requantizer, channels, &multiplier, out, stride);
                        [0; 2]
                    })?;
                }
            }
        }
        Ok(())
    }
}
