//! The residual stream: the units of its channels, and how it is quantised and added to.

use super::workspace::Rows;
use crate::format::layout::TILE_CHANNELS;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::linear::{Linear, Outputs, QuantizedRows, TileMemory};
use crate::ops::quantize::quantize_smoothed;
use crate::storage::{Storage, Unreadable};

impl<S: Storage> Model<S> {
    /// Fraction bits of the residual stream after a layer, 0 = embeddings: of the last hidden states as they are, of those before when
    /// each channel has been multiplied by [its multiplier](Self::hidden_multipliers).
    ///
    /// # Errors
    ///
    /// If the device fails, or the model has fewer layers.
    pub fn hidden_fraction_bits(&self, layer: usize) -> Result<i32, Unreadable> {
        let norm = match layer.checked_sub(1) {
            None => self.layer_norm(SectionKind::EmbeddingsLayerNorm, 0),
            Some(layer) => self.layer_norm(SectionKind::OutputLayerNorm, layer),
        };
        norm.map(|norm| norm.fraction_bits)
    }

    /// The multipliers of the channels of the residual stream after a layer, 0 = embeddings, into `out`, `[hidden_size]`: below 2¹⁵ for a model
    /// that was converted, and 1 behind the last layer. See [`add_residual`](crate::ops::requantize::add_residual).
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn hidden_multipliers(&self, layer: usize, out: &mut [i32]) -> Result<(), Unreadable> {
        out.fill(1);
        if layer >= usize::from(self.config().num_hidden_layers) {
            return Ok(());
        }
        let tiles = self.tiles(SectionKind::AttentionOutput, layer);
        for (index, out) in out.chunks_mut(TILE_CHANNELS).enumerate().take(tiles.count()) {
            let tile = tiles.tile(0, index);
            self.values(tile.offset, tile.channels, |parameters: &[[i32; 3]]| {
                out.iter_mut().zip(parameters).for_each(|(out, &[_, _, multiplier])| *out = multiplier);
            })?;
        }
        Ok(())
    }

    /// Quantises rows of the last hidden states for a head, through its smoothing multipliers.
    pub(crate) fn quantize_smoothed<'r>(
        &self,
        kind: SectionKind,
        mut hidden: impl FnMut(usize) -> &'r [i16],
        mut rows: Rows<'_>,
    ) -> Result<(), Unreadable> {
        let h = usize::from(self.config().hidden_size);
        self.values(self.offset(kind, 0), h, |smoothing: &[i16]| {
            rows.quantize(|index, out| quantize_smoothed(hidden(index), smoothing, out));
        })
    }
}

/// Quantises rows of the residual stream, of which the largest magnitudes are known.
pub(super) fn quantize_residual(kernels: &Kernels, residual: &[i16], largest: &[u16], h: usize, mut rows: Rows<'_>) {
    let mut residual = residual.chunks_exact(h.max(1)).zip(largest);
    rows.quantize(|_, out| {
        let (row, &largest) = residual.next().unwrap_or((&[], &0));
        (kernels.quantize_i16)(row, largest.into(), out)
    });
}

/// One tile of a linear layer, added to the residual stream: see [`add_residual`](crate::ops::requantize::add_residual).
pub(super) fn add_tile<S: Storage>(
    kernels: &Kernels,
    linear: &Linear<S>,
    rows: &QuantizedRows<'_>,
    index: usize,
    memory: &mut TileMemory<'_>,
    residual: &mut [i16],
) -> Result<(), Unreadable> {
    let h = linear.tiles.channels;
    linear.tile(kernels, rows, (0, index), memory, |outputs| {
        let at = outputs.row * h + outputs.channel;
        let residual = residual.get_mut(at..).unwrap_or_default();
        let Outputs { tile, requantizer, channels, multiplier, .. } = outputs;
        (kernels.add_residual)(tile, &requantizer, channels, multiplier, residual, h);
    })
}
