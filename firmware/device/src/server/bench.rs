//! What a sequence takes on this board.

use mbert_runtime::encoder::schedule::Progress;
use mbert_runtime::error::ForwardError;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::memory_bytes_in_passes;

use super::duty::{Duty, Line};
use super::questions::{Run, SHOWN_TOKENS};
use crate::protocol::messages::{Bench, DeviceError};

/// Counts the instructions of steps, and of none between them.
struct Steps<'d, 'l, L: Line> {
    instructions: &'d dyn Fn() -> u64,
    duty: &'d mut Duty<'l, L>,
    longest: u64,
}

impl<L: Line> Steps<'_, '_, L> {
    /// Takes all the steps there are; their instructions.
    fn take(&mut self, mut step: impl FnMut() -> Result<Progress, ForwardError>) -> Result<u64, DeviceError> {
        let mut sum = 0;
        loop {
            let begin = (self.instructions)();
            let progress = step()?;
            let taken = (self.instructions)() - begin;
            (sum, self.longest) = (sum + taken, self.longest.max(taken));
            self.duty.attend(progress)?;
            if progress.is_finished() {
                return Ok(sum);
            }
        }
    }
}

/// Runs a sequence of mask tokens through the encoder and every head.
///
/// # Errors
///
/// A sequence that is too long for the memory or the model.
pub fn bench<L: Line>(
    pipeline: Run<'_, '_, '_, '_>,
    model: &Model<&[u8]>,
    tokens: u16,
    instructions: &dyn Fn() -> u64,
    duty: &mut Duty<'_, L>,
) -> Result<Bench, DeviceError> {
    let too_long = ForwardError::SequenceTooLong { tokens: tokens.into(), max: SHOWN_TOKENS };
    let mut ids = heapless::Vec::<u32, SHOWN_TOKENS>::new();
    ids.resize(tokens.into(), model.manifest().tokenizer.mask_token_id).map_err(|_| too_long)?;
    pipeline.set_ids(&ids, [0; SHOWN_TOKENS].get(..ids.len()).unwrap_or_default())?;
    let mut steps = Steps { instructions, duty, longest: 0 };
    let mut forward = pipeline.start()?;
    let passes = forward.passes();
    let encoder_instructions = steps.take(|| forward.step(&mut ()))?;
    let mut encoded = forward.finish(&mut ())?;
    let heads = model.manifest().heads;
    let mut masked_lm_instructions = None;
    if heads.masked_lm {
        let mut head = encoded.start_masked_lm(&[0])?;
        masked_lm_instructions = Some(steps.take(|| head.step(&mut (), |_, _, _| {}))?);
    }
    let mut next_sentence_instructions = None;
    if heads.next_sentence {
        let mut head = encoded.start_pooler(true)?;
        next_sentence_instructions = Some(steps.take(|| head.step(&mut ()))?);
    }
    Ok(Bench {
        tokens,
        passes: passes as u16,
        encoder_instructions,
        masked_lm_instructions,
        next_sentence_instructions,
        longest_step_instructions: steps.longest,
        workspace_bytes: memory_bytes_in_passes(model.config(), tokens.into(), passes) as u32,
        stack_bytes: 0,
    })
}
