//! The encoder: token ids to hidden states, one [`step`](Forward::step) after another.

use crate::error::ForwardError;
use crate::format::constants::LayerConstants;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::linear::part_mut;
use crate::storage::{Storage, Unreadable};
use crate::trace::{Observer, Site};
use schedule::{Progress, Schedule, Stage};
use share::Share;
use workspace::Workspace;

mod attention;
mod batch;
pub mod embeddings;
mod feed_forward;
pub(crate) mod norm;
mod residual;
pub mod schedule;
mod share;
#[cfg(feature = "threads")]
pub mod threads;
pub mod workspace;

/// A forward pass at work: the residual stream of the last layer stays in the workspace.
///
/// Between two steps nothing is held but the borrows: a board can feed its watchdog, sleep, or drop it and start anew in the same
/// memory.
#[derive(Debug)]
pub struct Forward<'p, S> {
    model: &'p Model<S>,
    kernels: &'static Kernels,
    input_ids: &'p [u32],
    token_type_ids: &'p [u8],
    /// Of the tokens of its share.
    workspace: Workspace<'p>,
    share: Share,
    #[cfg(feature = "threads")]
    member: Option<threads::Member<'p>>,
    schedule: Schedule,
    next: Option<(usize, Stage)>,
    done: u32,
    failed: Option<Unreadable>,
    constants: Constants,
}

/// A sequence behind the encoder, ready for the [`heads`](crate::heads).
#[derive(Debug)]
pub struct Encoded<'p, S> {
    pub(crate) model: &'p Model<S>,
    pub(crate) kernels: &'static Kernels,
    pub(crate) workspace: Workspace<'p>,
}

impl<S> Encoded<'_, S> {
    /// The last hidden states, `[seq_len, hidden_size]`; one step is `2^−hidden_fraction_bits` of the last layer.
    pub fn last_hidden_state(&self) -> &[i16] {
        self.workspace.residual()
    }
}

/// Numbers that more than one step needs.
#[derive(Clone, Copy, Debug)]
struct Constants {
    word_multiplier: i32,
    layer: LayerConstants,
    /// How far the scales of the keys at work have been shifted left together.
    key_shift: u32,
}

impl<'p, S: Storage> Forward<'p, S> {
    /// Begins one sequence, without padding, in a workspace for its length.
    ///
    /// # Errors
    ///
    /// An empty or too long sequence, an id out of range, lengths that differ, a workspace of another length, or a device that fails.
    pub fn new(
        model: &'p Model<S>,
        kernels: &'static Kernels,
        input_ids: &'p [u32],
        token_type_ids: &'p [u8],
        workspace: Workspace<'p>,
    ) -> Result<Self, ForwardError> {
        check(model, input_ids, token_type_ids, &workspace)?;
        let whole = Share::whole(model.config(), input_ids.len());
        Self::begin(model, kernels, input_ids, token_type_ids, workspace, whole)
    }

    /// Begins one share of a sequence that has been checked.
    fn begin(
        model: &'p Model<S>,
        kernels: &'static Kernels,
        input_ids: &'p [u32],
        token_type_ids: &'p [u8],
        workspace: Workspace<'p>,
        share: Share,
    ) -> Result<Self, ForwardError> {
        let schedule = Schedule::new(model.config(), share, workspace.pass_tokens(), model.blob().window_bytes());
        let constants = Constants {
            word_multiplier: model.constants()?.embedding_multiplier,
            layer: LayerConstants::default(),
            key_shift: 0,
        };
        let next = Some((0, Stage::Embeddings { position: 0 }));
        Ok(Self {
            model,
            kernels,
            input_ids,
            token_type_ids,
            workspace,
            share,
            #[cfg(feature = "threads")]
            member: None,
            schedule,
            next,
            done: 0,
            failed: None,
            constants,
        })
    }

