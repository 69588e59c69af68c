//! Self-attention, head by head: query, key and value, scores, context; then the output projection onto the residual stream.
//!
//! Weights of query, key and value lie head by head, so each weight is read once, in ascending order. Query and
//! key rows are quantised to int8 with a scale of their own, values with one scale per channel over the tokens. Padding never
//! enters, so a sequence's bits do not depend on its batch.

use super::residual::{add_tile, quantize_residual};
use super::share::Share;
use super::workspace::{QUERY_ROWS, Rows, Workspace, padded, take};
use super::{Constants, Forward};
use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::format::section::SectionKind;
use crate::kernels::{Kernels, MatmulShape, PACKS, PerChannel};
use crate::ops::average::Divisor;
use crate::ops::fixed_point::{normalizing_shift, rounding_multiply_high, scale_by_power_of_two};
use crate::ops::linear::{Outputs, TileMemory, part, part_mut};
use crate::storage::{Storage, Unreadable};
use crate::trace::{Observer, Site};

/// The parts of a head, as their weights lie.
const PARTS: usize = 3;
const QUERY: usize = 0;
const KEY: usize = 1;

/// Memory of the attention block; N tokens, d channels of a head.
pub(super) struct Attention<'w> {
    pub(super) rows: Rows<'w>,
    /// `[N, H]`.
    pub(super) context: &'w mut [i16],
    /// `[N, d]` (query, key), `[d, N]` (value): before quantisation; then `[QUERY_ROWS, d]`: weighted sums of values.
    wide: &'w mut [i32],
    query: &'w mut [i8],
    /// `[N, d]` as `layout` has it.
    key: &'w mut [i8],
    /// `[d, N]` as `layout` has it: channel by channel, as the second product reads it.
    value: &'w mut [i8],
    query_scales: &'w mut [i32],
    key_scales: &'w mut [i32],
    value_scales: &'w mut [i32],
    scores: &'w mut [i32],
    probabilities: &'w mut [u8],
    n: usize,
    /// N up to a whole tile, where keys and values are packed for the kernels at work.
    padded: usize,
    /// How keys and values lie: for one head they are the weights of two products.
    layout: WeightLayout,
    pub(super) h: usize,
    d: usize,
}

impl<'w> Attention<'w> {
    /// Divides the arena, always in the same way.
    fn in_arena(arena: &'w mut [u8], kernels: &Kernels, n: usize, h: usize, d: usize) -> Self {
        let mut rest = arena;
        let whole = padded(n);
        // A row that is to be packed lies where the scores will be.
        let room = size_of::<i32>() * QUERY_ROWS * whole;
        let fits = kernels.weight_layout.fits(TILE_CHANNELS, d) && kernels.weight_layout.fits(d, whole) && d <= room;
        let is_packed = PACKS && fits && kernels.weight_layout != WeightLayout::RowMajor;
        let (padded, layout) = if is_packed { (whole, kernels.weight_layout) } else { (n, WeightLayout::RowMajor) };
        Self {
            rows: Rows::take(&mut rest, n, h),
            context: take(&mut rest, n * h),
            wide: take(&mut rest, n.max(QUERY_ROWS) * d),
            query: take(&mut rest, n * d),
            key: take(&mut rest, whole * d),
            value: take(&mut rest, whole * d),
            query_scales: take(&mut rest, n),
            key_scales: take(&mut rest, n),
            value_scales: take(&mut rest, d),
            scores: take(&mut rest, QUERY_ROWS * whole),
            probabilities: take(&mut rest, QUERY_ROWS * whole),
            n,
            padded,
            layout,
            h,
            d,
        }
    }

    /// Quantises query, key or value of a head, whose tiles are all done; returns how far the scales of keys were shifted left.
    fn quantize_part(&mut self, kernels: &Kernels, part: usize, constants: &Constants) -> u32 {
        let (n, d) = (self.n.max(1), self.d.max(1));
        let mut wide = self.wide.chunks_exact(if part == QUERY || part == KEY { d } else { n });
        match part {
            QUERY => {
                for (out, scale) in self.query.chunks_exact_mut(d).zip(self.query_scales.iter_mut()) {
                    *scale = (kernels.quantize_i32)(wide.next().unwrap_or_default(), out);
                }
                0
            }
            KEY => {
                for (index, scale) in self.key_scales.iter_mut().enumerate() {
                    let out = Packed { layout: self.layout, index, out: self.key, columns: d };
                    *scale = out.quantize(kernels, wide.next().unwrap_or_default(), self.scores);
                }
                let shift = normalizing_shift(self.key_scales.iter().copied().max().unwrap_or(0));
                self.key_scales.iter_mut().for_each(|scale| *scale <<= shift);
                shift
            }
            _ => {
                for (index, scale) in self.value_scales.iter_mut().enumerate() {
                    let out = Packed { layout: self.layout, index, out: self.value, columns: self.padded };
                    let largest = out.quantize(kernels, wide.next().unwrap_or_default(), self.scores);
                    // Normalised first, so that small values keep their bits.
                    let shift = normalizing_shift(largest);
                    let scaled = rounding_multiply_high(largest << shift, constants.layer.value_multiplier);
                    *scale = scale_by_power_of_two(scaled, constants.layer.value_exponent + shift as i32 - 32);
                }
                0
            }
        }
    }

