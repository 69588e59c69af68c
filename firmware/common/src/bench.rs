//! What the kernels take on this board, in instructions: each entry is called as the encoder calls it, on values of the sizes that a
//! trained model gives it. Weights lie as these kernels want them.

use core::fmt::Write;

use mbert_runtime::config::HiddenAct;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::tiles::Tiles;
use mbert_runtime::kernels::{Kernels, MatmulI8, MatmulShape, MatmulU8, PerChannel};
use mbert_runtime::ops::activation::delta_table;
use mbert_runtime::ops::average::Divisor;
use mbert_runtime::ops::fixed_point::accumulator_shift;
use mbert_runtime::ops::layer_norm::Normalizer;
use mbert_runtime::ops::linear::{BLOCK_ROWS, Linear, LinearShifts, Outputs, QuantizedRows, TileMemory};
use mbert_runtime::ops::requantize::{Requantizer, SUM_FRACTION_BITS};
use mbert_runtime::ops::softmax::SoftmaxScale;

use crate::counter::InstructionCounter;
use crate::error::Failure;
use crate::print::Fixed;
use crate::semihosting::Console;

/// Hidden size, head dimension, tokens: those of bert-base-multilingual-cased, at a length that users ask for.
const H: usize = 768;
const D: usize = 64;
const N: usize = 128;
const TILE: usize = 16;
/// Query rows that the encoder computes together.
const QUERY_ROWS: usize = 8;
/// Channels that share a scale behind the activation.
const GROUP: usize = 256;

/// Prints, for each part of the encoder, what one of its multiplications or elements takes: the instructions counted, divided by how many there
/// are. Parts that follow each other have a line together, too.
pub fn bench(
    kernels: &'static Kernels,
    mut out: Console,
    counter: &dyn InstructionCounter,
    memory: &mut [u8],
) -> Result<(), Failure> {
    writeln!(out, "kernels {}", kernels.name)?;
    let mut bench = Bench { kernels, counter, out, random: 1 };
    bench.linear("linear 128x768x768", memory, (128, H, H))?;
    bench.linear("linear 16x768x768", memory, (16, H, H))?;
    bench.linear("linear 1x768x768", memory, (1, H, H))?;
    bench.linear("linear 128x3072x64 in groups", memory, (128, 4 * TILE, 4 * H))?;
    bench.attention(memory)?;
    bench.activation(memory)?;
    bench.layer_norm(memory)
}

/// See [`Bench::sums`].
struct Sums<'m> {
    sums: &'m mut [i32],
    scales: &'m mut [i32],
    shifts: &'m mut [u8],
    bias: PerChannel,
    multiplier: PerChannel,
}

/// Sums of 20 bits become values of 14.
fn requantizer<'a>(
    scales: &'a [i32],
    shifts: &'a [u8],
    bias: &'a PerChannel,
    multiplier: &'a PerChannel,
) -> Requantizer<'a> {
    Requantizer { scales: Some(scales), accumulator_shift: 9, shifts, output_shift: -11, bias, multiplier }
}

struct Bench<'b> {
    kernels: &'static Kernels,
    counter: &'b dyn InstructionCounter,
    out: Console,
    random: u32,
}

/// The next `count` elements of a memory that is aligned to 8 bytes, and stays so.
fn take<'m, T: bytemuck::Pod>(rest: &mut &'m mut [u8], count: usize) -> &'m mut [T] {
    let bytes = count * size_of::<T>();
    let (taken, after) = core::mem::take(rest).split_at_mut(bytes.next_multiple_of(8));
    *rest = after;
    bytemuck::cast_slice_mut(&mut taken[..bytes])
}

