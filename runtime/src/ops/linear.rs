//! A linear layer: exact int8 products, then one multiply per row, one per output channel, and the bias.
//!
//! `t[m][n] = Σ_groups rmh(acc << s, scale[m])` and `out[m][n] = bias[n] + rmh(t[m][n], multiplier[n]) · 2^(x − shift[m])`, where
//! `rmh` is [`rounding_multiply_high`](super::fixed_point::rounding_multiply_high). A row's scales are normalised to 31 bits by its own `shift[m]`, so a row of small values
//! keeps as many bits as one of large values. `s`, the accumulator shift, is as large as the weights allow:
//! `127 · Σₖ |w[n][k]| · 2^s < 2³¹` for every channel, so that no input can overflow `t`, however it is grouped. `x`, the output
//! shift, lets the largest multiplier be 31 bits wide.
//!
//! With rows quantised from values of a real `unit`, a scale being the magnitude that [`quantize_row`](super::quantize::quantize_row)
//! returned, one step of `t` is `2^(32 − s − shift[m]) · unit · s_w[n] / 127`.

use super::fixed_point::normalizing_shift;
use super::requantize::Requantizer;
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::format::tiles::{Tile, Tiles};
use crate::kernels::{Kernels, MatmulShape, PACKS, PerChannel, ROWS_ON_STACK, TILES_AT_ONCE};
use crate::storage::{Storage, Unreadable};

/// Rows that are multiplied by one tile of weights at a time, at most.
pub const BLOCK_ROWS: usize = 64;

/// int8 rows with their scales.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// Group after group, each `[rows, group_size]`; the last group may be narrower.
    pub values: &'a [i8],
    /// `[groups, rows]`: the magnitudes that `quantize_row` returned, after [`normalize_scales`].
    pub scales: &'a [i32],
    /// `[rows]`: what `normalize_scales` shifted them by.
    pub shifts: &'a [u8],
    /// Channels that share a scale; all of them where there is one group.
    pub group_size: usize,
}

/// Shifts the scales `[groups, rows]` of each row left together, until the largest is 31 bits wide; writes down by how much.
pub fn normalize_scales(scales: &mut [i32], shifts: &mut [u8]) {
    let rows = shifts.len().max(1);
    for (row, shift) in shifts.iter_mut().enumerate() {
        let of_row = |scales: &[i32]| scales.iter().skip(row).step_by(rows).copied().max().unwrap_or(0);
        *shift = normalizing_shift(of_row(scales)) as u8;
        scales.iter_mut().skip(row).step_by(rows).for_each(|scale| *scale <<= *shift);
    }
}

/// How the sums of a linear layer are shifted: see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinearShifts {
    /// `s`, below 32.
    pub accumulator: u32,
    /// `x`.
    pub output: i32,
}

/// A linear layer on its storage.
#[derive(Clone, Copy, Debug)]
pub struct Linear<S> {
    /// The whole blob.
    pub blob: S,
    /// Where weights and parameters lie in it.
    pub tiles: Tiles,
    /// See the module.
    pub shifts: LinearShifts,
}

/// Memory for the sums of a tile, each `[rows, 16]`: as many rows as `acc` holds are multiplied at a time.
#[derive(Debug)]
pub struct TileMemory<'a> {
    /// Sums of one group.
    pub acc: &'a mut [i32],
    /// Sums of all groups, for `TILES_AT_ONCE` tiles of the rows or as many as `acc` has; empty where there is one group.
    pub groups: &'a mut [i32],
}

/// Output channels of a layer for some rows.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The first row.
    pub row: usize,
    /// The first channel, from the beginning of the layer or of its part.
    pub channel: usize,
    /// Channels, at most 16.
    pub channels: usize,
    /// Sums `[rows, 16]`, of which the first `channels` of a row mean something.
    pub tile: &'a mut [i32],
    /// What makes the outputs of them.
    pub requantizer: Requantizer<'a>,
    /// The third parameter of each channel.
    pub multiplier: &'a PerChannel,
}

impl<'a> Outputs<'a> {
    /// The outputs `[rows, 16]` in the place of their sums.
    pub fn requantized(self, kernels: &Kernels) -> &'a [i32] {
        (kernels.requantize)(self.tile, &self.requantizer);
        self.tile
    }
}

/// Parameters of a tile's channels; 0 where a layer or a tile has fewer.
#[derive(Clone, Copy)]
struct Parameters {
    bias: PerChannel,
    multiplier: PerChannel,
    output_multiplier: PerChannel,
}

impl Parameters {
    const NONE: Self =
        Self { bias: [0; TILE_CHANNELS], multiplier: [0; TILE_CHANNELS], output_multiplier: [0; TILE_CHANNELS] };

    /// Takes apart P words of each channel.
    fn read<const P: usize>(&mut self, words: &[[u8; 4]]) {
        let channels = self.bias.iter_mut().zip(&mut self.multiplier).zip(&mut self.output_multiplier);
        for (((bias, multiplier), output_multiplier), words) in channels.zip(words.as_chunks::<P>().0) {
            for (found, &word) in [bias, multiplier, output_multiplier].into_iter().zip(words) {
                *found = i32::from_le_bytes(word);
            }
        }
    }
}

