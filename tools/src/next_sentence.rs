//! `mbert next-sentence`: whether the second text follows the first.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_runtime::ops::log_sum_exp::LOGIT_FRACTION_BITS;
use mbert_runtime::pipeline::Pipeline;
use mbert_runtime::trace::TraceHash;
use serde_json::json;

use crate::cli::NextSentenceArgs;
use crate::cli::questions::PairArgs;
use crate::inspect::hex;
use crate::model_file;

/// Runs the command.
///
/// # Errors
///
/// Too long texts, or a model without this head.
pub fn run(args: &NextSentenceArgs, out: &mut impl Write) -> Result<ExitCode> {
    let PairArgs { text, pair, json, trace_hash } = &args.pair;
    let (file, kernels) = args.run.model.open()?;
    let model = file.model()?;
    let mut memory = model_file::memory(&model, usize::MAX);
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let mut trace = TraceHash::default();
    pipeline.encode(text, Some(pair))?;
    let logits = pipeline.forward_on(&mut args.run.threads(), &mut trace)?.next_sentence(&mut trace)?;
    let trace = trace_hash.then(|| hex(&trace.finish()));
    print(logits, trace, *json, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer, for people or as JSON.
pub(crate) fn print(logits: [i32; 2], trace: Option<String>, as_json: bool, out: &mut impl Write) -> Result<()> {
    let [is_next, is_not_next] = logits.map(logit_to_f64);
    let probability = probability_of_following(logits);
    if as_json {
        let mut output = json!({
            "is_next": logits[0] > logits[1],
            "probability": probability,
            "logits": [is_next, is_not_next],
        });
        if let Some(trace) = trace {
            output["trace_sha256"] = trace.into();
        }
        writeln!(out, "{}", serde_json::to_string_pretty(&output)?)?;
    } else {
        let verdict = if logits[0] > logits[1] { "follows" } else { "does not follow" };
        writeln!(
            out,
            "the second text {verdict} (probability of following {probability:.4}, logits {is_next:.3} {is_not_next:.3})"
        )?;
        if let Some(trace) = trace {
            writeln!(out, "trace {trace}")?;
        }
    }
    Ok(())
}

/// The probability that the second text follows, from both logits.
pub fn probability_of_following(logits: [i32; 2]) -> f64 {
    let [is_next, is_not_next] = logits.map(logit_to_f64);
    1.0 / (1.0 + libm::exp(is_not_next - is_next))
}

/// A logit for people.
pub fn logit_to_f64(logit: i32) -> f64 {
    libm::ldexp(f64::from(logit), -(LOGIT_FRACTION_BITS as i32))
}
