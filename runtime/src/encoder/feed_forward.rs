//! Feed-forward block: intermediate layer, activation, output layer onto the residual stream.
//!
//! The activations are quantised as they are produced: 256 channels of every token share one int8 scale per token, and only
//! one such group exists as int16 at a time.

use super::Forward;
use super::residual::{add_tile, quantize_residual};
use super::workspace::{Rows, Workspace, groups, take};
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::GROUP_SIZE;
use crate::ops::activation::delta_table;
use crate::ops::linear::{Outputs, QuantizedRows, TileMemory, normalize_scales, part, part_mut};
use crate::storage::{Storage, Unreadable};
use crate::trace::{Observer, Site};

/// Memory of the feed-forward block; T tokens of one pass, F channels.
struct FeedForward<'w> {
    /// The largest magnitude of each row of the residual stream.
    largest: &'w [u16],
    rows: Rows<'w>,
    /// `[groups, T]`.
    group_scales: &'w mut [i32],
    /// int8, group after group, each `[T, 256]`; the last group may be narrower. The group at work is int16, twice as wide, in room that
    /// the next group will use.
    activations: &'w mut [u8],
}

impl<'w> FeedForward<'w> {
    /// Divides the arena, always in the same way.
    fn in_arena(arena: &'w mut [u8], largest: &'w [u16], h: usize, groups: usize) -> Self {
        let tokens = largest.len();
        let mut rest = arena;
        Self {
            largest,
            rows: Rows::take(&mut rest, tokens, h),
            group_scales: take(&mut rest, tokens * groups),
            activations: take(&mut rest, tokens * (groups + 1) * GROUP_SIZE),
        }
    }
}

impl<S: Storage> Forward<'_, S> {
    /// The tokens of a pass: the first one, and how many.
    pub(super) fn pass(&self, pass: usize) -> (usize, usize) {
        let tokens = self.workspace.pass_tokens();
        let first = pass * tokens;
        (first, tokens.min(self.workspace.seq_len.saturating_sub(first)))
    }

    /// The residual stream of a pass, and the memory.
    fn feed_forward(&mut self, pass: usize) -> (&mut [i16], FeedForward<'_>) {
        let (first, tokens) = self.pass(pass);
        let config = self.model.config();
        let h = usize::from(config.hidden_size);
        let Workspace { residual, largest, arena, .. } = &mut self.workspace;
        let largest = part(largest, first, tokens);
        (part_mut(residual, first * h, tokens * h), FeedForward::in_arena(arena, largest, h, groups(config)))
    }

    /// The residual stream of a pass, int8.
    pub(super) fn intermediate_input(&mut self, pass: usize) {
        let (kernels, h) = (self.kernels, usize::from(self.model.config().hidden_size));
        let (residual, memory) = self.feed_forward(pass);
        quantize_residual(kernels, residual, memory.largest, h, memory.rows);
    }

    /// One tile of the intermediate layer and its activation.
    pub(super) fn intermediate(
        &mut self,
        layer: usize,
        pass: usize,
        index: usize,
        observer: &mut impl Observer,
    ) -> Result<(), Unreadable> {
        let (model, kernels) = (self.model, self.kernels);
        let linear = model.linear(SectionKind::Intermediate, layer, self.constants.layer.intermediate);
        let delta = delta_table(model.config().hidden_act);
        let f = usize::from(model.config().intermediate_size);
        let (_, tokens) = self.pass(pass);
        let (_, FeedForward { mut rows, group_scales, activations, .. }) = self.feed_forward(pass);
        let (rows, acc) = rows.split();
        let tile = linear.tiles.tile(0, index);
        let group = tile.channel / GROUP_SIZE;
        let first = group * GROUP_SIZE;
        let width = GROUP_SIZE.min(f.saturating_sub(first));
        let region = part_mut(activations, first * tokens, 2 * width * tokens);
        let wide: &mut [i16] = bytemuck::try_cast_slice_mut(region).unwrap_or_default();
        linear.tile(kernels, &rows, (0, index), &mut TileMemory { acc, groups: &mut [] }, |outputs| {
            let at = outputs.row * width + outputs.channel - first;
            let out = wide.get_mut(at..).unwrap_or_default();
            let Outputs { tile, requantizer, channels, multiplier, .. } = outputs;
            (kernels.activate_tile)(delta, tile, &requantizer, channels, multiplier, out, width);
        })?;
        if tile.channel + tile.channels >= first + width {
            for row in wide.chunks_exact(width.max(1)) {
                observer.row(Site::Activation { layer, channel: first }, row);
            }
            narrow(kernels, wide, width, part_mut(group_scales, group * tokens, tokens));
        }
        Ok(())
    }

    /// One tile of the output layer, added to the residual stream.
    pub(super) fn output(&mut self, layer: usize, pass: usize, index: usize) -> Result<(), Unreadable> {
        let (kernels, constants) = (self.kernels, self.constants.layer);
        let linear = self.model.linear(SectionKind::Output, layer, constants.output);
        let f = usize::from(self.model.config().intermediate_size);
        let (residual, FeedForward { rows, group_scales, activations, .. }) = self.feed_forward(pass);
        let tokens = rows.shifts.len();
        if index == 0 {
            normalize_scales(group_scales, rows.shifts);
        }
        let (values, free) = activations.split_at_mut_checked(tokens * f).unwrap_or_default();
        let input = QuantizedRows {
            values: bytemuck::cast_slice(values),
            scales: group_scales,
            shifts: rows.shifts,
            group_size: GROUP_SIZE,
        };
        // Behind the activations there is room for the sums of four tiles, because the last group was int16 first.
        let skip = free.as_ptr().align_offset(align_of::<i32>());
        let bytes = free.len().saturating_sub(skip) & !(size_of::<i32>() - 1);
        let groups = bytemuck::try_cast_slice_mut(part_mut(free, skip, bytes)).unwrap_or_default();
        let memory = &mut TileMemory { acc: rows.acc, groups };
        add_tile(kernels, &linear, &input, index, memory, residual)
    }
}

