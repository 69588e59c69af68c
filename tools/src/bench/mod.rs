//! `mbert bench`: how long a model takes on this machine, and how close that is to what the machine can do.

pub mod limit;
mod profile;

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mbert_runtime::config::BertConfig;
use mbert_runtime::encoder::threads::{Sequence, Threads};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use serde::Serialize;
use serde_json::json;

use crate::cli::BenchArgs;
use crate::model_file;
use crate::plan::work::{Question, Sequence as Plan, Unit};
use limit::Limit;

/// How long each measurement is repeated, and how often at least and at most.
const MEASURED: Duration = Duration::from_millis(700);
const TIMES: std::ops::RangeInclusive<usize> = 5..=200;

/// A model with all that one answer after another needs.
pub struct Bench<'m> {
    model: &'m Model<&'m [u8]>,
    kernels: &'static Kernels,
    threads: Threads,
    memory: Vec<u8>,
}

impl<'m> Bench<'m> {
    /// Ready for sequences of any length that the model takes.
    pub fn new(model: &'m Model<&'m [u8]>, kernels: &'static Kernels, threads: NonZeroUsize) -> Self {
        Self { model, kernels, threads: Threads::new(threads), memory: model_file::memory(model, usize::MAX) }
    }

    /// Runs a sequence of so many tokens through the encoder, and then, if it is asked to, through the masked-LM head for one mask.
    ///
    /// # Errors
    ///
    /// If the model does not take so many, or has no such head.
    pub fn run(&mut self, tokens: usize, with_masked_lm: bool) -> Result<()> {
        let ids = ids(self.model, tokens);
        let mut pipeline = Pipeline::new(self.model, self.kernels, &mut self.memory)?;
        pipeline.set_ids(&ids, &vec![0; tokens])?;
        let mut encoded = pipeline.forward_on(&mut self.threads, &mut ())?;
        if with_masked_lm {
            let mut best = i32::MIN;
            encoded.masked_lm(&[tokens / 2], &mut (), |_, _, logit| best = best.max(logit))?;
            std::hint::black_box(best);
        }
        Ok(())
    }

    /// Runs so many sequences of so many tokens through the encoder together.
    ///
    /// # Errors
    ///
    /// If the model does not take so many tokens.
    pub fn run_batch(&mut self, sequences: usize, tokens: usize) -> Result<()> {
        let (ids, types) = (ids(self.model, tokens), vec![0; tokens]);
        let batch = vec![Sequence { input_ids: &ids, token_type_ids: &types }; sequences];
        self.threads.batch(self.model, self.kernels, &batch, |_, encoded| {
            std::hint::black_box(encoded.last_hidden_state());
        })?;
        Ok(())
    }
}

/// Token ids from all over the vocabulary: a first and a last one as the model wants them, and a mask in the middle.
fn ids(model: &Model<&[u8]>, tokens: usize) -> Vec<u32> {
    let (vocab_size, special) = (model.config().vocab_size as usize, &model.manifest().tokenizer);
    let mut ids: Vec<u32> = (0..tokens).map(|i| ((1000 + i * 7919 % 118_000) % vocab_size) as u32).collect();
    let middle = tokens / 2;
    for (position, id) in
        [(0, special.cls_token_id), (tokens.saturating_sub(1), special.sep_token_id), (middle, special.mask_token_id)]
    {
        if let Some(entry) = ids.get_mut(position) {
            *entry = id;
        }
    }
    ids
}

/// Products of the encoder for one sequence.
pub fn encoder_macs(config: &BertConfig, tokens: usize) -> u64 {
    let plan = Plan { config, tokens, passes: 1, window_bytes: usize::MAX };
    let work = plan.steps(Question::Features).flat_map(|step| step.work);
    work.filter(|(unit, _)| matches!(unit, Unit::LinearMac | Unit::AttentionMac)).map(|(_, count)| count).sum()
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    tokens: usize,
    /// Sequences that run together.
    batch: usize,
    encoder_ms: f64,
    /// With one mask; of one sequence, where the model has this head.
    fill_mask_ms: Option<f64>,
    /// Of the encoder.
    percent_of_limit: Option<f64>,
}

