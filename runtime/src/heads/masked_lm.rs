//! The masked language model: transform, then one logit for every row of the word embeddings.
//!
//! The rows are streamed once, in order, and applied to all answered positions; logits go to a sink one by one and are
//! never kept. Source: `BertOnlyMLMHead` with tied decoder.

use crate::encoder::Encoded;
use crate::encoder::norm::norm;
use crate::encoder::schedule::{Progress, chunk_channels};
use crate::encoder::workspace::{Rows, Workspace, take};
use crate::error::{ForwardError, Head};
use crate::format::constants::Constants;
use crate::format::layout::TILE_CHANNELS;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::activation::delta_table;
use crate::ops::fixed_point::rounding_multiply_high;
use crate::ops::linear::{LinearShifts, Outputs, QuantizedRows, TileMemory};
use crate::storage::{Storage, Unreadable};
use crate::trace::{Observer, Site};

/// What a step of this head does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Input,
    Transform { tile: usize },
    Norm { chunk: usize },
    DecoderInput,
    Decoder { tile: usize },
}

/// Logits (16 fraction bits) of some positions of a sequence, for the whole vocabulary, step by step.
#[derive(Debug)]
pub struct MaskedLm<'e, S> {
    model: &'e Model<S>,
    kernels: &'static Kernels,
    residual: &'e [i16],
    arena: &'e mut [u8],
    positions: &'e [usize],
    constants: Constants,
    next: Option<Stage>,
    done: u32,
    failed: Option<Unreadable>,
}

/// Memory of this head, for C positions.
struct Memory<'w> {
    rows: Rows<'w>,
    /// `[C, H]`.
    transformed: &'w mut [i16],
    /// `[C, 16]`.
    logits: &'w mut [i32],
    /// The largest magnitude of each position behind the layer norm.
    largest: &'w mut [u16],
    /// What the layer norm keeps.
    kept: &'w mut [u8],
}

impl<'w> Memory<'w> {
    /// Divides the arena, always in the same way.
    fn in_arena(arena: &'w mut [u8], count: usize, h: usize) -> Self {
        let mut rest = arena;
        Self {
            rows: Rows::take(&mut rest, count, h),
            transformed: take(&mut rest, count * h),
            logits: take(&mut rest, count * TILE_CHANNELS),
            largest: take(&mut rest, count),
            kept: rest,
        }
    }
}

impl<S: Storage> Encoded<'_, S> {
    /// Begins the masked-LM head for some positions, in ascending order.
    ///
    /// # Errors
    ///
    /// If the model has no such head, a position does not lie after the one before it and inside the sequence, or the device fails.
    pub fn start_masked_lm<'e>(&'e mut self, positions: &'e [usize]) -> Result<MaskedLm<'e, S>, ForwardError> {
        MaskedLm::new(self, positions)
    }

    /// Logits of some positions, in ascending order: see [`MaskedLm::step`].
    ///
    /// # Errors
    ///
    /// See [`start_masked_lm`](Self::start_masked_lm).
    pub fn masked_lm(
        &mut self,
        positions: &[usize],
        observer: &mut impl Observer,
        sink: impl FnMut(u32, usize, i32),
    ) -> Result<(), ForwardError> {
        MaskedLm::new(self, positions)?.finish(observer, sink)
    }
}

impl<'e, S: Storage> MaskedLm<'e, S> {
    fn new(encoded: &'e mut Encoded<'_, S>, positions: &'e [usize]) -> Result<Self, ForwardError> {
        let Encoded { model, kernels, workspace } = encoded;
        if !model.manifest().heads.masked_lm {
            return Err(ForwardError::MissingHead(Head::MaskedLm));
        }
        let tokens = workspace.seq_len;
        let mut least = 0;
        for &position in positions {
            if position < least || position >= tokens {
                return Err(ForwardError::PositionOutOfRange { position, tokens });
            }
            least = position + 1;
        }
        let Workspace { residual, arena, .. } = workspace;
        Ok(Self {
            model: *model,
            kernels: *kernels,
            residual,
            arena,
            positions,
            constants: model.constants()?,
            next: (!positions.is_empty()).then_some(Stage::Input),
            done: 0,
            failed: None,
        })
    }

    fn hidden_size(&self) -> usize {
        usize::from(self.model.config().hidden_size).max(1)
    }

    fn chunk_channels(&self) -> usize {
        chunk_channels(self.hidden_size(), self.model.blob().window_bytes())
    }

    fn tiles(&self, kind: SectionKind) -> usize {
        self.model.tiles(kind, 0).count()
    }

    /// Steps done, and steps there are.
    pub fn progress(&self) -> Progress {
        let chunks = self.hidden_size().div_ceil(self.chunk_channels());
        let steps = 1 + self.tiles(SectionKind::Transform) + chunks + 1 + self.tiles(SectionKind::WordEmbeddings);
        Progress { done: self.done, total: if self.positions.is_empty() { 0 } else { steps as u32 } }
    }

    fn after(&self, stage: Stage) -> Option<Stage> {
        Some(match stage {
            Stage::Input => Stage::Transform { tile: 0 },
            Stage::Transform { tile } if tile + 1 < self.tiles(SectionKind::Transform) => {
                Stage::Transform { tile: tile + 1 }
            }
            Stage::Transform { .. } => Stage::Norm { chunk: 0 },
            Stage::Norm { chunk } if (chunk + 1) * self.chunk_channels() < self.hidden_size() => {
                Stage::Norm { chunk: chunk + 1 }
            }
            Stage::Norm { .. } => Stage::DecoderInput,
            Stage::DecoderInput => Stage::Decoder { tile: 0 },
            Stage::Decoder { tile } if tile + 1 < self.tiles(SectionKind::WordEmbeddings) => {
                Stage::Decoder { tile: tile + 1 }
            }
            Stage::Decoder { .. } => return None,
        })
    }

