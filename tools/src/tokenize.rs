//! `mbert tokenize`: lines from standard input to ids, tokens and byte offsets.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use mbert_runtime::pipeline::Pipeline;
use mbert_runtime::trace::TraceHash;
use serde_json::json;

use crate::cli::TokenizeArgs;
use crate::inspect::hex;
use crate::model_file;

/// Runs the command.
///
/// # Errors
///
/// A line that is not UTF-8; with a trace, one that is too long for the model.
pub fn run(args: &TokenizeArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (file, kernels) = args.model.open()?;
    let model = file.model()?;
    let tokenizer = model.tokenizer();
    let special = &model.manifest().tokenizer;
    let mut memory = model_file::memory(&model, if args.trace_hash { usize::MAX } else { 1 });
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let mut threads = args.threads.threads();
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).context("cannot read standard input")? == 0 {
            break;
        }
        let bytes = line.strip_suffix(b"\n").unwrap_or(&line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| anyhow!("line {number} is not UTF-8 at byte {}: convert it first", error.valid_up_to()))?;
        let mut ids = vec![special.cls_token_id];
        let mut offsets = vec![[0, 0]];
        tokenizer.tokens(text, |token| {
            ids.push(token.id);
            offsets.push([token.start, token.end]);
        })?;
        ids.push(special.sep_token_id);
        offsets.push([0, 0]);
        let tokens: Vec<_> =
            ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.vocab().token(id).unwrap_or(b"?"))).collect();
        let trace = if args.trace_hash {
            let mut trace = TraceHash::default();
            pipeline.encode(text, None).with_context(|| format!("line {number}"))?;
            pipeline.forward_on(&mut threads, &mut trace).with_context(|| format!("line {number}"))?;
            Some(hex(&trace.finish()))
        } else {
            None
        };
        if args.json {
            let mut object = json!({ "ids": ids, "tokens": tokens, "offsets": offsets });
            if let Some(trace) = trace {
                object["trace_sha256"] = trace.into();
            }
            writeln!(out, "{object}")?;
        } else {
            writeln!(
                out,
                "{}",
                tokens.iter().zip(&ids).map(|(token, id)| format!("{token}:{id}")).collect::<Vec<_>>().join(" ")
            )?;
            if let Some(trace) = trace {
                writeln!(out, "trace {trace}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
