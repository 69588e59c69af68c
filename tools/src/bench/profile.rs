//! Where the time of one answer goes, stage by stage.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use serde::Serialize;
use serde_json::json;

use super::limit::Limit;
use super::{ids, print_limit};
use crate::model_file;
use crate::plan::work::{Question, Sequence, Unit};

/// Answers that are profiled; a stage's time is its median.
const TIMES: usize = 9;

/// One stage of all layers together.
#[derive(Serialize)]
struct Stage {
    stage: &'static str,
    ms: f64,
    percent: f64,
    /// Of a stage that multiplies.
    percent_of_limit: Option<f64>,
}

/// Times by stage, in the order in which they first come.
type Times = Vec<(&'static str, f64)>;

fn add(times: &mut Times, stage: &'static str, ms: f64) {
    match times.iter_mut().find(|(name, _)| *name == stage) {
        Some((_, sum)) => *sum += ms,
        None => times.push((stage, ms)),
    }
}

/// One answer, step by step.
fn answer(pipeline: &mut Pipeline<'_, '_, &[u8]>, model: &Model<&[u8]>, tokens: usize) -> Result<Times> {
    let mut times = Times::new();
    let ms = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    pipeline.set_ids(&ids(model, tokens), &vec![0; tokens])?;
    let mut forward = pipeline.start()?;
    while let Some((_, stage)) = forward.next_stage() {
        let begin = Instant::now();
        forward.step(&mut ())?;
        add(&mut times, stage.name(), ms(begin));
    }
    let mut encoded = forward.finish(&mut ())?;
    if model.manifest().heads.masked_lm {
        let begin = Instant::now();
        encoded.masked_lm(&[tokens / 2], &mut (), |_, _, logit| {
            std::hint::black_box(logit);
        })?;
        add(&mut times, "masked_lm", ms(begin));
    }
    Ok(times)
}

/// Products by stage, under the names of [`answer`].
fn macs(model: &Model<&[u8]>, tokens: usize) -> Times {
    let plan = Sequence { config: model.config(), tokens, passes: 1, window_bytes: usize::MAX };
    let mut macs = Times::new();
    for step in plan.steps(Question::FillMask { masks: 1 }) {
        let products = step
            .work
            .iter()
            .filter(|(unit, _)| matches!(unit, Unit::LinearMac | Unit::AttentionMac | Unit::DecoderMac));
        let stage = if ["transform", "decoder"].contains(&step.part) { "masked_lm" } else { step.part };
        add(&mut macs, stage, products.map(|&(_, count)| count as f64).sum());
    }
    macs
}

/// Prints a profile for each length.
pub(super) fn run(
    model: &Model<&[u8]>,
    kernels: &'static Kernels,
    limit: Option<Limit>,
    lengths: &[usize],
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let mut memory = model_file::memory(model, usize::MAX);
    let mut profiles = Vec::new();
    for &tokens in lengths {
        let mut pipeline = Pipeline::new(model, kernels, &mut memory)?;
        let rate = limit.map(|limit| limit.macs_per_second(NonZeroUsize::MIN));
        let mut runs = Vec::new();
        for _ in 0..TIMES {
            runs.push(answer(&mut pipeline, model, tokens)?);
        }
        let macs = macs(model, tokens);
        let median = |index: usize| {
            let mut times: Vec<f64> = runs.iter().map(|run| run[index].1).collect();
            times.sort_by(f64::total_cmp);
            times[TIMES / 2]
        };
        let times: Times = runs[0].iter().enumerate().map(|(index, &(stage, _))| (stage, median(index))).collect();
        let total: f64 = times.iter().map(|(_, ms)| ms).sum();
        let stages: Vec<Stage> = times
            .into_iter()
            .map(|(stage, ms)| {
                let macs = macs.iter().find(|(name, macs)| *name == stage && *macs > 0.0);
                let percent_of_limit = macs.zip(rate).map(|((_, macs), rate)| 100.0 * macs / rate / (ms / 1e3));
                Stage { stage, ms, percent: 100.0 * ms / total, percent_of_limit }
            })
            .collect();
        profiles.push((tokens, rate, total, stages));
    }
    if as_json {
        let profiles: Vec<_> = profiles
            .iter()
            .map(|(tokens, rate, ms, stages)| json!({ "tokens": tokens, "limit_macs_per_second": rate, "ms": ms, "stages": stages }))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "kernels": kernels.name, "profiles": profiles }))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (index, (tokens, rate, total, stages)) in profiles.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        print_limit(kernels, NonZeroUsize::MIN, limit.zip(*rate), out)?;
        writeln!(out, "tokens  {tokens}\n\n{:<20}  {:>10}  {:>6}  {:>8}", "stage", "time", "share", "of limit")?;
        for Stage { stage, ms, percent, percent_of_limit } in stages {
            let of_limit = percent_of_limit.map_or("-".into(), |percent| format!("{percent:.0} %"));
            writeln!(out, "{stage:<20}  {ms:>7.3} ms  {percent:>4.1} %  {of_limit:>8}")?;
        }
        writeln!(out, "{:<20}  {total:>7.3} ms", "together")?;
    }
    Ok(ExitCode::SUCCESS)
}
