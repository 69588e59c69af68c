//! `mbert fill-mask`: the answers of the Hugging Face pipeline of that name.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use mbert_runtime::encoder::threads::Threads;
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::ops::log_sum_exp::{LogSumExp, Ratio};
use mbert_runtime::pipeline::{Pipeline, PipelineError};
use mbert_runtime::tokenizer::CleanUp;
use mbert_runtime::trace::{Observer, TraceHash};
use serde::Serialize;
use serde_json::json;

use crate::cli::FillMaskArgs;
use crate::inspect::hex;
use crate::model_file::{self, ModelFile};

/// A token for a mask.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Probability among the whole vocabulary.
    pub score: f64,
    /// Token id.
    pub token: u32,
    /// The token as text.
    pub token_str: String,
    /// The text with the token in the mask's place.
    pub sequence: String,
}

/// Runs the command.
///
/// # Errors
///
/// No mask, too long a text, a model without this head.
pub fn run(args: &FillMaskArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (file, verification, kernels) = args.run.model.open_verifying()?;
    let mut trace = TraceHash::default();
    let answers = answers(&file, kernels, args, &mut trace);
    // What a damaged file answers, an error too, is not worth telling.
    verification.finish()?;
    let answers = answers?;
    let trace = args.mask.trace_hash.then(|| hex(&trace.finish()));
    print(&answers, trace.as_deref(), args.mask.json, out)?;
    Ok(ExitCode::SUCCESS)
}

fn answers(
    file: &ModelFile,
    kernels: &'static Kernels,
    args: &FillMaskArgs,
    trace: &mut TraceHash,
) -> Result<Vec<Vec<Answer>>> {
    let model = file.model()?;
    let targets = target_ids(&model, &args.targets)?;
    let mut memory = model_file::memory(&model, usize::MAX);
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let question = Question {
        text: &args.mask.text,
        top_k: args.top_k as usize,
        targets,
        special_tokens: args.mask.special_tokens,
    };
    fill_mask(&model, &mut pipeline, &mut args.run.threads(), &question, trace)
}

/// What is asked.
pub struct Question<'q> {
    /// Text with one or more mask tokens.
    pub text: &'q str,
    /// Answers for each mask.
    pub top_k: usize,
    /// Ids to choose among, ascending; `None` for the whole vocabulary.
    pub targets: Option<Vec<u32>>,
    /// Show sequences with `[CLS]` and `[SEP]`.
    pub special_tokens: bool,
}

/// The best answers for each mask, best first.
///
/// # Errors
///
/// No mask, too long a text, a model without this head.
pub fn fill_mask(
    model: &Model<&[u8]>,
    pipeline: &mut Pipeline<'_, '_, &[u8]>,
    threads: &mut Threads,
    question: &Question<'_>,
    trace: &mut impl Observer,
) -> Result<Vec<Vec<Answer>>> {
    let mask = model.manifest().tokenizer.mask_token_id;
    let ids = pipeline.encode(question.text, None)?.to_vec();
    let positions: Vec<usize> = (0..ids.len()).filter(|&position| ids[position] == mask).collect();
    if positions.is_empty() {
        return Err(PipelineError::NoMask.into());
    }
    let vocab_size = model.manifest().config.vocab_size as usize;
    let room = question.top_k.min(question.targets.as_ref().map_or(vocab_size, Vec::len));
    let top = TopK::new(vec![TokenLogit { id: 0, logit: 0 }; room]);
    let mut answers = vec![(top, LogSumExp::default()); positions.len()];
    let mut encoded = pipeline.forward_on(threads, trace)?;
    encoded.masked_lm(&positions, trace, |id, index, logit| {
        let (top, sum) = &mut answers[index];
        sum.add(logit);
        if question.targets.as_ref().is_none_or(|targets| targets.binary_search(&id).is_ok()) {
            top.push(TokenLogit { id, logit });
        }
    })?;
    if model.manifest().heads.next_sentence {
        encoded.next_sentence(trace)?;
    }
    let skip_special_tokens = positions.len() == 1 && !question.special_tokens;
    let of_mask = |(&position, (top, sum)): (&usize, &(TopK<Vec<TokenLogit>>, LogSumExp))| {
        let answer = |&best: &TokenLogit| {
            let mut filled = ids.clone();
            filled[position] = best.id;
            Ok(Answer {
                score: probability(sum.ratio(best.logit)),
                token: best.id,
                token_str: decode(model, &[best.id], false)?,
                sequence: decode(model, &filled, skip_special_tokens)?,
            })
        };
        top.as_slice().iter().map(answer).collect()
    };
    positions.iter().zip(&answers).map(of_mask).collect()
}

/// A probability for people: the one place where the answer becomes a float.
pub(crate) fn probability(ratio: Ratio) -> f64 {
    libm::ldexp(f64::from(ratio.numerator) / ratio.denominator as f64, -(ratio.shift as i32))
}

/// Token ids as text.
fn decode(model: &Model<&[u8]>, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
    let mut text = String::new();
    model
        .tokenizer()
        .decode(ids, skip_special_tokens, CleanUp::Tokens, &mut text)
        .context("an answer cannot be decoded")?;
    Ok(text)
}

/// Ids of the target words, ascending. As in the pipeline, a word that is no token of its own is replaced by its first token, with a word
/// on stderr.
fn target_ids(model: &Model<&[u8]>, targets: &[String]) -> Result<Option<Vec<u32>>> {
    if targets.is_empty() {
        return Ok(None);
    }
    let mut ids = Vec::new();
    for target in targets {
        if let Some(id) = model.tokenizer().vocab().id(target.as_bytes())? {
            ids.push(id);
            continue;
        }
        let mut first = None;
        model.tokenizer().tokens(target, |token| _ = first.get_or_insert(token))?;
        match first {
            None => eprintln!("the target \"{target}\" has no token; it is left out"),
            Some(token) => {
                let first = decode(model, &[token.id], false)?;
                eprintln!("the target \"{target}\" is not in the vocabulary; its first token \"{first}\" is used");
                ids.push(token.id);
            }
        }
    }
    ensure!(!ids.is_empty(), "no target is left: give words that the model's vocabulary can spell");
    ids.sort_unstable();
    ids.dedup();
    Ok(Some(ids))
}

/// Prints answers, for people or as JSON.
pub(crate) fn print(answers: &[Vec<Answer>], trace: Option<&str>, as_json: bool, out: &mut impl Write) -> Result<()> {
    if as_json { print_json(answers, trace, out) } else { print_text(answers, trace, out) }
}

fn print_json(answers: &[Vec<Answer>], trace: Option<&str>, out: &mut impl Write) -> Result<()> {
    let answers = match answers {
        [answers] => json!(answers),
        several => json!(several),
    };
    let output = match trace {
        None => answers,
        Some(trace) => json!({ "answers": answers, "trace_sha256": trace }),
    };
    writeln!(out, "{}", serde_json::to_string_pretty(&output)?)?;
    Ok(())
}

fn print_text(answers: &[Vec<Answer>], trace: Option<&str>, out: &mut impl Write) -> Result<()> {
    for (index, answers) in answers.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let width = answers.iter().map(|answer| answer.token_str.chars().count()).max().unwrap_or(0);
        for answer in answers {
            let padding = width - answer.token_str.chars().count();
            writeln!(out, "{:>8.4}  {}{}  {}", answer.score, answer.token_str, " ".repeat(padding), answer.sequence)?;
        }
    }
    if let Some(trace) = trace {
        writeln!(out, "trace {trace}")?;
    }
    Ok(())
}