    /// Context of some query rows of a head.
    fn attend(&mut self, kernels: &Kernels, constants: &Constants, head: usize, first: usize) {
        let (n, padded, h, d) = (self.n, self.padded, self.h, self.d);
        let m = QUERY_ROWS.min(n.saturating_sub(first));
        let is_packed = PACKS && self.layout != WeightLayout::RowMajor;
        let (products, averages) = match is_packed {
            true => (kernels.matmul_packed_i8, kernels.matmul_packed_u8_i8),
            false => (kernels.matmul_i8, kernels.matmul_u8_i8),
        };
        let stride = |k: usize| if is_packed { TILE_CHANNELS * k } else { k };
        let scores = MatmulShape {
            m,
            n: padded,
            k: d,
            input_stride: d,
            weight_stride: stride(d),
            out_stride: padded,
            out_tile_stride: TILE_CHANNELS,
        };
        products(&scores, part(self.query, first * d, m * d), self.key, self.scores);
        let mut sums = [0; QUERY_ROWS];
        let rows = self.scores.chunks_exact_mut(padded.max(1)).zip(self.probabilities.chunks_exact_mut(padded.max(1)));
        let query_scales = part(self.query_scales, first, m);
        for (((scores, out), &query), sum) in rows.zip(query_scales).zip(&mut sums) {
            let scale = constants.layer.softmax.row(query, constants.key_shift, d);
            // Behind the last key there is none, and what stands there as a probability meets values of 0.
            *sum = (kernels.softmax_row)(part_mut(scores, 0, n), self.key_scales, scale, part_mut(out, 0, n));
        }
        let values = MatmulShape {
            m,
            n: d,
            k: padded,
            input_stride: padded,
            weight_stride: stride(padded),
            out_stride: d,
            out_tile_stride: TILE_CHANNELS,
        };
        averages(&values, self.probabilities, self.value, self.wide);
        let context = self.context.chunks_exact_mut(h.max(1)).skip(first);
        for ((context, &sum), weighted) in context.zip(&sums).zip(self.wide.chunks_exact(d.max(1))).take(m) {
            let out = part_mut(context, head * d, d);
            (kernels.average_row)(weighted, Divisor::new(sum), self.value_scales, out);
        }
    }
}

/// Where one row of keys or values goes.
struct Packed<'a> {
    layout: WeightLayout,
    index: usize,
    out: &'a mut [i8],
    columns: usize,
}

impl Packed<'_> {
    /// Quantises the row; returns its magnitude. Where it has to be packed, it lies first where scores will be.
    fn quantize(self, kernels: &Kernels, wide: &[i32], room: &mut [i32]) -> i32 {
        let Self { layout, index, out, columns } = self;
        if !PACKS || layout == WeightLayout::RowMajor {
            return (kernels.quantize_i32)(wide, part_mut(out, index * columns, wide.len()));
        }
        let row = part_mut(bytemuck::cast_slice_mut(room), 0, wide.len());
        let largest = (kernels.quantize_i32)(wide, row);
        layout.pack_row(index, row, out, columns);
        largest
    }
}

/// Writes each channel of some rows to a row of its own, four at a time.
fn transpose<'w>(rows: &[PerChannel], of_channels: impl Iterator<Item = &'w mut [i32]>) {
    let (fours, rest) = rows.as_chunks::<4>();
    for (index, out) in of_channels.enumerate() {
        let of_row = |row: &PerChannel| row.get(index).copied().unwrap_or(0);
        let (out, behind) = out.split_at_mut_checked(4 * fours.len()).unwrap_or_default();
        for (out, [a, b, c, d]) in out.as_chunks_mut().0.iter_mut().zip(fours) {
            *out = [of_row(a), of_row(b), of_row(c), of_row(d)];
        }
        behind.iter_mut().zip(rest).for_each(|(out, row)| *out = of_row(row));
    }
}

