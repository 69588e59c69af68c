//! `mbert compare`: the model beside the float checkpoint that it was converted from, on the same inputs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use serde::Serialize;

use crate::cli::CompareArgs;
use crate::convert::checkpoint::Checkpoint;
use crate::golden::{Ids, read_ids};
use crate::hidden_states::HiddenStates;
use crate::model_file;
use crate::next_sentence::logit_to_f64;
use crate::reference::ReferenceBert;
use crate::text;

/// Exit status of a comparison that misses its bar.
const MISSED: u8 = 1;
/// Size of the sets whose overlap is the "top 5" figure.
const TOP: usize = 5;

/// Cosine between our hidden states and the float ones, over all tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LayerCosine {
    /// 0 = embeddings.
    pub layer: usize,
    /// Mean over the tokens.
    pub mean_cosine: f64,
    /// Worst token.
    pub min_cosine: f64,
}

/// How the masked-LM head agrees, over all positions.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MaskedLmAgreement {
    /// Positions compared.
    pub positions: usize,
    /// Share of positions with the same best token.
    pub top1_agreement: f64,
    /// Mean share of the five best tokens that both have.
    pub top5_agreement: f64,
    /// Mean Kullback-Leibler divergence of ours from the float distribution, in nats.
    pub kl_divergence: f64,
}

/// How the next-sentence head agrees.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct NextSentenceAgreement {
    /// Sequences compared.
    pub sequences: usize,
    /// Sequences with the same decision.
    pub same_decision: usize,
}

/// The input whose last hidden states differ most.
#[derive(Clone, Debug, Serialize)]
pub struct WorstInput {
    /// Its number or text.
    pub input: String,
    /// Its worst token's cosine in the last layer.
    pub min_cosine: f64,
}

/// Everything that `compare` found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Tokens compared.
    pub tokens: usize,
    /// Layer by layer.
    pub layers: Vec<LayerCosine>,
    /// If the model has this head.
    pub masked_lm: Option<MaskedLmAgreement>,
    /// If the model has this head.
    pub next_sentence: Option<NextSentenceAgreement>,
    /// Worst input.
    pub worst: WorstInput,
}

