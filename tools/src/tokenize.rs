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
    let (file, kernels) = args.run.model.open()?;
    let model = file.model()?;
    let tokenizer = model.tokenizer();
    let special = &model.manifest().tokenizer;
    let mut memory = model_file::memory(&model, if args.line.trace_hash { usize::MAX } else { 1 });
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let mut threads = args.run.threads();
    each_line(|number, text| {
        let mut line = Line::default();
        let spelling = |id| tokenizer.vocab().token(id).unwrap_or(b"?");
        line.push(special.cls_token_id, [0, 0], spelling(special.cls_token_id));
        tokenizer.tokens(text, |token| line.push(token.id, [token.start, token.end], spelling(token.id)))?;
        line.push(special.sep_token_id, [0, 0], spelling(special.sep_token_id));
        let trace = if args.line.trace_hash {
            let mut trace = TraceHash::default();
            pipeline.encode(text, None).with_context(|| format!("line {number}"))?;
            pipeline.forward_on(&mut threads, &mut trace).with_context(|| format!("line {number}"))?;
            Some(hex(&trace.finish()))
        } else {
            None
        };
        line.print(trace, args.line.json, out)
    })
}

/// Shows every line of standard input.
///
/// # Errors
///
/// A line that is not UTF-8, or what `show` says.
pub fn each_line(mut show: impl FnMut(usize, &str) -> Result<()>) -> Result<ExitCode> {
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
        show(number, text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tokens of a line, special ones included.
#[derive(Default)]
pub struct Line {
    ids: Vec<u32>,
    tokens: Vec<String>,
    offsets: Vec<[u32; 2]>,
}

impl Line {
    /// Adds a token, with its bytes in the line and in the vocabulary.
    pub fn push(&mut self, id: u32, offsets: [u32; 2], spelling: &[u8]) {
        self.ids.push(id);
        self.offsets.push(offsets);
        self.tokens.push(String::from_utf8_lossy(spelling).into_owned());
    }

    /// The ids alone, as tensors have them.
    pub fn into_ids(self) -> Vec<i32> {
        self.ids.into_iter().map(|id| id as i32).collect()
    }

    /// Prints it, for people or as JSON.
    pub fn print(&self, trace: Option<String>, as_json: bool, out: &mut impl Write) -> Result<()> {
        let Self { ids, tokens, offsets } = self;
        if as_json {
            let mut object = json!({ "ids": ids, "tokens": tokens, "offsets": offsets });
            if let Some(trace) = trace {
                object["trace_sha256"] = trace.into();
            }
            writeln!(out, "{object}")?;
        } else {
            let words: Vec<_> = tokens.iter().zip(ids).map(|(token, id)| format!("{token}:{id}")).collect();
            writeln!(out, "{}", words.join(" "))?;
            if let Some(trace) = trace {
                writeln!(out, "trace {trace}")?;
            }
        }
        Ok(())
    }
}
