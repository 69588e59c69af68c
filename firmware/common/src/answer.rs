//! The three questions. Each is answered twice: once undisturbed, which is what is measured, and once with a [`TraceHash`] over
//! every layer, which is what must equal the host's.

use core::fmt::Write;
use core::mem::discriminant;

use defmt::{debug, info};
use mbert_runtime::encoder::Encoded;
use mbert_runtime::encoder::schedule::Progress;
use mbert_runtime::error::ForwardError;
use mbert_runtime::model::Model;
use mbert_runtime::ops::log_sum_exp::LOGIT_FRACTION_BITS;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline};
use mbert_runtime::storage::Storage;
use mbert_runtime::tokenizer::{CleanUp, TokenizerError};
use mbert_runtime::trace::TraceHash;
use static_cell::StaticCell;

use crate::counter::InstructionCounter;
use crate::error::Failure;
use crate::memory::stack_bytes;
use crate::print::{Fixed, Hex, Width};
use crate::semihosting::Console;

/// Tokens named for each mask.
const TOP_K: usize = 5;
/// Masks in one text.
const MASKS: usize = 4;
/// The longest sequence that is printed with its answer filled in: BERT's own limit where RAM allows.
const SHOWN_TOKENS: usize = if cfg!(feature = "sd-card") { 64 } else { 512 };
/// Values of the first token that are printed.
const SHOWN_FEATURES: usize = 8;

/// Runs questions on the model, and says what they take.
pub struct Runner<'m, 'w, S> {
    /// The model.
    pub model: &'m Model<S>,
    /// The model with its memory.
    pub pipeline: Pipeline<'m, 'w, S>,
    /// Counts instructions.
    pub counter: &'static dyn InstructionCounter,
    /// Bytes of the model read so far, where that is counted.
    pub bytes_read: &'m dyn Fn() -> u64,
    /// Where answers go.
    pub out: Console,
}

/// What [`fill_mask`] keeps until it is printed: too large for the stack of a small board.
pub struct Room {
    answers: [MaskAnswer<TOP_K>; MASKS],
    filled: [u32; SHOWN_TOKENS],
}

impl Room {
    /// The one that stays. What is made on the stack first is gone from there before anything is answered.
    ///
    /// # Panics
    ///
    /// If it is called twice.
    #[inline(never)]
    pub fn lasting() -> &'static mut Self {
        static ROOM: StaticCell<Room> = StaticCell::new();
        ROOM.init_with(|| Self { answers: Default::default(), filled: [0; SHOWN_TOKENS] })
    }
}

/// What the undisturbed answer took.
pub struct Cost {
    /// Length of the sequence.
    pub tokens: usize,
    /// From text to answer, tokenizer included.
    pub instructions: u64,
    /// The deepest stack since the start, verification of the model included.
    pub stack_bytes: usize,
    /// Bytes of the model that were read, where that is counted.
    pub model_bytes_read: u64,
    /// Passes over the weights of the feed-forward blocks.
    pub passes: usize,
    /// Instructions of the longest step: between two, a watchdog can be fed.
    pub longest_step: u64,
}

/// Takes all the steps of a forward pass or a head, and remembers the longest.
struct Steps {
    counter: &'static dyn InstructionCounter,
    longest: u64,
}

impl Steps {
    fn take(&mut self, mut step: impl FnMut() -> Result<Progress, ForwardError>) -> Result<(), Failure> {
        loop {
            let begin = self.counter.instructions();
            let progress = step()?;
            self.longest = self.longest.max(self.counter.instructions() - begin);
            if progress.is_finished() {
                return Ok(());
            }
        }
    }
}