    /// Steps done, and steps there are.
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.schedule.steps() }
    }

    /// The encoder layer and the stage of the next step; `None` when all is done.
    pub fn next_stage(&self) -> Option<(usize, Stage)> {
        self.next
    }

    /// Passes over the weights of the feed-forward blocks, 1 unless memory is scarce.
    pub fn passes(&self) -> usize {
        self.workspace.pass_count()
    }

    /// Does one step; nothing when all are done.
    ///
    /// # Errors
    ///
    /// If the device fails, now or in an earlier step: the pass has to be begun anew.
    pub fn step(&mut self, observer: &mut impl Observer) -> Result<Progress, ForwardError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if let Some((layer, stage)) = self.next {
            self.run(layer, stage, observer).inspect_err(|&error| self.failed = Some(error))?;
            self.done += 1;
            self.next = self.schedule.after(layer, stage);
        }
        Ok(self.progress())
    }

    /// Does all the steps that are left; the sequence is ready for the heads then.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn finish(mut self, observer: &mut impl Observer) -> Result<Encoded<'p, S>, ForwardError> {
        while self.next.is_some() {
            self.step(observer)?;
        }
        Ok(Encoded { model: self.model, kernels: self.kernels, workspace: self.workspace })
    }

    fn run(&mut self, layer: usize, stage: Stage, observer: &mut impl Observer) -> Result<(), Unreadable> {
        match stage {
            Stage::Embeddings { position } => self.embeddings(position),
            Stage::EmbeddingsNorm { chunk } => {
                let sites = (None, Site::Hidden { layer: 0 });
                self.norm((SectionKind::EmbeddingsLayerNorm, 0), (0, self.workspace.seq_len), chunk, sites, observer)
            }
            Stage::QkvInput => self.qkv_input(layer),
            Stage::Qkv { head, part, tile } => self.qkv(layer, head, part, tile),
            Stage::Attention { head, query } => {
                self.attend(head, query);
                Ok(())
            }
            Stage::Context => self.context(layer, observer),
            Stage::AttentionOutput { tile } => self.attention_output(layer, tile),
            Stage::AttentionNorm { chunk } => {
                let sites = (Some(Site::AttentionSum { layer }), Site::AttentionHidden { layer });
                let tokens = (0, self.workspace.seq_len);
                self.norm((SectionKind::AttentionLayerNorm, layer), tokens, chunk, sites, observer)
            }
            Stage::IntermediateInput { pass } => {
                self.intermediate_input(pass);
                Ok(())
            }
            Stage::Intermediate { pass, tile } => self.intermediate(layer, pass, tile, observer),
            Stage::Output { pass, tile } => self.output(layer, pass, tile),
            Stage::OutputNorm { pass, chunk } => {
                let sites = (Some(Site::OutputSum { layer }), Site::Hidden { layer: layer + 1 });
                self.norm((SectionKind::OutputLayerNorm, layer), self.pass(pass), chunk, sites, observer)
            }
        }
    }

    fn embeddings(&mut self, position: usize) -> Result<(), Unreadable> {
        let h = usize::from(self.model.config().hidden_size);
        let row = self.workspace.residual.chunks_exact_mut(h.max(1)).nth(position);
        let position = self.share.first_token + position;
        let ids = self.input_ids.get(position).zip(self.token_type_ids.get(position));
        let (Some((&id, &token_type)), Some(row)) = (ids, row) else { return Ok(()) };
        embeddings::embeddings(self.model, self.constants.word_multiplier, (position, id, token_type), row)
    }

    /// Some channels of a layer norm of `(first, count)` tokens.
    fn norm(
        &mut self,
        section: (SectionKind, usize),
        (first, tokens): (usize, usize),
        chunk: usize,
        (sum_site, norm_site): (Option<Site>, Site),
        observer: &mut impl Observer,
    ) -> Result<(), Unreadable> {
        let h = usize::from(self.model.config().hidden_size).max(1);
        let Workspace { residual, largest, arena, .. } = &mut self.workspace;
        let (rows, largest) = (part_mut(residual, first * h, tokens * h), part_mut(largest, first, tokens));
        if let (0, Some(site)) = (chunk, sum_site) {
            rows.chunks_exact(h).for_each(|row| observer.row(site, row));
        }
        let channels = self.schedule.chunk_channels;
        if norm::norm(self.model, self.kernels, section, chunk, channels, rows, largest, arena)? {
            rows.chunks_exact(h).for_each(|row| observer.row(norm_site, row));
        }
        Ok(())
    }
}

/// Checks a sequence against the model and its workspace.
fn check<S: Storage>(
    model: &Model<S>,
    input_ids: &[u32],
    token_type_ids: &[u8],
    workspace: &Workspace<'_>,
) -> Result<(), ForwardError> {
    let config = model.config();
    let (tokens, max) = (input_ids.len(), usize::from(config.max_position_embeddings));
    if tokens == 0 {
        return Err(ForwardError::EmptySequence);
    }
    if tokens > max {
        return Err(ForwardError::SequenceTooLong { tokens, max });
    }
    if token_type_ids.len() != tokens {
        return Err(ForwardError::LengthMismatch { input_ids: tokens, token_type_ids: token_type_ids.len() });
    }
    let vocab_size = config.vocab_size;
    if let Some((position, &id)) = input_ids.iter().enumerate().find(|&(_, &id)| id >= vocab_size) {
        return Err(ForwardError::TokenOutOfRange { position, id, vocab_size });
    }
    let type_vocab_size = config.type_vocab_size;
    if let Some((position, &id)) = token_type_ids.iter().enumerate().find(|&(_, &id)| id >= type_vocab_size) {
        return Err(ForwardError::TokenTypeOutOfRange { position, id, type_vocab_size });
    }
    if workspace.seq_len != tokens {
        return Err(ForwardError::WorkspaceTooSmall {
            needed_bytes: Workspace::bytes(config, tokens),
            given_bytes: Workspace::bytes(config, workspace.seq_len),
        });
    }
    Ok(())
}