    /// Does one step; nothing when all are done. `sink` gets token id, index into the positions, and logit: ids in ascending order, for
    /// each id the positions in order.
    ///
    /// # Errors
    ///
    /// If the device fails, now or in an earlier step: the head has to be begun anew.
    pub fn step(
        &mut self,
        observer: &mut impl Observer,
        sink: impl FnMut(u32, usize, i32),
    ) -> Result<Progress, ForwardError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if let Some(stage) = self.next {
            self.run(stage, observer, sink).inspect_err(|&error| self.failed = Some(error))?;
            self.done += 1;
            self.next = self.after(stage);
        }
        Ok(self.progress())
    }

    /// Does all the steps that are left: see [`step`](Self::step).
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn finish(
        mut self,
        observer: &mut impl Observer,
        mut sink: impl FnMut(u32, usize, i32),
    ) -> Result<(), ForwardError> {
        while self.next.is_some() {
            self.step(observer, &mut sink)?;
        }
        Ok(())
    }

    /// Shows the observer what the positions become behind the transform's activation; the decoder is left out.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn finish_transform(mut self, observer: &mut impl Observer) -> Result<(), ForwardError> {
        while let Some(Stage::Input | Stage::Transform { .. }) = self.next {
            self.step(observer, |_, _, _| {})?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        stage: Stage,
        observer: &mut impl Observer,
        sink: impl FnMut(u32, usize, i32),
    ) -> Result<(), Unreadable> {
        let (model, kernels, h, count) = (self.model, self.kernels, self.hidden_size(), self.positions.len());
        let chunk_channels = self.chunk_channels();
        let Memory { mut rows, transformed, largest, kept, .. } = Memory::in_arena(self.arena, count, h);
        match stage {
            Stage::Input => {
                let (residual, positions) = (self.residual, self.positions);
                let row = |index: usize| residual.get(positions.get(index)? * h..)?.get(..h);
                model.quantize_smoothed(SectionKind::TransformInput, |index| row(index).unwrap_or_default(), rows)
            }
            Stage::Transform { tile } => {
                let linear = model.linear(SectionKind::Transform, 0, self.constants.transform);
                let (index, tile) = (tile, linear.tiles.tile(0, tile));
                let delta = delta_table(model.config().hidden_act);
                let (rows, acc) = rows.split();
                linear.tile(kernels, &rows, (0, index), &mut TileMemory { acc, groups: &mut [] }, |outputs| {
                    let at = outputs.row * h + outputs.channel;
                    let out = transformed.get_mut(at..).unwrap_or_default();
                    let Outputs { tile, requantizer, channels, multiplier, .. } = outputs;
                    (kernels.activate_tile)(delta, tile, &requantizer, channels, multiplier, out, h);
                })?;
                if tile.channel + tile.channels >= h {
                    transformed.chunks_exact(h).for_each(|row| observer.row(Site::Transform, row));
                }
                Ok(())
            }
            Stage::Norm { chunk } => {
                let section = (SectionKind::TransformLayerNorm, 0);
                norm(model, kernels, section, chunk, chunk_channels, transformed, largest, kept).map(|_| ())
            }
            Stage::DecoderInput => {
                let mut transformed = transformed.chunks_exact(h).zip(&*largest);
                rows.quantize(|_, out| {
                    let (row, &largest) = transformed.next().unwrap_or((&[], &0));
                    (kernels.quantize_i16)(row, largest.into(), out)
                });
                for scale in rows.scales {
                    *scale = rounding_multiply_high(*scale, self.constants.decoder_multiplier);
                }
                Ok(())
            }
            Stage::Decoder { tile } => self.decode(tile, sink, observer),
        }
    }

    /// Logits of the tokens of one tile.
    fn decode(
        &mut self,
        index: usize,
        mut sink: impl FnMut(u32, usize, i32),
        observer: &mut impl Observer,
    ) -> Result<(), Unreadable> {
        let (h, count) = (self.hidden_size(), self.positions.len());
        let Memory { rows, logits, .. } = Memory::in_arena(self.arena, count, h);
        let Constants { decoder_shift, decoder_exponent, .. } = self.constants;
        // Three high halves have divided by 2⁹⁶.
        let shifts = LinearShifts { accumulator: decoder_shift, output: 96 - decoder_shift as i32 - decoder_exponent };
        let words = self.model.linear(SectionKind::WordEmbeddings, 0, shifts);
        let input = QuantizedRows { values: rows.input, scales: rows.scales, shifts: rows.shifts, group_size: h };
        let memory = &mut TileMemory { acc: logits, groups: &mut [] };
        let kernels = self.kernels;
        words.tile(kernels, &input, (0, index), memory, |outputs| {
            let Outputs { channel: first, channels, .. } = outputs;
            let values = outputs.requantized(kernels);
            for (id, channel) in (first..).zip(0..channels) {
                for (position, row) in values.as_chunks::<TILE_CHANNELS>().0.iter().enumerate() {
                    let logit = row.get(channel).copied().unwrap_or(0);
                    observer.prediction_logit(logit);
                    sink(id as u32, position, logit);
                }
            }
        })
    }
}