impl<'m, 'w, S: Storage> Runner<'m, 'w, S> {
    fn measure<T>(
        &mut self,
        answer: impl FnOnce(&mut Pipeline<'m, 'w, S>, &mut Steps) -> Result<T, Failure>,
    ) -> Result<(T, Cost), Failure> {
        let mut steps = Steps { counter: self.counter, longest: 0 };
        let (begin, read) = (self.counter.instructions(), (self.bytes_read)());
        let answer = answer(&mut self.pipeline, &mut steps)?;
        let instructions = self.counter.instructions() - begin;
        let model_bytes_read = (self.bytes_read)() - read;
        let passes = self.pipeline.start()?.passes();
        let ids = self.pipeline.input_ids();
        let tokens = ids.len();
        debug!("token ids {=[?]}", ids);
        info!("answered: {=usize} tokens, {=u64} instructions", tokens, instructions);
        let (stack_bytes, longest_step) = (stack_bytes(), steps.longest);
        Ok((answer, Cost { tokens, instructions, stack_bytes, model_bytes_read, passes, longest_step }))
    }

    fn print_trace(&mut self, trace: TraceHash) -> Result<(), Failure> {
        Ok(writeln!(self.out, "trace {}", Hex(&trace.finish()))?)
    }
}

/// The sequence at hand through the encoder, undisturbed.
// Each way through the encoder has its own part of the stack, and only while it is taken.
#[inline(never)]
fn encoded<'p, S: Storage>(
    pipeline: &'p mut Pipeline<'_, '_, S>,
    steps: &mut Steps,
) -> Result<Encoded<'p, S>, Failure> {
    let mut forward = pipeline.start()?;
    steps.take(|| forward.step(&mut ()))?;
    Ok(forward.finish(&mut ())?)
}

/// The same, with each stage in the log.
#[inline(never)]
fn forward<'p, S: Storage>(
    pipeline: &'p mut Pipeline<'_, '_, S>,
    trace: &mut TraceHash,
) -> Result<Encoded<'p, S>, Failure> {
    let mut forward = pipeline.start()?;
    let mut logged = None;
    while let Some((layer, stage)) = forward.next_stage() {
        let kind = Some((layer, discriminant(&stage)));
        if kind != logged {
            debug!("layer {=usize}: {}", layer, stage);
            logged = kind;
        }
        forward.step(trace)?;
    }
    Ok(forward.finish(trace)?)
}

/// The masked-LM head, undisturbed.
#[inline(never)]
fn take_masked_lm<S: Storage>(
    encoded: &mut Encoded<'_, S>,
    positions: &[usize],
    answers: &mut [MaskAnswer<TOP_K>],
    steps: &mut Steps,
) -> Result<(), Failure> {
    let mut head = encoded.start_masked_lm(positions)?;
    steps.take(|| head.step(&mut (), |id, index, logit| answers[index].add(id, logit)))
}

/// The same, with each logit in the trace.
#[inline(never)]
fn trace_masked_lm<S: Storage>(
    encoded: &mut Encoded<'_, S>,
    positions: &[usize],
    trace: &mut TraceHash,
) -> Result<(), Failure> {
    Ok(encoded.masked_lm(positions, trace, |_, _, _| {})?)
}

/// The best tokens for each mask, in the words of `mbert fill-mask`.
#[inline(never)]
pub fn fill_mask<S: Storage>(runner: &mut Runner<'_, '_, S>, room: &mut Room, text: &str) -> Result<Cost, Failure> {
    let Room { answers, filled } = room;
    let mut positions = [0; MASKS];
    let (masks, cost) = runner.measure(|pipeline, steps| {
        pipeline.encode(text, None)?;
        let masks = pipeline.mask_positions(&mut positions)?;
        answers.iter_mut().zip(positions).for_each(|(answer, position)| *answer = MaskAnswer::at(position));
        let mut encoded = encoded(pipeline, steps)?;
        take_masked_lm(&mut encoded, &positions[..masks], answers, steps)?;
        Ok(masks)
    })?;
    print_answers(runner, &answers[..masks], filled)?;

    let mut trace = TraceHash::default();
    runner.pipeline.encode(text, None)?;
    let mut encoded = forward(&mut runner.pipeline, &mut trace)?;
    trace_masked_lm(&mut encoded, &positions[..masks], &mut trace)?;
    if runner.model.manifest().heads.next_sentence {
        encoded.next_sentence(&mut trace)?;
    }
    runner.print_trace(trace)?;
    Ok(cost)
}

