//! Instructions of an answer, step by step: from these `firmware/measure-rates` learns what `mbert plan` tells.

use core::fmt::Write;

use mbert_runtime::format::layout::TILE_CHANNELS;
use mbert_runtime::pipeline::MaskAnswer;
use mbert_runtime::storage::Storage;

use crate::answer::Runner;
use crate::counter::InstructionCounter;
use crate::error::Failure;

/// Kinds of steps.
const PARTS: usize = 20;
/// Masks in one text, and tokens named for each.
const MASKS: usize = 4;
const TOP_K: usize = 5;

/// Steps of one kind.
#[derive(Clone, Copy, Default)]
struct Part {
    name: &'static str,
    steps: u32,
    instructions: u64,
    longest: u64,
}

/// What has been measured so far.
struct Profile {
    counter: &'static dyn InstructionCounter,
    parts: [Part; PARTS],
}

impl Profile {
    fn measure<T, E>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        let begin = self.counter.instructions();
        let result = work()?;
        let instructions = self.counter.instructions() - begin;
        let part = self.parts.iter_mut().find(|part| part.name == name || part.name.is_empty());
        if let Some(part) = part {
            let Part { steps, instructions: sum, longest, .. } = *part;
            *part =
                Part { name, steps: steps + 1, instructions: sum + instructions, longest: longest.max(instructions) };
        }
        Ok(result)
    }
}

/// Verifies the model and answers a text with every head it has, and prints what each kind of step has taken.
pub fn profile<S: Storage>(runner: &mut Runner<'_, '_, S>, text: &str) -> Result<(), Failure> {
    let Runner { model, pipeline, counter, out, .. } = runner;
    let mut profile = Profile { counter: *counter, parts: Default::default() };
    profile.measure("verification", || model.verify())?;
    let tokens = profile.measure("tokenizer", || pipeline.encode(text, None).map(<[u32]>::len))?;
    let mut positions = [0; MASKS];
    let masks = pipeline.mask_positions(&mut positions)?;

    let mut forward = pipeline.start()?;
    while let Some((_, stage)) = forward.next_stage() {
        profile.measure(stage.name(), || forward.step(&mut ()))?;
    }
    let mut encoded = forward.finish(&mut ())?;

    let mut answers = positions.map(MaskAnswer::<TOP_K>::at);
    let mut head = encoded.start_masked_lm(positions.get(..masks).unwrap_or_default())?;
    // The last steps are those over the vocabulary.
    let decoder = (model.config().vocab_size as usize).div_ceil(TILE_CHANNELS) as u32;
    loop {
        let progress = head.progress();
        if progress.is_finished() {
            break;
        }
        let name = if progress.done + decoder < progress.total { "transform" } else { "decoder" };
        profile.measure(name, || {
            head.step(&mut (), |id, index, logit| {
                answers.iter_mut().skip(index).take(1).for_each(|answer| answer.add(id, logit));
            })
        })?;
    }
    if model.manifest().heads.next_sentence {
        let mut head = encoded.start_pooler(true)?;
        while !head.progress().is_finished() {
            profile.measure("pooler", || head.step(&mut ()))?;
        }
    }
    writeln!(out, "tokens {tokens}")?;
    writeln!(out, "masks {masks}")?;
    for Part { name, steps, instructions, longest } in profile.parts.iter().filter(|part| part.steps > 0) {
        writeln!(out, "part {name} steps {steps} instructions {instructions} longest {longest}")?;
    }
    Ok(())
}