impl<S: Storage> Linear<S> {
    /// Into memory of the caller: returned, they would stand on the stack twice more.
    fn read_parameters(&self, tile: &Tile, parameters: &mut Parameters) -> Result<(), Unreadable> {
        let count = self.tiles.parameters;
        self.blob.view(tile.offset, size_of::<i32>() * count * tile.channels, |bytes| {
            let words = bytes.as_chunks().0;
            match count {
                3 => parameters.read::<3>(words),
                _ => parameters.read::<2>(words),
            }
        })
    }

    /// Computes one tile of output channels of every row. Its weights are read once: all at a time where the storage's window holds
    /// them, else a few channels at a time, each for every row before the next.
    ///
    /// Packed kernels take `TILES_AT_ONCE` tiles at a time: these all come with the first of them, and the others are done then.
    ///
    /// `sink` gets up to [`BLOCK_ROWS`] rows and up to 16 channels at a time.
    ///
    /// # Errors
    ///
    /// If the device fails; `sink` may have been given some channels by then.
    pub fn tile(
        &self,
        kernels: &Kernels,
        input: &QuantizedRows<'_>,
        (part, index): (usize, usize),
        memory: &mut TileMemory<'_>,
        mut sink: impl FnMut(Outputs<'_>),
    ) -> Result<(), Unreadable> {
        self.tile_into(kernels, input, (part, index), memory, &mut sink)
    }

    /// One copy of the code, whatever takes the outputs.
    fn tile_into(
        &self,
        kernels: &Kernels,
        input: &QuantizedRows<'_>,
        (part, index): (usize, usize),
        memory: &mut TileMemory<'_>,
        sink: &mut dyn FnMut(Outputs<'_>),
    ) -> Result<(), Unreadable> {
        let (tile, inputs) = (self.tiles.tile(part, index), self.tiles.inputs);
        if PACKS && self.tiles.layout != WeightLayout::RowMajor {
            return self.packed_tiles(kernels, input, (part, index), memory, sink);
        }
        let mut parameters = Parameters::NONE;
        self.read_parameters(&tile, &mut parameters)?;
        let step = (self.blob.window_bytes() / inputs.max(1)).clamp(1, TILE_CHANNELS);
        let mut first = 0;
        while first < tile.channels {
            let channels = step.min(tile.channels - first);
            let at = tile.weights + (first * inputs) as u32;
            self.blob.view(at, channels * inputs, |weights| {
                let of = Weights { values: bytemuck::cast_slice(weights), channels, stride: inputs, step: 1 };
                self.channels(
                    kernels,
                    input,
                    &of,
                    core::slice::from_ref(&parameters),
                    memory,
                    &mut |row, _, tile, requantizer, multiplier| {
                        let channel = tile_channel(index) + first;
                        sink(Outputs { row, channel, channels, tile, requantizer, multiplier });
                    },
                );
            })?;
            first += channels;
            let Parameters { bias, multiplier, output_multiplier } = &mut parameters;
            for of_channels in [bias, multiplier, output_multiplier] {
                of_channels.rotate_left(channels.min(TILE_CHANNELS));
            }
        }
        Ok(())
    }

    /// Some whole tiles, or the last that are left; nothing for one that came with an earlier one.
    // Not where row-major tiles are: their stack is scarcer.
    #[inline(never)]
    fn packed_tiles(
        &self,
        kernels: &Kernels,
        input: &QuantizedRows<'_>,
        (part, index): (usize, usize),
        memory: &mut TileMemory<'_>,
        sink: &mut dyn FnMut(Outputs<'_>),
    ) -> Result<(), Unreadable> {
        let (first, stride) = (self.tiles.tile(part, index), self.tiles.stride());
        let bytes = first.channels * self.tiles.inputs;
        // One row may have room for one tile, and a window for fewer than would be taken. It is the same number for every tile of a layer, and
        // a power of two, so that those that are taken together belong to one group of what reads them.
        let in_window = 1 + self.blob.window_bytes().saturating_sub(bytes) / stride.max(1);
        let in_memory = if ROWS_ON_STACK > 0 { TILES_AT_ONCE } else { memory.acc.len() / TILE_CHANNELS };
        let at_once = 1 << TILES_AT_ONCE.min(in_memory).min(in_window).max(1).ilog2();
        if !index.is_multiple_of(at_once) {
            return Ok(());
        }
        let tiles = at_once.min(self.tiles.count() - index);
        let (mut sums, mut group_sums) = (SumsOnStack::new(), SumsOnStack::new());
        let mut memory = if ROWS_ON_STACK > 0 {
            let count = input.shifts.len().min(ROWS_ON_STACK) * TILE_CHANNELS * tiles;
            let has_groups = input.group_size < self.tiles.inputs;
            // There is room for them.
            let _ = (sums.resize(count, 0), group_sums.resize(if has_groups { count } else { 0 }, 0));
            TileMemory { acc: &mut sums, groups: &mut group_sums }
        } else {
            TileMemory { acc: memory.acc, groups: memory.groups }
        };
        let mut parameters = [Parameters::NONE; TILES_AT_ONCE];
        for (number, parameters) in parameters.iter_mut().enumerate().take(tiles) {
            self.read_parameters(&self.tiles.tile(part, index + number), parameters)?;
        }
        let parameters = parameters.get(..tiles).unwrap_or_default();
        self.blob.view(first.weights, (tiles - 1) * stride + bytes, |weights| {
            let values = bytemuck::cast_slice(weights);
            let of = Weights { values, channels: tiles * TILE_CHANNELS, stride, step: TILE_CHANNELS };
            self.channels(
                kernels,
                input,
                &of,
                parameters,
                &mut memory,
                &mut |row, number, tile, requantizer, multiplier| {
                    let channel = tile_channel(index + number);
                    sink(Outputs { row, channel, channels: TILE_CHANNELS, tile, requantizer, multiplier });
                },
            );
        })
    }

    /// Some channels for every row: `sink` gets the first row, the number of the tile, and its sums.
    fn channels(
        &self,
        kernels: &Kernels,
        input: &QuantizedRows<'_>,
        weights: &Weights<'_>,
        parameters: &[Parameters],
        memory: &mut TileMemory<'_>,
        sink: &mut TileSink<'_>,
    ) {
        let (rows, k, layout, tiles) = (input.shifts.len(), self.tiles.inputs, self.tiles.layout, parameters.len());
        let block = (memory.acc.len() / (TILE_CHANNELS * tiles.max(1))).max(1);
        let LinearShifts { accumulator, output } = self.shifts;
        let mut row = 0;
        while row < rows {
            let m = block.min(rows - row);
            let of_tile = m * TILE_CHANNELS;
            let acc = part_mut(memory.acc, 0, of_tile * tiles);
            let has_groups = input.group_size < k;
            let shape = |k: usize| MatmulShape {
                m,
                n: weights.channels,
                k,
                input_stride: k,
                weight_stride: weights.stride,
                out_stride: TILE_CHANNELS,
                out_tile_stride: of_tile,
            };
            let sums = if !has_groups {
                kernels.matmul(layout, &shape(k), part(input.values, row * k, m * k), weights.values, acc);
                acc
            } else {
                let sums = part_mut(memory.groups, 0, of_tile * tiles);
                sums.fill(0);
                let mut first = 0;
                let mut scales = input.scales.get(row..).unwrap_or_default();
                while first < k {
                    let width = (k - first).min(input.group_size);
                    let values = part(input.values, first * rows + row * width, m * width);
                    let weights = weights.values.get(first * weights.step..).unwrap_or_default();
                    kernels.matmul(layout, &shape(width), values, weights, acc);
                    for (acc, sums) in acc.chunks(of_tile.max(1)).zip(sums.chunks_mut(of_tile.max(1))) {
                        (kernels.scale_accumulators)(acc, part(scales, 0, m), accumulator, sums);
                    }
                    first += width;
                    scales = scales.get(rows..).unwrap_or_default();
                }
                sums
            };
            let scales = if has_groups { None } else { Some(part(input.scales, row, m)) };
            let shifts = part(input.shifts, row, m);
            for ((number, sums), of) in sums.chunks_mut(of_tile.max(1)).enumerate().zip(parameters) {
                let requantizer = Requantizer {
                    scales,
                    accumulator_shift: accumulator,
                    shifts,
                    output_shift: output,
                    bias: &of.bias,
                    multiplier: &of.multiplier,
                };
                sink(row, number, sums, requantizer, &of.output_multiplier);
            }
            row += m;
        }
    }
}

/// Takes the first row, the number of the tile, its sums, what makes outputs of them, and the third parameter of its channels.
type TileSink<'s> = dyn FnMut(usize, usize, &mut [i32], Requantizer<'_>, &PerChannel) + 's;

/// Sums of `ROWS_ON_STACK` rows of `TILES_AT_ONCE` tiles.
type SumsOnStack = heapless::Vec<i32, { ROWS_ON_STACK * TILE_CHANNELS * TILES_AT_ONCE }>;

/// Weights in view.
struct Weights<'a> {
    values: &'a [i8],
    channels: usize,
    /// From one row to the next; of packed ones, from one tile to the next.
    stride: usize,
    /// From one input to the next.
    step: usize,
}

/// The first channel of a tile.
const fn tile_channel(index: usize) -> usize {
    index * TILE_CHANNELS
}

/// `count` elements from `first` on; none where there are not so many, which would be a mistake in the formulas of the workspace.
pub(crate) fn part<T>(slice: &[T], first: usize, count: usize) -> &[T] {
    let found = slice.get(first..).and_then(|behind| behind.get(..count));
    debug_assert!(found.is_some(), "{count} elements from {first} on of {}", slice.len());
    found.unwrap_or_default()
}

/// See [`part`].
pub(crate) fn part_mut<T>(slice: &mut [T], first: usize, count: usize) -> &mut [T] {
    debug_assert!(first + count <= slice.len(), "{count} elements from {first} on of {}", slice.len());
    slice.get_mut(first..).and_then(|behind| behind.get_mut(..count)).unwrap_or_default()
}