/// The median of some runs, in milliseconds.
fn median_ms(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < *TIMES.end() && (times.len() < *TIMES.start() || begin.elapsed() < MEASURED) {
        let begin = Instant::now();
        run()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Runs the command.
///
/// # Errors
///
/// If the model cannot be read, or takes no sequence of a length that is asked for.
pub fn run(args: &BenchArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (file, kernels) = args.run.model.open()?;
    let model = file.model()?;
    let max = usize::from(model.config().max_position_embeddings);
    let lengths: Vec<usize> = match &args.tokens[..] {
        [] => [16, 64, 128, 512].into_iter().filter(|&tokens| tokens <= max).collect(),
        given => given.to_vec(),
    };
    if let Some(tokens) = lengths.iter().find(|&&tokens| tokens > max) {
        anyhow::bail!("the model takes sequences of up to {max} tokens, not of {tokens}");
    }
    let limit = Limit::of(kernels);
    if args.profile {
        ensure!(args.run.threads.get() == 1, "a profile is that of one thread: leave --threads out");
        return profile::run(&model, kernels, limit, &lengths, args.json, out);
    }
    let threads = args.run.threads;
    let mut bench = Bench::new(&model, kernels, threads);
    let mut rates = Vec::new();
    let mut rows = Vec::new();
    for tokens in lengths {
        // The machine may change its mind: the limit is that of the minute.
        let before = limit.map(|limit| limit.macs_per_second(threads));
        let batch = args.batch.get();
        let encoder_ms = match batch {
            1 => median_ms(|| bench.run(tokens, false))?,
            _ => median_ms(|| bench.run_batch(batch, tokens))?,
        };
        let fill_mask_ms = match model.manifest().heads.masked_lm && batch == 1 {
            true => Some(median_ms(|| bench.run(tokens, true))?),
            false => None,
        };
        let after = limit.map(|limit| limit.macs_per_second(threads));
        let rate = before.zip(after).map(|(before, after)| before.max(after));
        let macs = (batch as u64 * encoder_macs(model.config(), tokens)) as f64;
        let percent_of_limit = rate.map(|rate| 100.0 * macs / rate / (encoder_ms / 1e3));
        rates.extend(rate);
        rows.push(Row { tokens, batch, encoder_ms, fill_mask_ms, percent_of_limit });
    }
    let rate = rates.into_iter().reduce(f64::max);
    match args.json {
        true => print_json(kernels, threads, limit.zip(rate), &rows, out)?,
        false => print(kernels, threads, limit.zip(rate), &rows, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(
    kernels: &Kernels,
    threads: NonZeroUsize,
    limit: Option<(Limit, f64)>,
    rows: &[Row],
    out: &mut impl Write,
) -> Result<()> {
    let output = json!({
        "kernels": kernels.name,
        "threads": threads,
        "limit_instruction": limit.map(|(limit, _)| limit.instruction),
        "limit_macs_per_second": limit.map(|(_, rate)| rate),
        "rows": rows,
    });
    writeln!(out, "{}", serde_json::to_string_pretty(&output).context("a number is not finite")?)?;
    Ok(())
}

fn print(
    kernels: &Kernels,
    threads: NonZeroUsize,
    limit: Option<(Limit, f64)>,
    rows: &[Row],
    out: &mut impl Write,
) -> Result<()> {
    print_limit(kernels, threads, limit, out)?;
    writeln!(out, "\n{:>6}  {:>5}  {:>10}  {:>12}  {:>8}", "tokens", "batch", "encoder", "fill-mask", "of limit")?;
    for Row { tokens, batch, encoder_ms, fill_mask_ms, percent_of_limit } in rows {
        let fill_mask = fill_mask_ms.map_or("-".into(), |ms| format!("{ms:.2} ms"));
        let percent = percent_of_limit.map_or("-".into(), |percent| format!("{percent:.0} %"));
        writeln!(out, "{tokens:>6}  {batch:>5}  {encoder_ms:>7.2} ms  {fill_mask:>12}  {percent:>8}")?;
    }
    Ok(())
}

fn print_limit(
    kernels: &Kernels,
    threads: NonZeroUsize,
    limit: Option<(Limit, f64)>,
    out: &mut impl Write,
) -> Result<()> {
    let threads = if threads.get() == 1 { "one thread".into() } else { format!("{threads} threads") };
    writeln!(out, "kernels {}, {threads}", kernels.name)?;
    match limit {
        Some((limit, rate)) => {
            writeln!(out, "limit   {:.1} thousand million products a second, {}", rate / 1e9, limit.instruction)?
        }
        None => writeln!(out, "limit   not known for these kernels")?,
    }
    Ok(())
}
