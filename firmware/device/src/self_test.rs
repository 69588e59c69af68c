//! The questions with known answers that every model carries, asked on this machine.

use core::fmt;

use mbert_runtime::error::FormatError;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::self_test::{MAX_TOKENS, SelfTestCase, TOP_K, cases};
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, PipelineError};
use mbert_runtime::tokenizer::{Encoding, Truncation};
use mbert_runtime::trace::TraceHash;

/// Why a model did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The section is damaged, or the weights are packed for another CPU.
    Format(FormatError),
    /// A question could not be run.
    Pipeline(PipelineError),
    /// The model carries no question.
    Empty,
    /// An answer differs from the one that the model carries.
    Answer {
        /// Number of the question, from 0.
        case: usize,
    },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Pipeline(error) => error.fmt(f),
            Self::Empty => write!(f, "the model carries no self-test: convert it again"),
            Self::Answer { case } => {
                write!(
                    f,
                    "answer {case} of the self-test differs: the kernels or the memory are not what they should be"
                )
            }
        }
    }
}

impl core::error::Error for Failed {}

impl From<FormatError> for Failed {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<PipelineError> for Failed {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

/// Asks a model all its questions in this memory, and returns how many there are.
///
/// # Errors
///
/// The first that is not answered as it should be, to the bit in every hidden state and logit.
pub fn run(model: &Model<&[u8]>, kernels: &'static Kernels, memory: &mut [u8]) -> Result<usize, Failed> {
    let mut pipeline = Pipeline::new(model, kernels, memory)?;
    let section = model.sections().find(|section| section.kind == SectionKind::SelfTest);
    let section = section.ok_or(FormatError::MissingSection { kind: SectionKind::SelfTest, layer: 0 })?;
    let mut passed = 0;
    for case in cases(model.section_bytes(&section))? {
        if !is_answered(&mut pipeline, model, &case?)? {
            return Err(Failed::Answer { case: passed });
        }
        passed += 1;
    }
    if passed == 0 { Err(Failed::Empty) } else { Ok(passed) }
}

/// Whether text, ids and answers of a case belong together on this machine.
fn is_answered(
    pipeline: &mut Pipeline<'_, '_, &[u8]>,
    model: &Model<&[u8]>,
    case: &SelfTestCase<'_>,
) -> Result<bool, PipelineError> {
    let heads = model.manifest().heads;
    let mut buffer = [0; MAX_TOKENS];
    let max = MAX_TOKENS.min(model.config().max_position_embeddings.into());
    let mut encoding = Encoding::new(&mut buffer[..max]);
    model.tokenizer().encode(case.text, None, Truncation::LongestFirst, &mut encoding)?;
    let tokens = encoding.len();
    let ids = &buffer[..tokens];
    if !case.ids().eq(ids.iter().copied()) {
        return Ok(false);
    }
    pipeline.set_ids(ids, &[0; MAX_TOKENS][..tokens])?;
    let mut trace = TraceHash::default();
    let mut encoded = pipeline.forward(&mut trace)?;
    let mut top = [(0, 0); TOP_K];
    if let Some(position) = case.mask_position {
        let mut best = TopK::<[TokenLogit; TOP_K]>::default();
        let add = |id, _, logit| best.push(TokenLogit { id, logit });
        encoded.masked_lm(&[position.into()], &mut trace, add)?;
        top.iter_mut().zip(best.as_slice()).for_each(|(entry, best)| *entry = (best.id, best.logit));
    }
    if heads.next_sentence {
        encoded.next_sentence(&mut trace)?;
    }
    Ok(top == case.top && trace.finish() == case.trace_sha256)
}
