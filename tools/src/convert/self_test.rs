//! Writes the self-test section: the finished model answers a few questions, and the answers travel with it.

use anyhow::{Context, Result};
use mbert_runtime::format::self_test::{MAX_TOKENS, SelfTestCase, TOP_K};
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use mbert_runtime::tokenizer::{Encoding, Truncation};
use mbert_runtime::trace::TraceHash;

use crate::model_file::{memory, repacked};

const TEXTS: [&str; 4] = [
    "The capital of France is [MASK].",
    "Der Hund [MASK] im Garten.",
    "东京是[MASK]的首都。",
    "Москва — [MASK] России, а Київ — України.",
];

/// The section for a blob whose own self-test section is still empty.
pub fn section(blob: &[u8]) -> Result<Vec<u8>> {
    let model = Model::open(blob).context("the converter wrote a blob that cannot be opened: a bug")?;
    // Packed for another CPU than this one: the answers are those of the same weights in another order.
    let kernels = Kernels::native();
    let readable = model.check_layout(kernels).is_err().then(|| repacked(&model, kernels.weight_layout));
    let model = match &readable {
        Some(blob) => Model::open(&blob[..]).context("a repacked blob cannot be opened: a bug")?,
        None => model,
    };
    let mut memory = memory(&model, MAX_TOKENS);
    let mut section = postcard::to_stdvec(&(TEXTS.len() as u32))?;
    for text in TEXTS {
        let ids = ids(&model, text)?;
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let mut case =
            SelfTestCase { text, input_ids: &bytes, mask_position: None, trace_sha256: [0; 32], top: [(0, 0); TOP_K] };
        answer(&model, &mut memory, &ids, &mut case)?;
        section.extend(postcard::to_stdvec(&case)?);
    }
    Ok(section)
}

/// Token ids of a text, cut to what a case may have.
fn ids(model: &Model<&[u8]>, text: &str) -> Result<Vec<u32>> {
    let max = MAX_TOKENS.min(usize::from(model.manifest().config.max_position_embeddings));
    let mut ids = vec![0; max];
    let mut encoding = Encoding::new(&mut ids);
    model.tokenizer().encode(text, None, Truncation::LongestFirst, &mut encoding)?;
    let len = encoding.len();
    ids.truncate(len);
    Ok(ids)
}

/// Runs a case and writes down what the model answers.
fn answer(model: &Model<&[u8]>, memory: &mut [u8], ids: &[u32], case: &mut SelfTestCase<'_>) -> Result<()> {
    let manifest = model.manifest();
    let mut pipeline = Pipeline::new(model, Kernels::native(), memory)?;
    pipeline.set_ids(ids, &vec![0; ids.len()])?;
    let mut trace = TraceHash::default();
    let mut encoded = pipeline.forward(&mut trace)?;
    if manifest.heads.masked_lm
        && let Some(position) = ids.iter().position(|&id| id == manifest.tokenizer.mask_token_id)
    {
        let mut top = TopK::<[TokenLogit; TOP_K]>::default();
        encoded.masked_lm(&[position], &mut trace, |id, _, logit| top.push(TokenLogit { id, logit }))?;
        case.mask_position = Some(position as u16);
        for (entry, best) in case.top.iter_mut().zip(top.as_slice()) {
            *entry = (best.id, best.logit);
        }
    }
    if manifest.heads.next_sentence {
        encoded.next_sentence(&mut trace)?;
    }
    case.trace_sha256 = trace.finish();
    Ok(())
}