/// Quantises rows of int16 to int8 rows at the beginning of the same region. What is written never reaches a row that is still to be read,
/// nor the row it is made of, but for the first: that is copied out before.
fn narrow(kernels: &Kernels, wide: &mut [i16], width: usize, scales: &mut [i32]) {
    let region: &mut [u8] = bytemuck::cast_slice_mut(wide);
    for (index, scale) in scales.iter_mut().enumerate() {
        let (before, behind) = region.split_at_mut_checked(2 * width * index).unwrap_or_default();
        let row: &[i16] = bytemuck::try_cast_slice(part(behind, 0, 2 * width)).unwrap_or_default();
        let largest = (kernels.largest_i16)(row);
        if index > 0 {
            let out = bytemuck::cast_slice_mut(part_mut(before, width * index, width));
            *scale = (kernels.quantize_i16)(row, largest, out);
        } else {
            let mut out = [0; GROUP_SIZE];
            let out = out.get_mut(..width).unwrap_or_default();
            *scale = (kernels.quantize_i16)(row, largest, out);
            behind.iter_mut().zip(out).for_each(|(region, out)| *region = *out as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar::SCALAR;
    use crate::ops::quantize::{largest_i16, quantize_i16};

    #[test]
    fn narrowing_in_place_equals_quantising_apart() {
        const WIDTH: usize = 6;
        let wide: [i16; 4 * WIDTH] = core::array::from_fn(|i| (i as i16 * 977) % 501 - 200);
        let mut region = wide;
        let mut scales = [0; 4];
        narrow(&SCALAR, &mut region, WIDTH, &mut scales);
        for (i, row) in wide.chunks(WIDTH).enumerate() {
            let mut expected = [0; WIDTH];
            assert_eq!(quantize_i16(row, largest_i16(row), &mut expected), scales[i]);
            assert_eq!(bytemuck::cast_slice::<i16, i8>(&region)[i * WIDTH..][..WIDTH], expected);
        }
    }

    #[test]
    fn a_group_is_made_of_whole_tiles() {
        const { assert!(GROUP_SIZE.is_multiple_of(crate::format::layout::TILE_CHANNELS)) };
    }
}
