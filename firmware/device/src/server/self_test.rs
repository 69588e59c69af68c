//! Whether kernels and model answer as they must: the kernels against the scalar ones, the model against the answers that it carries.

use mbert_runtime::encoder::schedule::Progress;
use mbert_runtime::error::{FormatError, ForwardError};
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::self_test::{SelfTestCase, cases};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::kernels::suite::{self, SuiteError};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, PipelineError};
use mbert_runtime::trace::TraceHash;

use crate::protocol::messages::DeviceError;

/// Ids of the longest case.
const CASE_TOKENS: usize = 64;

/// Compares the kernels in use with the scalar ones: the calls compared, and the entry that differs. The memory is overwritten.
///
/// # Errors
///
/// If the memory is too small.
pub fn kernels(kernels: &Kernels, memory: &mut [u8]) -> Result<(u32, Option<&'static str>), DeviceError> {
    match suite::run(kernels, memory) {
        Ok(calls) => Ok((calls as u32, None)),
        Err(SuiteError::Different(difference)) => Ok((0, Some(difference.entry))),
        Err(SuiteError::MemoryTooSmall { needed_bytes, given_bytes }) => {
            Err(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes }.into())
        }
        Err(_) => Ok((0, Some("unknown"))),
    }
}

/// Asks a model the questions whose answers it carries: how many there are, and the first that it answers otherwise. `attend` is called after
/// every step, and may stop it.
///
/// # Errors
///
/// A case that cannot be read or run, or what `attend` says.
pub fn known_answers(
    model: &Model<&[u8]>,
    kernels: &'static Kernels,
    memory: &mut [u8],
    mut attend: impl FnMut(Progress) -> Result<(), DeviceError>,
) -> Result<(u32, Option<u32>), DeviceError> {
    let section = model.sections().find(|section| section.kind == SectionKind::SelfTest);
    let section = section.map(|section| model.section_bytes(&section)).unwrap_or_default();
    let mut pipeline = Pipeline::new(model, kernels, memory).map_err(|_| DeviceError::NoModel)?;
    let (mut count, mut wrong) = (0, None);
    for case in cases(section).map_err(unreadable)? {
        let case = case.map_err(unreadable)?;
        if answer(&mut pipeline, model, &case, &mut attend)? != case.trace_sha256 {
            wrong = wrong.or(Some(count));
        }
        count += 1;
    }
    Ok((count, wrong))
}

/// What cannot be read of a model that was verified was never right.
fn unreadable(_: FormatError) -> DeviceError {
    DeviceError::NoModel
}

/// The hash of the model's own answer.
fn answer(
    pipeline: &mut Pipeline<'_, '_, &[u8]>,
    model: &Model<&[u8]>,
    case: &SelfTestCase<'_>,
    attend: &mut impl FnMut(Progress) -> Result<(), DeviceError>,
) -> Result<[u8; 32], DeviceError> {
    let mut ids = heapless::Vec::<u32, CASE_TOKENS>::new();
    let too_long = ForwardError::SequenceTooLong { tokens: case.ids().len(), max: CASE_TOKENS };
    case.ids().try_for_each(|id| ids.push(id)).map_err(|_| PipelineError::Forward(too_long))?;
    pipeline.set_ids(&ids, &[0; CASE_TOKENS][..ids.len()])?;
    let mut trace = TraceHash::default();
    let mut forward = pipeline.start()?;
    take(|| forward.step(&mut trace), attend)?;
    let mut encoded = forward.finish(&mut trace)?;
    if let Some(position) = case.mask_position {
        let positions = [position.into()];
        let mut head = encoded.start_masked_lm(&positions)?;
        take(|| head.step(&mut trace, |_, _, _| {}), attend)?;
    }
    if model.manifest().heads.next_sentence {
        let mut head = encoded.start_pooler(true)?;
        take(|| head.step(&mut trace), attend)?;
        head.finish(&mut trace)?;
    }
    Ok(trace.finish())
}

/// Takes all the steps there are.
fn take(
    mut step: impl FnMut() -> Result<Progress, ForwardError>,
    attend: &mut impl FnMut(Progress) -> Result<(), DeviceError>,
) -> Result<(), DeviceError> {
    loop {
        let progress = step()?;
        attend(progress)?;
        if progress.is_finished() {
            return Ok(());
        }
    }
}