#[inline(never)]
fn print_answers<S: Storage>(
    runner: &mut Runner<'_, '_, S>,
    answers: &[MaskAnswer<TOP_K>],
    filled: &mut [u32; SHOWN_TOKENS],
) -> Result<(), Failure> {
    let (out, tokenizer) = (&mut runner.out, runner.model.tokenizer());
    let width = |id: u32| -> Result<usize, TokenizerError> {
        let mut width = Width::default();
        tokenizer.decode(&[id], false, CleanUp::Tokens, &mut width)?;
        Ok(width.0)
    };
    let ids = runner.pipeline.input_ids();
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let mut column = 0;
        for best in answer.best() {
            column = column.max(width(best.id)?);
        }
        for &best in answer.best() {
            let score = Fixed { value: answer.probability(best).q31().into(), fraction_bits: 31 };
            write!(out, "  {score}  ")?;
            tokenizer.decode(&[best.id], false, CleanUp::Tokens, out)?;
            if let Some(filled) = filled.get_mut(..ids.len()) {
                write!(out, "{:1$}", "", column - width(best.id)? + 2)?;
                filled.copy_from_slice(ids);
                filled[answer.position()] = best.id;
                tokenizer.decode(filled, answers.len() == 1, CleanUp::Tokens, out)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Whether the second text follows the first.
#[inline(never)]
pub fn next_sentence<S: Storage>(runner: &mut Runner<'_, '_, S>, text: &str, pair: &str) -> Result<Cost, Failure> {
    let ([is_next, is_not_next], cost) = runner.measure(|pipeline, steps| {
        pipeline.encode(text, Some(pair))?;
        let mut encoded = encoded(pipeline, steps)?;
        let mut head = encoded.start_pooler(true)?;
        steps.take(|| head.step(&mut ()))?;
        Ok(head.finish(&mut ())?.1)
    })?;
    let verdict = if is_next > is_not_next { "follows" } else { "does not follow" };
    let logit = |value: i32| Fixed { value: value.into(), fraction_bits: LOGIT_FRACTION_BITS };
    writeln!(runner.out, "the second text {verdict} (logits {} {})", logit(is_next), logit(is_not_next))?;

    let mut trace = TraceHash::default();
    runner.pipeline.encode(text, Some(pair))?;
    forward(&mut runner.pipeline, &mut trace)?.next_sentence(&mut trace)?;
    runner.print_trace(trace)?;
    Ok(cost)
}

/// The last hidden states, of which the beginning is shown.
#[inline(never)]
pub fn features<S: Storage>(runner: &mut Runner<'_, '_, S>, text: &str) -> Result<Cost, Failure> {
    let ((), cost) = runner.measure(|pipeline, steps| {
        pipeline.encode(text, None)?;
        encoded(pipeline, steps)?;
        Ok(())
    })?;
    let config = &runner.model.manifest().config;
    let fraction_bits = runner.model.hidden_fraction_bits(config.num_hidden_layers.into())?;
    let mut trace = TraceHash::default();
    runner.pipeline.encode(text, None)?;
    let encoded = forward(&mut runner.pipeline, &mut trace)?;
    write!(runner.out, "{} × {} features, [CLS] begins with", cost.tokens, config.hidden_size)?;
    for &value in encoded.last_hidden_state().iter().take(SHOWN_FEATURES) {
        // A layer norm may have steps coarser than 1.
        let value = i64::from(value) << fraction_bits.min(0).unsigned_abs();
        write!(runner.out, " {}", Fixed { value, fraction_bits: fraction_bits.max(0) as u32 })?;
    }
    writeln!(runner.out)?;
    runner.print_trace(trace)?;
    Ok(cost)
}