/// Runs the command.
///
/// # Errors
///
/// A model or checkpoint that cannot be opened or do not belong together, bad input.
pub fn run(args: &CompareArgs, out: &mut impl Write) -> Result<ExitCode> {
    let checkpoint = Checkpoint::open(args.checkpoint.clone())?;
    let (file, kernels) = args.model.open_or_convert(&checkpoint)?;
    let model = file.model()?;
    let sequences = match (&args.ids, &args.text) {
        (Some(path), _) => read_ids(path)?,
        (None, Some(path)) => text::sequences(&model, &text::read(path)?)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let progress = ProgressBar::new(sequences.len() as u64);
    let comparison = compare(&model, kernels, &checkpoint, &sequences, &progress)?;
    progress.finish_and_clear();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&comparison)?)?;
    } else {
        print(&comparison, out)?;
    }
    let reached = comparison.layers.last().map_or(1.0, |last| last.mean_cosine);
    match args.min_cosine {
        Some(wanted) if reached < wanted || reached.is_nan() => {
            eprintln!("mbert: the mean cosine is {reached:.6}, lower than {wanted}");
            Ok(ExitCode::from(MISSED))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Runs both on every sequence.
///
/// # Errors
///
/// If model and checkpoint differ in geometry, or an id is out of range.
pub fn compare(
    model: &Model<&[u8]>,
    kernels: &'static Kernels,
    checkpoint: &Checkpoint,
    sequences: &[Ids],
    progress: &ProgressBar,
) -> Result<Comparison> {
    let manifest = model.manifest();
    check_belongs(model, checkpoint)?;
    let reference = ReferenceBert::load(checkpoint)?;
    let (h, v) = (usize::from(manifest.config.hidden_size), manifest.config.vocab_size as usize);
    let longest = sequences.iter().map(|sequence| sequence.input_ids.len()).max().unwrap_or(1);
    let mut memory = model_file::memory(model, longest);
    let mut pipeline = Pipeline::new(model, kernels, &mut memory)?;
    let layers = usize::from(manifest.config.num_hidden_layers) + 1;
    let mut cosines = vec![(0.0, f64::INFINITY); layers];
    let mut tokens = 0;
    let mut masked_lm = MaskedLmAgreement::default();
    let mut next_sentence = NextSentenceAgreement::default();
    let mut worst = WorstInput { input: String::new(), min_cosine: f64::INFINITY };
    for sequence in sequences {
        let context = || format!("sequence {:?}", sequence.name);
        let float = reference.forward(&sequence.input_ids, &sequence.token_type_ids).with_context(context)?;
        pipeline.set_ids(&sequence.input_ids, &sequence.token_type_ids).with_context(context)?;
        let mut ours = HiddenStates::new(model);
        let mut encoded = pipeline.forward(&mut ours).with_context(context)?;
        let seq_len = sequence.input_ids.len();
        tokens += seq_len;
        for (layer, ((sum, min), (ours, float))) in
            cosines.iter_mut().zip(ours.layers.iter().zip(&float.hidden)).enumerate()
        {
            for (ours, float) in ours.chunks_exact(h).zip(float.chunks_exact(h)) {
                let cosine = cosine(ours, float);
                *sum += cosine;
                *min = f64::min(*min, cosine);
                if layer == layers - 1 && cosine < worst.min_cosine {
                    worst = WorstInput { input: sequence.name.clone(), min_cosine: cosine };
                }
            }
        }
        if manifest.heads.masked_lm {
            // A few positions at a time: logits of 119,547 tokens are large.
            let float_hidden = float.hidden.last().map_or(&[][..], Vec::as_slice);
            for first in (0..seq_len).step_by(16) {
                let positions: Vec<usize> = (first..(first + 16).min(seq_len)).collect();
                let float = reference.prediction_logits(&float_hidden[first * h..][..positions.len() * h])?;
                let mut ours = vec![0.0f32; positions.len() * v];
                encoded.masked_lm(&positions, &mut (), |id, index, logit| {
                    ours[index * v + id as usize] = logit_to_f64(logit) as f32;
                })?;
                for (ours, float) in ours.chunks_exact(v).zip(float.chunks_exact(v)) {
                    masked_lm.add(ours, float);
                }
            }
        }
        if let Some([is_next, is_not_next]) = float.seq_relationship_logits
            && manifest.heads.next_sentence
        {
            let ours = encoded.next_sentence(&mut ())?;
            next_sentence.sequences += 1;
            next_sentence.same_decision += usize::from((ours[0] > ours[1]) == (is_next > is_not_next));
        }
        progress.inc(1);
    }
    let layers = cosines.into_iter().enumerate().map(|(layer, (sum, min_cosine))| LayerCosine {
        layer,
        mean_cosine: sum / tokens as f64,
        min_cosine,
    });
    Ok(Comparison {
        tokens,
        layers: layers.collect(),
        masked_lm: manifest.heads.masked_lm.then(|| masked_lm.mean()),
        next_sentence: manifest.heads.next_sentence.then_some(next_sentence),
        worst,
    })
}

/// Checks that a checkpoint may be compared with a model.
///
/// # Errors
///
/// If they differ in their configuration.
pub fn check_belongs(model: &Model<&[u8]>, checkpoint: &Checkpoint) -> Result<()> {
    ensure!(
        model.manifest().config == checkpoint.config,
        "model and checkpoint differ in their configuration: compare with the checkpoint that the model was converted from"
    );
    Ok(())
}

impl MaskedLmAgreement {
    /// Adds one position.
    fn add(&mut self, ours: &[f32], float: &[f32]) {
        let (our_best, float_best) = (best(ours), best(float));
        self.positions += 1;
        self.top1_agreement += f64::from(u8::from(our_best[0] == float_best[0]));
        let both = our_best.iter().filter(|id| float_best.contains(id)).count();
        self.top5_agreement += both as f64 / our_best.len() as f64;
        let (our_sum, float_sum) = (log_sum_exp(ours), log_sum_exp(float));
        let divergence = ours.iter().zip(float).map(|(&ours, &float)| {
            let (q, p) = (f64::from(ours) - our_sum, f64::from(float) - float_sum);
            libm::exp(p) * (p - q)
        });
        self.kl_divergence += divergence.sum::<f64>();
    }

    /// Sums to means.
    fn mean(self) -> Self {
        let n = self.positions.max(1) as f64;
        Self {
            positions: self.positions,
            top1_agreement: self.top1_agreement / n,
            top5_agreement: self.top5_agreement / n,
            kl_divergence: self.kl_divergence / n,
        }
    }
}

/// Ids of the five largest logits, largest first.
fn best(logits: &[f32]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(TOP + 1);
    for (id, &logit) in logits.iter().enumerate() {
        if best.len() < TOP || best.last().is_some_and(|&worst| logit > logits[worst]) {
            let at = best.partition_point(|&better| logits[better] >= logit);
            best.insert(at, id);
            best.truncate(TOP);
        }
    }
    best
}

/// `ln Σ exp(logit)`.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit - largest))).sum();
    f64::from(largest) + libm::log(sum)
}

/// Cosine of the angle between two vectors; 1 for two zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norms = libm::sqrt(dot(a, a) * dot(b, b));
    if norms == 0.0 { f64::from(u8::from(a == b)) } else { dot(a, b) / norms }
}