impl<S: Storage> Forward<'_, S> {
    pub(super) fn attention(&mut self) -> Attention<'_> {
        let (config, kernels, n) = (self.model.config(), self.kernels, self.share.seq_len);
        Attention::in_arena(self.workspace.arena, kernels, n, config.hidden_size.into(), config.head_dim())
    }

    /// The residual stream, int8: that of every token, which every head takes.
    pub(super) fn qkv_input(&mut self, layer: usize) -> Result<(), Unreadable> {
        self.constants.layer = self.model.layer_constants(layer)?;
        let h = usize::from(self.model.config().hidden_size);
        let Share { seq_len, first_token, tokens, .. } = self.share;
        let Workspace { residual, largest, arena, .. } = &mut self.workspace;
        let rows = Rows::take(&mut &mut **arena, seq_len, h).part(first_token, tokens);
        quantize_residual(self.kernels, residual, largest, h, rows);
        #[cfg(feature = "threads")]
        self.exchange_rows()?;
        Ok(())
    }

    /// One tile of query, key or value of a head.
    pub(super) fn qkv(&mut self, layer: usize, head: usize, part: usize, index: usize) -> Result<(), Unreadable> {
        let (kernels, constants) = (self.kernels, self.constants);
        let linear = self.model.linear(SectionKind::Qkv, layer, constants.layer.qkv);
        let is_last = index + 1 >= linear.tiles.count();
        let mut attention = self.attention();
        let (n, d) = (attention.n, attention.d);
        let (rows, acc) = attention.rows.split();
        let wide = &mut *attention.wide;
        linear.tile(
            kernels,
            &rows,
            (head * PARTS + part, index),
            &mut TileMemory { acc, groups: &mut [] },
            |outputs| {
                let Outputs { row, channel, channels, .. } = outputs;
                let values = outputs.requantized(kernels);
                if part == QUERY || part == KEY {
                    let rows = wide.chunks_exact_mut(d.max(1)).skip(row);
                    for (wide, values) in rows.zip(values.as_chunks::<16>().0) {
                        let wide = wide.get_mut(channel..).unwrap_or_default();
                        match wide.first_chunk_mut::<TILE_CHANNELS>() {
                            // Four at a time: all 16 would be a call where there are no longer vectors.
                            Some(wide) if channels == TILE_CHANNELS => {
                                let fours = wide.as_chunks_mut::<4>().0.iter_mut().zip(values.as_chunks().0);
                                fours.for_each(|(wide, values)| *wide = *values);
                            }
                            _ => wide.iter_mut().zip(values).take(channels).for_each(|(wide, &value)| *wide = value),
                        }
                    }
                } else {
                    let of_channels = wide.chunks_exact_mut(n.max(1)).skip(channel).take(channels);
                    transpose(values.as_chunks().0, of_channels.map(|wide| wide.get_mut(row..).unwrap_or_default()));
                }
            },
        )?;
        if is_last {
            let shift = attention.quantize_part(kernels, part, &constants);
            if part == KEY {
                self.constants.key_shift = shift;
            }
        }
        Ok(())
    }

    /// Scores, softmax and context of a few query rows of a head.
    pub(super) fn attend(&mut self, head: usize, query: usize) {
        let (kernels, constants) = (self.kernels, self.constants);
        self.attention().attend(kernels, &constants, head, query);
    }

    /// The context, int8: that of its own tokens from here on.
    pub(super) fn context(&mut self, layer: usize, observer: &mut impl Observer) -> Result<(), Unreadable> {
        #[cfg(feature = "threads")]
        self.exchange_context()?;
        let (kernels, Share { seq_len, first_token, tokens, .. }) = (self.kernels, self.share);
        let h = usize::from(self.model.config().hidden_size);
        let (mut rows, context) = Rows::before_context(self.workspace.arena, seq_len, tokens, h);
        let mut context = context.chunks_exact(h.max(1)).skip(first_token);
        rows.quantize(|_, out| {
            let context = context.next().unwrap_or_default();
            observer.row(Site::Context { layer }, context);
            (kernels.quantize_i16)(context, (kernels.largest_i16)(context), out)
        });
        Ok(())
    }

    /// One tile of the output projection, added to the residual stream.
    pub(super) fn attention_output(&mut self, layer: usize, index: usize) -> Result<(), Unreadable> {
        let (kernels, constants) = (self.kernels, self.constants.layer);
        let linear = self.model.linear(SectionKind::AttentionOutput, layer, constants.attention_output);
        let h = usize::from(self.model.config().hidden_size);
        let Workspace { residual, arena, seq_len, .. } = &mut self.workspace;
        let mut rows = Rows::take(&mut &mut **arena, *seq_len, h);
        let (rows, acc) = rows.split();
        add_tile(kernels, &linear, &rows, index, &mut TileMemory { acc, groups: &mut [] }, residual)
    }
}
