//! `mbert features`: hidden states to a safetensors file, named as in [`golden`](crate::golden).

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use mbert_runtime::encoder::threads::Threads;
use mbert_runtime::heads::pooler::POOLED_FRACTION_BITS;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use mbert_runtime::trace::TraceHash;

use crate::cli::questions::Pool;
use crate::cli::{FeaturesArgs, Layers};
use crate::golden::{Ids, OutputFile, read_ids};
use crate::hidden_states::HiddenStates;
use crate::inspect::hex;
use crate::model_file;
use crate::next_sentence::logit_to_f64;

/// Runs the command.
///
/// # Errors
///
/// Too long a text, ids out of range, a model without pooler where it is asked for, a file that cannot be written.
pub fn run(args: &FeaturesArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (file, kernels) = args.run.model.open()?;
    let model = file.model()?;
    let mut memory = model_file::memory(&model, usize::MAX);
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let (mut threads, mut output) = (args.run.threads(), OutputFile::new());
    let sequences = match &args.ids {
        Some(path) => read_ids(path)?,
        None => args.text.iter().enumerate().map(|(n, text)| encode(&mut pipeline, n, text)).collect::<Result<_>>()?,
    };
    for sequence in &sequences {
        let trace = write_sequence(&model, &mut pipeline, &mut threads, args, sequence, &mut output)
            .with_context(|| format!("sequence {}", sequence.name))?;
        if args.trace_hash {
            writeln!(out, "trace {} {trace}", sequence.name)?;
        }
    }
    output.write(&args.output)?;
    Ok(ExitCode::SUCCESS)
}

fn encode(pipeline: &mut Pipeline<'_, '_, &[u8]>, number: usize, text: &str) -> Result<Ids> {
    let input_ids = pipeline.encode(text, None).with_context(|| format!("text {number}"))?.to_vec();
    Ok(Ids { name: number.to_string(), token_type_ids: vec![0; input_ids.len()], input_ids })
}

/// Runs one sequence and adds its tensors; returns its trace hash.
fn write_sequence(
    model: &Model<&[u8]>,
    pipeline: &mut Pipeline<'_, '_, &[u8]>,
    threads: &mut Threads,
    args: &FeaturesArgs,
    sequence: &Ids,
    output: &mut OutputFile,
) -> Result<String> {
    let Ids { name, input_ids, token_type_ids } = sequence;
    let manifest = model.manifest();
    let (seq_len, h) = (input_ids.len(), usize::from(manifest.config.hidden_size));
    let mut observer = (TraceHash::default(), HiddenStates::new(model));
    pipeline.set_ids(input_ids, token_type_ids)?;
    let mut encoded = pipeline.forward_on(threads, &mut observer)?;
    if args.pool == Pool::Pooler {
        let pooled: Vec<f32> =
            encoded.pooled()?.iter().map(|&v| libm::ldexp(f64::from(v), -POOLED_FRACTION_BITS) as f32).collect();
        output.insert_f32(format!("{name}.pooler_output"), &[h], &pooled);
    }
    if args.ids.is_some() {
        if manifest.heads.masked_lm {
            let vocab_size = manifest.config.vocab_size as usize;
            let mut logits = vec![0.0; seq_len * vocab_size];
            let positions: Vec<usize> = (0..seq_len).collect();
            encoded.masked_lm(&positions, &mut observer, |id, position, logit| {
                logits[position * vocab_size + id as usize] = logit_to_f64(logit) as f32;
            })?;
            output.insert_f32(format!("{name}.prediction_logits"), &[seq_len, vocab_size], &logits);
        }
        if manifest.heads.next_sentence {
            let logits = encoded.next_sentence(&mut observer)?.map(|logit| logit_to_f64(logit) as f32);
            output.insert_f32(format!("{name}.seq_relationship_logits"), &[2], &logits);
        }
    }
    let (trace, hidden) = observer;
    let first = if args.layers == Layers::All { 0 } else { hidden.layers.len() - 1 };
    for (layer, states) in hidden.layers.iter().enumerate().skip(first) {
        let tensor = format!("{name}.hidden.{layer}");
        match args.pool {
            Pool::None => output.insert_f32(tensor, &[seq_len, h], states),
            Pool::Cls => output.insert_f32(tensor, &[h], &states[..h]),
            Pool::Mean => output.insert_f32(tensor, &[h], &mean(states, h)),
            Pool::Pooler => {}
        }
    }
    let to_i32 = |ids: &[u32]| ids.iter().map(|&id| id as i32).collect::<Vec<_>>();
    let types: Vec<u32> = token_type_ids.iter().map(|&id| u32::from(id)).collect();
    output.insert_i32(format!("{name}.input_ids"), &[seq_len], &to_i32(input_ids));
    output.insert_i32(format!("{name}.token_type_ids"), &[seq_len], &to_i32(&types));
    Ok(hex(&trace.finish()))
}

/// Mean over the rows of a `[rows, h]` matrix.
pub fn mean(states: &[f32], h: usize) -> Vec<f32> {
    let rows = states.len() / h;
    let mut sum = vec![0.0f64; h];
    for row in states.chunks_exact(h) {
        sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sum.into_iter().map(|sum| (sum / rows as f64) as f32).collect()
}
