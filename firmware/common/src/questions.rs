//! Questions that have no answer: each is refused with its error, and the next one is answered as if nothing had been.

use core::fmt::Write;

use defmt::debug;
use mbert_runtime::error::ForwardError;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline, PipelineError};
use mbert_runtime::storage::Storage;
use mbert_runtime::tokenizer::TokenizerError;
use mbert_runtime::trace::TraceHash;

use crate::answer::Runner;
use crate::error::Failure;

/// The hash of a short sequence through the encoder and every head.
pub fn answer<S: Storage>(pipeline: &mut Pipeline<'_, '_, S>) -> Result<[u8; 32], Failure> {
    let mut trace = TraceHash::default();
    pipeline.set_ids(&[2, 4, 57, 3], &[0; 4])?;
    let mut encoded = pipeline.forward(&mut trace)?;
    match encoded.masked_lm(&[1], &mut trace, |_, _, _| {}) {
        Ok(()) | Err(ForwardError::MissingHead(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match encoded.next_sentence(&mut trace) {
        Ok(_) | Err(ForwardError::MissingHead(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(trace.finish())
}

fn fill_mask<S: Storage>(pipeline: &mut Pipeline<'_, '_, S>, text: &str) -> Result<(), Failure> {
    let mut answers: [MaskAnswer<1>; 1] = Default::default();
    pipeline.fill_mask(text, &mut answers)?;
    Ok(())
}

fn forward<S: Storage>(
    pipeline: &mut Pipeline<'_, '_, S>,
    input_ids: &[u32],
    token_type_ids: &[u8],
) -> Result<(), Failure> {
    pipeline.set_ids(input_ids, token_type_ids)?;
    pipeline.forward(&mut ())?;
    Ok(())
}

/// More words than any model reads tokens.
fn many_words() -> &'static str {
    static WORDS: [[u8; 2]; 5000] = [*b"a "; 5000];
    core::str::from_utf8(WORDS.as_flattened()).unwrap_or_default()
}

/// What is asked, how, and with which error it must be refused.
type Question<S> =
    (&'static str, fn(&Model<S>, &mut Pipeline<'_, '_, S>) -> Result<(), Failure>, fn(PipelineError) -> bool);

fn questions<S: Storage>() -> [Question<S>; 12] {
    [
        ("a text without mask", |_, pipeline| fill_mask(pipeline, "no mask"), |error| error == PipelineError::NoMask),
        (
            "a text with two masks and room for one",
            |_, pipeline| fill_mask(pipeline, "[MASK] [MASK]"),
            |error| error == PipelineError::TooManyMasks { masks: 2, room: 1 },
        ),
        ("a text that is too long", |_, pipeline| fill_mask(pipeline, many_words()), is_too_long),
        (
            "a second text that is too long",
            |_, pipeline| Ok(pipeline.next_sentence("a", many_words()).map(|_| ())?),
            is_too_long,
        ),
        (
            "a text that is not UTF-8",
            |model, _| Ok(model.tokenizer().stream().write_bytes(b"a\xff", |_| {})?),
            |error| error == TokenizerError::InvalidUtf8 { at: 1 }.into(),
        ),
        (
            "ids and types of different length",
            |_, pipeline| forward(pipeline, &[2, 3], &[0]),
            |error| error == ForwardError::LengthMismatch { input_ids: 2, token_type_ids: 1 }.into(),
        ),
        (
            "a sequence without a token",
            |_, pipeline| forward(pipeline, &[], &[]),
            |error| error == ForwardError::EmptySequence.into(),
        ),
        (
            "an id out of range",
            |_, pipeline| forward(pipeline, &[2, u32::MAX], &[0; 2]),
            |error| matches!(error, PipelineError::Forward(ForwardError::TokenOutOfRange { position: 1, .. })),
        ),
        (
            "a type out of range",
            |_, pipeline| forward(pipeline, &[2], &[255]),
            |error| matches!(error, PipelineError::Forward(ForwardError::TokenTypeOutOfRange { position: 0, .. })),
        ),
        (
            "a position out of range",
            |_, pipeline| {
                pipeline.set_ids(&[2], &[0])?;
                Ok(pipeline.forward(&mut ())?.masked_lm(&[1], &mut (), |_, _, _| {})?)
            },
            |error| error == ForwardError::PositionOutOfRange { position: 1, tokens: 1 }.into(),
        ),
        (
            "a text in a workspace that is too small",
            |model, _| fill_mask(&mut Pipeline::new(model, Kernels::native(), &mut [0; 64])?, "[MASK]"),
            is_too_long,
        ),
        (
            "ids in a workspace that is too small",
            |model, _| forward(&mut Pipeline::new(model, Kernels::native(), &mut [0; 64])?, &[2], &[0]),
            |error| matches!(error, PipelineError::Forward(ForwardError::WorkspaceTooSmall { .. })),
        ),
    ]
}

/// Whether it is the memory or the model that has no room, depends on the board.
fn is_too_long(error: PipelineError) -> bool {
    matches!(
        error,
        PipelineError::Forward(ForwardError::SequenceTooLong { .. })
            | PipelineError::Tokenizer(
                TokenizerError::TooManyTokens { .. } | TokenizerError::NoRoomForSpecialTokens { .. }
            )
    )
}

/// Asks each question that has no answer, and behind it one that has.
///
/// # Errors
///
/// The first that was not refused, or not with its error, or behind which the answer was another one.
pub fn ask<S: Storage>(runner: &mut Runner<'_, '_, S>) -> Result<(), Failure> {
    let Runner { model, pipeline, out, .. } = runner;
    let before = answer(pipeline)?;
    for (at, (what, question, expected)) in questions().into_iter().enumerate() {
        debug!("{=str}", what);
        let refused = match question(model, pipeline) {
            Err(Failure::Pipeline(error)) => expected(error),
            _ => false,
        };
        if !refused || answer(pipeline)? != before {
            return Err(Failure::Check { what, at });
        }
    }
    let asked = questions::<S>().len();
    writeln!(out, "questions without an answer: {asked} refused, the next one answered each time")?;
    Ok(())
}
