//! `mbert eval`: how well a model predicts text, in integers and, beside them, in float32.
//!
//! Text becomes questions that a seed decides (`masking`, `pairs`), each one sequence with known answers. The integer model and
//! the float reference see the same sequences, so that the difference of their scores is what quantisation costs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use rayon::prelude::*;
use serde_json::Value;

use crate::cli::EvalArgs;
use crate::compare::check_belongs;
use crate::convert::checkpoint::Checkpoint;
use crate::convert::progress_bar;
use crate::model_file;
use crate::reference::ReferenceBert;
use crate::text;

pub mod masking;
pub mod pairs;
pub mod question;
pub mod random;
pub mod score;

use question::{Guess, Question, questions};
use score::Score;

/// Runs the command.
///
/// # Errors
///
/// A file that cannot be read or has nothing to predict, a model without the head, a checkpoint of another model.
pub fn run(args: &EvalArgs, out: &mut impl Write) -> Result<ExitCode> {
    let texts = args.text.iter().map(|path| text::read(path)).collect::<Result<Vec<_>>>()?;
    let checkpoint = args.checkpoint.clone().map(Checkpoint::open).transpose()?;
    let (file, kernels) = match &checkpoint {
        Some(checkpoint) => args.model.open_or_convert(checkpoint)?,
        None => args.model.open()?,
    };
    let model = file.model()?;
    let reference = match &checkpoint {
        Some(checkpoint) => {
            check_belongs(&model, checkpoint)?;
            Some(ReferenceBert::load(checkpoint)?)
        }
        None => None,
    };
    let names: Vec<String> = args.text.iter().map(|path| path.display().to_string()).collect();
    let ask =
        |(name, text): (&String, &String)| questions(&model, args.task, text, args.seed).with_context(|| name.clone());
    let files = names.iter().zip(&texts).map(ask).collect::<Result<Vec<_>>>()?;

    let progress = progress_bar();
    progress.set_length(files.iter().map(|questions| questions.len() as u64).sum());
    let score = |questions: &Vec<Question>| score(&model, kernels, reference.as_ref(), questions, &progress);
    let scores = files.iter().map(score).collect::<Result<Vec<_>>>();
    progress.finish_and_clear();
    let scores = scores?;

    let rows: Vec<(String, Score)> = names.into_iter().zip(scores).collect();
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|(name, score)| score.to_json(name, args.task)).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    } else {
        score::print(&rows, args.task, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a model, and its float reference where there is one, on all cores. The score does not depend on their number.
///
/// # Errors
///
/// If the model or the reference has not the head that is asked.
pub fn score(
    model: &Model<&[u8]>,
    kernels: &'static Kernels,
    reference: Option<&ReferenceBert>,
    questions: &[Question],
    progress: &ProgressBar,
) -> Result<Score> {
    let longest = questions.iter().map(|question| question.input_ids.len()).max().unwrap_or(1);
    let ask = |memory: &mut Vec<u8>, question: &Question| -> Result<(Vec<Guess>, Option<Vec<Guess>>)> {
        let int8 = question.ask(&mut Pipeline::new(model, kernels, memory)?)?;
        let fp32 = reference.map(|reference| question.ask_reference(reference)).transpose()?;
        progress.inc(1);
        Ok((int8, fp32))
    };
    let guesses: Vec<_> =
        questions.par_iter().map_init(|| model_file::memory(model, longest), ask).collect::<Result<_>>()?;
    let (int8, fp32): (Vec<_>, Vec<_>) = guesses.into_iter().unzip();
    let fp32: Option<Vec<_>> = fp32.into_iter().collect();
    let labels: Vec<_> = questions.iter().flat_map(Question::labels).collect();
    Ok(Score::of(&labels, &int8.concat(), fp32.map(|fp32| fp32.concat()).as_deref()))
}