impl Bench<'_> {
    /// Even over ±2^bits.
    fn value(&mut self, bits: u32) -> i32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        (self.random as i32) >> (31 - bits)
    }

    /// Near 0 more often than far from it, as activations are: between ±2^bits.
    fn bell(&mut self, bits: u32) -> i32 {
        (self.value(bits) + self.value(bits) + self.value(bits) + self.value(bits)) >> 2
    }

    fn fill<T>(&mut self, out: &mut [T], value: impl Fn(&mut Self) -> T) {
        out.iter_mut().for_each(|out| *out = value(self));
    }

    /// Prints what some work takes, and returns its instructions.
    fn measure(&mut self, name: &str, units: usize, work: impl FnOnce(&Kernels)) -> Result<u64, Failure> {
        let begin = self.counter.instructions();
        work(self.kernels);
        let instructions = self.counter.instructions() - begin;
        self.print(name, units, instructions)?;
        Ok(instructions)
    }

    fn print(&mut self, name: &str, units: usize, instructions: u64) -> Result<(), Failure> {
        let each = Fixed { value: ((instructions << 16) / units as u64) as i64, fraction_bits: 16 };
        Ok(writeln!(self.out, "bench {name}: {instructions} / {units} = {each}")?)
    }

    /// A linear layer up to its values, which are left in the place of its sums, or added to the residual stream.
    fn linear(&mut self, name: &str, memory: &mut [u8], (m, n, k): (usize, usize, usize)) -> Result<(), Failure> {
        let mut rest = memory;
        let layout = self.kernels.weight_layout;
        let tiles = Tiles { offset: 0, channels: n, inputs: k, parameters: 2, layout };
        let blob = take::<u8>(&mut rest, n * (k + 8));
        for index in 0..tiles.count() {
            let tile = tiles.tile(0, index);
            let (offset, weights) = (tile.offset as usize, tile.weights as usize);
            for word in blob[offset..weights].chunks_exact_mut(8) {
                let (bias, multiplier) = (self.value(12), 1 << 30 | self.value(29).abs());
                word[..4].copy_from_slice(&bias.to_le_bytes());
                word[4..].copy_from_slice(&multiplier.to_le_bytes());
            }
            self.fill(&mut blob[weights..][..TILE * k], |bench| bench.value(7).max(-127) as u8);
        }
        let group_size = if k > H { GROUP } else { k };
        let values = take::<i8>(&mut rest, m * k);
        self.fill(values, |bench| bench.bell(7).max(-127) as i8);
        let scales = take::<i32>(&mut rest, m * k / group_size);
        self.fill(scales, |bench| 1 << 30 | bench.value(29).abs());
        let shifts = take::<u8>(&mut rest, m);
        self.fill(shifts, |bench| bench.value(2) as u8 & 3);
        let input = QuantizedRows { values, scales, shifts, group_size };
        let block = m.min(BLOCK_ROWS) * TILE;
        let (acc, groups) = (take(&mut rest, block), take(&mut rest, if group_size < k { block } else { 0 }));
        // Outputs of 16 bits.
        let shifts = LinearShifts { accumulator: accumulator_shift(k), output: -12 };
        let linear = Linear { blob: &*blob, tiles, shifts };
        // A layer with groups leads to the residual stream.
        let residual = take::<i16>(&mut rest, if group_size < k { m * n } else { 0 });
        let mut unread = None;
        self.measure(name, m * n * k, |kernels| {
            for index in 0..tiles.count() {
                let (memory, tile) = (&mut TileMemory { acc, groups }, (0, index));
                let done = if residual.is_empty() {
                    linear.tile(kernels, &input, tile, memory, |outputs| _ = outputs.requantized(kernels))
                } else {
                    linear.tile(kernels, &input, tile, memory, |outputs| {
                        let Outputs { tile, requantizer, row, channel, .. } = outputs;
                        (kernels.add_residual)(
                            tile,
                            &requantizer,
                            TILE,
                            &[1000; TILE],
                            &mut residual[row * n + channel..],
                            n,
                        );
                    })
                };
                unread = done.err().or(unread);
            }
        })?;
        Ok(unread.map_or(Ok(()), |unread| Err(mbert_runtime::error::ForwardError::from(unread)))?)
    }

    fn attention(&mut self, memory: &mut [u8]) -> Result<(), Failure> {
        let mut rest = memory;
        let (query, key, value) =
            (take::<i8>(&mut rest, N * D), take::<i8>(&mut rest, N * D), take::<i8>(&mut rest, N * D));
        for part in [&mut *query, &mut *key, &mut *value] {
            self.fill(part, |bench| bench.bell(7).max(-127) as i8);
        }
        let (key_scales, value_scales) = (take::<i32>(&mut rest, N), take::<i32>(&mut rest, D));
        self.fill(key_scales, |bench| 1 << 30 | bench.value(29).abs());
        self.fill(value_scales, |bench| bench.value(20));
        let (scores, probabilities) = (take::<i32>(&mut rest, N * N), take::<u8>(&mut rest, N * N));
        let (weighted, context) = (take::<i32>(&mut rest, N * D), take::<i16>(&mut rest, N * D));
        let sums = take::<u32>(&mut rest, N);

        let is_packed = self.kernels.weight_layout != WeightLayout::RowMajor;
        let (products, averages): (MatmulI8, MatmulU8) = match is_packed {
            true => (self.kernels.matmul_packed_i8, self.kernels.matmul_packed_u8_i8),
            false => (self.kernels.matmul_i8, self.kernels.matmul_u8_i8),
        };
        let weight_stride = |k: usize| if is_packed { TILE * k } else { k };
        let shape = MatmulShape {
            m: QUERY_ROWS,
            n: N,
            k: D,
            input_stride: D,
            weight_stride: weight_stride(D),
            out_stride: N,
            out_tile_stride: TILE,
        };
        self.measure("q.kT 128x64x128", N * N * D, |_| {
            for (query, scores) in query.chunks_exact(QUERY_ROWS * D).zip(scores.chunks_exact_mut(QUERY_ROWS * N)) {
                products(&shape, query, key, scores);
            }
        })?;
        // A third of the probabilities become 0, as in the models that come with the project.
        let scale = SoftmaxScale { multiplier: 1_600_000_000, exponent: 79 }.row(1 << 21, 8, D);
        self.measure("softmax", N * N, |kernels| {
            let rows = scores.chunks_exact_mut(N).zip(probabilities.chunks_exact_mut(N));
            for ((scores, out), sum) in rows.zip(&mut *sums) {
                *sum = (kernels.softmax_row)(scores, key_scales, scale, out);
            }
        })?;
        let zeros = probabilities.iter().filter(|&&p| p == 0).count();
        writeln!(self.out, "zeros {zeros} of {}", N * N)?;
        let shape =
            MatmulShape { n: D, k: N, input_stride: N, weight_stride: weight_stride(N), out_stride: D, ..shape };
        self.measure("p.v 128x128x64", N * N * D, |_| {
            for (input, out) in
                probabilities.chunks_exact(QUERY_ROWS * N).zip(weighted.chunks_exact_mut(QUERY_ROWS * D))
            {
                averages(&shape, input, value, out);
            }
        })?;
        self.measure("average", N * D, |kernels| {
            for ((weighted, out), &sum) in weighted.chunks_exact(D).zip(context.chunks_exact_mut(D)).zip(&*sums) {
                (kernels.average_row)(weighted, Divisor::new(sum), value_scales, out);
            }
        })?;
        Ok(())
    }

    /// Rows of sums, and what makes values of them: 14 bits, as an activation takes them and the residual stream has them.
    fn sums<'m>(&mut self, rest: &mut &'m mut [u8]) -> Sums<'m> {
        let sums = take::<i32>(rest, BLOCK_ROWS * TILE);
        self.fill(sums, |bench| bench.bell(20));
        let scales = take::<i32>(rest, BLOCK_ROWS);
        self.fill(scales, |bench| 1 << 30 | bench.value(29).abs());
        let shifts = take::<u8>(rest, BLOCK_ROWS);
        self.fill(shifts, |bench| bench.value(2) as u8 & 3);
        let (mut bias, mut multiplier) = ([0; TILE], [0; TILE]);
        self.fill(&mut bias, |bench| bench.value(12));
        self.fill(&mut multiplier, |bench| 1 << 30 | bench.value(29).abs());
        Sums { sums, scales, shifts, bias, multiplier }
    }

    /// What so many tiles take where their values go nowhere, which [`linear`](Self::linear) has counted.
    fn requantization(&mut self, sums: &mut Sums<'_>, tiles: usize) -> u64 {
        let Sums { sums, scales, shifts, bias, multiplier } = sums;
        let requantizer = requantizer(scales, shifts, bias, multiplier);
        let begin = self.counter.instructions();
        for _ in 0..tiles {
            (self.kernels.requantize)(core::hint::black_box(sums), &requantizer);
        }
        self.counter.instructions() - begin
    }

    /// Rows of one group of channels: the activation, tile by tile, then int8. Not counted is what makes values of sums.
    fn activation(&mut self, memory: &mut [u8]) -> Result<(), Failure> {
        let mut rest = memory;
        let mut sums = self.sums(&mut rest);
        let mut multiplier = [0; TILE];
        self.fill(&mut multiplier, |bench| 1 << 20 | bench.value(19).abs());
        let (wide, out) = (take::<i16>(&mut rest, BLOCK_ROWS * GROUP), take::<i8>(&mut rest, BLOCK_ROWS * GROUP));
        let delta = delta_table(HiddenAct::Gelu);
        let units = BLOCK_ROWS * GROUP;
        let requantizer = requantizer(sums.scales, sums.shifts, &sums.bias, &sums.multiplier);
        let activation = self.measure("requantize + GELU", units, |kernels| {
            for first in (0..GROUP).step_by(TILE) {
                let out = &mut wide[first..];
                (kernels.activate_tile)(delta, sums.sums, &requantizer, TILE, &multiplier, out, GROUP);
            }
        })?;
        let quantization = self.measure("quantize activations", units, |kernels| {
            for (row, out) in wide.chunks_exact(GROUP).zip(out.chunks_exact_mut(GROUP)) {
                core::hint::black_box((kernels.quantize_i16)(row, (kernels.largest_i16)(row), out));
            }
        })?;
        let activation = activation.saturating_sub(self.requantization(&mut sums, GROUP / TILE));
        self.print("GELU", units, activation)?;
        self.print("GELU + quantize", units, activation + quantization)
    }

    /// Rows from the sums of a linear layer to the input of the next. Not counted is what makes values of sums.
    fn layer_norm(&mut self, memory: &mut [u8]) -> Result<(), Failure> {
        let mut rest = memory;
        let mut sums = self.sums(&mut rest);
        let residual = take::<i16>(&mut rest, BLOCK_ROWS * H);
        self.fill(residual, |bench| bench.bell(13) as i16);
        let parameters = take::<[i32; 2]>(&mut rest, H);
        self.fill(parameters, |bench| [1 << 10 | bench.value(9).abs(), bench.value(25)]);
        let largest = take::<u32>(&mut rest, BLOCK_ROWS);
        let out = take::<i8>(&mut rest, BLOCK_ROWS * H);
        let units = BLOCK_ROWS * H;
        let requantizer = requantizer(sums.scales, sums.shifts, &sums.bias, &sums.multiplier);
        // As many bits more as a sum with the residual has.
        let requantizer =
            Requantizer { output_shift: requantizer.output_shift + SUM_FRACTION_BITS as i32, ..requantizer };
        let mut multiplier = [0; TILE];
        self.fill(&mut multiplier, |bench| 1 << 7 | bench.value(7).abs());
        let addition = self.measure("requantize + add residual", units, |kernels| {
            for first in (0..H).step_by(TILE) {
                (kernels.add_residual)(sums.sums, &requantizer, TILE, &multiplier, &mut residual[first..], H);
            }
        })?;
        let addition = addition.saturating_sub(self.requantization(&mut sums, H / TILE));
        self.print("add residual", units, addition)?;
        let norm = self.measure("layer norm", units, |kernels| {
            for (row, largest) in residual.chunks_exact_mut(H).zip(&mut *largest) {
                let normalizer = Normalizer::new(H, (kernels.layer_norm_sums)(row), 1000);
                *largest = (kernels.layer_norm)(row, parameters, &normalizer);
            }
        })?;
        let quantization = self.measure("quantize residual", units, |kernels| {
            for ((row, out), &largest) in residual.chunks_exact(H).zip(out.chunks_exact_mut(H)).zip(&*largest) {
                core::hint::black_box((kernels.quantize_i16)(row, largest, out));
            }
        })?;
        self.print("add + layer norm + quantize", units, addition + norm + quantization)
    }
}
