//! The pooler: the first token through a linear layer and tanh. Next sentence: what is pooled through a linear layer of two.
//!
//! Source: `BertPooler`, `BertOnlyNSPHead`.

use crate::encoder::Encoded;
use crate::encoder::schedule::Progress;
use crate::encoder::workspace::{Rows, Workspace, take};
use crate::error::{ForwardError, Head};
use crate::format::constants::Constants;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::activation::tanh;
use crate::ops::linear::TileMemory;
use crate::storage::{Storage, Unreadable};
use crate::trace::Observer;

/// Fraction bits of the pooled output.
pub const POOLED_FRACTION_BITS: i32 = 15;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Input,
    Pooler { tile: usize },
    SeqRelationship,
}

/// Pooled output and next-sentence logits of a sequence, step by step.
#[derive(Debug)]
pub struct Pooler<'e, S> {
    model: &'e Model<S>,
    kernels: &'static Kernels,
    residual: &'e [i16],
    arena: &'e mut [u8],
    constants: Constants,
    with_next_sentence: bool,
    logits: [i32; 2],
    next: Option<Stage>,
    done: u32,
    failed: Option<Unreadable>,
}

/// Divides the arena, always in the same way: one row, and what it becomes.
fn in_arena(arena: &mut [u8], h: usize) -> (Rows<'_>, &mut [i16]) {
    let mut rest = arena;
    (Rows::take(&mut rest, 1, h), take(&mut rest, h))
}

impl<S: Storage> Encoded<'_, S> {
    /// Begins the pooler, and behind it the next-sentence head if that is wanted.
    ///
    /// # Errors
    ///
    /// If the model has no such head, or the device fails.
    pub fn start_pooler(&mut self, with_next_sentence: bool) -> Result<Pooler<'_, S>, ForwardError> {
        Pooler::new(self, with_next_sentence)
    }

    /// The pooled output: `[H]`, int16, 15 fraction bits.
    ///
    /// # Errors
    ///
    /// If the model has no pooler, or the device fails.
    pub fn pooled(&mut self) -> Result<&[i16], ForwardError> {
        Ok(Pooler::new(self, false)?.finish(&mut ())?.0)
    }

    /// The logits "sentence B follows A" and "it does not", 16 fraction bits.
    ///
    /// # Errors
    ///
    /// If the model has no such head, or the device fails.
    pub fn next_sentence(&mut self, observer: &mut impl Observer) -> Result<[i32; 2], ForwardError> {
        Ok(Pooler::new(self, true)?.finish(observer)?.1)
    }
}

impl<'e, S: Storage> Pooler<'e, S> {
    fn new(encoded: &'e mut Encoded<'_, S>, with_next_sentence: bool) -> Result<Self, ForwardError> {
        let Encoded { model, kernels, workspace } = encoded;
        let heads = &model.manifest().heads;
        if with_next_sentence && !heads.next_sentence {
            return Err(ForwardError::MissingHead(Head::NextSentence));
        }
        if !heads.pooler {
            return Err(ForwardError::MissingHead(Head::Pooler));
        }
        let Workspace { residual, arena, .. } = workspace;
        Ok(Self {
            model: *model,
            kernels: *kernels,
            residual,
            arena,
            constants: model.constants()?,
            with_next_sentence,
            logits: [0; 2],
            next: Some(Stage::Input),
            done: 0,
            failed: None,
        })
    }

    /// Steps done, and steps there are.
    pub fn progress(&self) -> Progress {
        let tiles = self.model.tiles(SectionKind::Pooler, 0).count() as u32;
        Progress { done: self.done, total: 1 + tiles + u32::from(self.with_next_sentence) }
    }

    /// Does one step; nothing when all are done.
    ///
    /// # Errors
    ///
    /// If the device fails, now or in an earlier step: the head has to be begun anew.
    pub fn step(&mut self, observer: &mut impl Observer) -> Result<Progress, ForwardError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if let Some(stage) = self.next {
            self.run(stage, observer).inspect_err(|&error| self.failed = Some(error))?;
            self.done += 1;
            let tiles = self.model.tiles(SectionKind::Pooler, 0).count();
            self.next = match stage {
                Stage::Input => Some(Stage::Pooler { tile: 0 }),
                Stage::Pooler { tile } if tile + 1 < tiles => Some(Stage::Pooler { tile: tile + 1 }),
                Stage::Pooler { .. } if self.with_next_sentence => Some(Stage::SeqRelationship),
                Stage::Pooler { .. } | Stage::SeqRelationship => None,
            };
        }
        Ok(self.progress())
    }

    /// Does all the steps that are left; returns the pooled output, `[H]`, int16, 15 fraction bits, and the logits (16 fraction bits) that
    /// sentence B follows A and that it does not, 0 where they are not wanted.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn finish(mut self, observer: &mut impl Observer) -> Result<(&'e [i16], [i32; 2]), ForwardError> {
        while self.next.is_some() {
            self.step(observer)?;
        }
        let (_, pooled) = in_arena(self.arena, self.model.config().hidden_size.into());
        Ok((pooled, self.logits))
    }

    fn run(&mut self, stage: Stage, observer: &mut impl Observer) -> Result<(), Unreadable> {
        let (model, kernels) = (self.model, self.kernels);
        let h = usize::from(model.config().hidden_size);
        let (mut rows, pooled) = in_arena(self.arena, h);
        match stage {
            Stage::Input => {
                let first = self.residual.get(..h).unwrap_or_default();
                model.quantize_smoothed(SectionKind::PoolerInput, |_| first, rows)
            }
            Stage::Pooler { tile } => {
                let linear = model.linear(SectionKind::Pooler, 0, self.constants.pooler);
                let (rows, acc) = rows.split();
                linear.tile(kernels, &rows, (0, tile), &mut TileMemory { acc, groups: &mut [] }, |outputs| {
                    let pooled = pooled.iter_mut().skip(outputs.channel).take(outputs.channels);
                    pooled.zip(outputs.requantized(kernels)).for_each(|(pooled, &out)| *pooled = tanh(out));
                })
            }
            Stage::SeqRelationship => {
                rows.quantize(|_, out| (kernels.quantize_i16)(pooled, (kernels.largest_i16)(pooled), out));
                let linear = model.linear(SectionKind::SeqRelationship, 0, self.constants.seq_relationship);
                let (rows, acc) = rows.split();
                let logits = &mut self.logits;
                linear.tile(kernels, &rows, (0, 0), &mut TileMemory { acc, groups: &mut [] }, |outputs| {
                    let logits = logits.iter_mut().skip(outputs.channel).take(outputs.channels);
                    logits.zip(outputs.requantized(kernels)).for_each(|(logit, &out)| *logit = out);
                })?;
                self.logits.iter().for_each(|&logit| observer.seq_relationship_logit(logit));
                Ok(())
            }
        }
    }
}