fn print(comparison: &Comparison, out: &mut impl Write) -> Result<()> {
    writeln!(out, "layer  mean cosine  min cosine")?;
    for layer in &comparison.layers {
        writeln!(out, "{:>5}  {:>11.6}  {:>10.6}", layer.layer, layer.mean_cosine, layer.min_cosine)?;
    }
    if let Some(masked_lm) = comparison.masked_lm {
        writeln!(
            out,
            "masked LM over {} positions: same best token {:.2} %, five best shared {:.2} %, KL divergence {:.5} nats",
            masked_lm.positions,
            masked_lm.top1_agreement * 100.0,
            masked_lm.top5_agreement * 100.0,
            masked_lm.kl_divergence
        )?;
    }
    if let Some(next_sentence) = comparison.next_sentence {
        writeln!(
            out,
            "next sentence: same decision for {} of {}",
            next_sentence.same_decision, next_sentence.sequences
        )?;
    }
    writeln!(
        out,
        "{} tokens; worst input ({:.6}): {}",
        comparison.tokens, comparison.worst.min_cosine, comparison.worst.input
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_agrees_with_itself() {
        let logits: Vec<f32> = (0..100).map(|i| ((i * 37) % 101) as f32 * 0.1).collect();
        let mut agreement = MaskedLmAgreement::default();
        agreement.add(&logits, &logits);
        let mean = agreement.mean();
        assert_eq!((mean.top1_agreement, mean.top5_agreement), (1.0, 1.0));
        assert!(mean.kl_divergence.abs() < 1e-12);
    }

    #[test]
    fn opposite_models_disagree() {
        let logits: Vec<f32> = (0..100).map(|i| i as f32 * 0.1).collect();
        let opposite: Vec<f32> = logits.iter().map(|logit| -logit).collect();
        let mut agreement = MaskedLmAgreement::default();
        agreement.add(&logits, &opposite);
        let mean = agreement.mean();
        assert_eq!((mean.top1_agreement, mean.top5_agreement), (0.0, 0.0));
        assert!(mean.kl_divergence > 1.0);
        assert_eq!(best(&logits), [99, 98, 97, 96, 95]);
    }

    #[test]
    fn cosine_knows_direction_and_zeros() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-12);
        assert_eq!((cosine(&[0.0], &[0.0]), cosine(&[0.0], &[1.0])), (1.0, 0.0));
    }
}
