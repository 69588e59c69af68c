//! What is asked of a model: one sequence, and what is to be predicted from it.

use anyhow::{Context, Result, ensure};
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::model::Model;
use mbert_runtime::ops::log_sum_exp::{LogSumExp, Ratio};
use mbert_runtime::pipeline::Pipeline;

use super::masking::mask;
use super::pairs::{Pair, pairs};
use super::random::Random;
use crate::cli::EvalTask;
use crate::compare::log_sum_exp;
use crate::next_sentence::logit_to_f64;
use crate::reference::ReferenceBert;
use crate::text;

/// One sequence and what is to be predicted from it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Token ids that the model is given.
    pub input_ids: Vec<u32>,
    token_type_ids: Vec<u8>,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    /// The tokens at some positions, ascending.
    Tokens { positions: Vec<usize>, labels: Vec<u32> },
    /// Whether the second text follows the first.
    IsNext(bool),
}

/// The questions that a text gives under a seed: of every line, or of every pair of lines.
///
/// # Errors
///
/// If it gives none.
pub fn questions(model: &Model<&[u8]>, task: EvalTask, text: &str, seed: u64) -> Result<Vec<Question>> {
    let manifest = model.manifest();
    match task {
        EvalTask::Mlm => {
            let sequences = text::sequences(model, text)?.into_iter().zip(0..);
            let masked = sequences.map(|(ids, number)| {
                let mut random = Random::new(seed, number);
                let masked = mask(&ids.input_ids, &manifest.tokenizer, manifest.config.vocab_size, &mut random);
                Question {
                    input_ids: masked.input_ids,
                    token_type_ids: ids.token_type_ids,
                    answer: Answer::Tokens { positions: masked.positions, labels: masked.labels },
                }
            });
            let questions: Vec<Question> = masked.filter(|question| !question.labels().is_empty()).collect();
            ensure!(
                !questions.is_empty(),
                "it has no token to predict: the model's vocabulary knows none of its words"
            );
            Ok(questions)
        }
        EvalTask::NextSentence => {
            let pairs = pairs(text, &mut Random::new(seed, 0))?;
            let question = |pair: Pair<'_>| -> Result<Question> {
                let ids = text::sequence(model, pair.text, Some(pair.pair))?;
                let answer = Answer::IsNext(pair.is_next);
                Ok(Question { input_ids: ids.input_ids, token_type_ids: ids.token_type_ids, answer })
            };
            pairs.into_iter().map(question).collect()
        }
    }
}

impl Question {
    /// The true answers: token ids, or 0 where the second text follows and 1 where it does not.
    pub fn labels(&self) -> Vec<u32> {
        match &self.answer {
            Answer::Tokens { labels, .. } => labels.clone(),
            Answer::IsNext(is_next) => vec![u32::from(!is_next)],
        }
    }

    /// What the integer model guesses, one for each label.
    ///
    /// # Errors
    ///
    /// A model without the head that is asked.
    pub fn ask(&self, pipeline: &mut Pipeline<'_, '_, &[u8]>) -> Result<Vec<Guess>> {
        pipeline.set_ids(&self.input_ids, &self.token_type_ids)?;
        let mut encoded = pipeline.forward(&mut ())?;
        match &self.answer {
            Answer::Tokens { positions, labels } => {
                let mut found = vec![(TopK::<[TokenLogit; 1]>::default(), LogSumExp::default(), 0); positions.len()];
                encoded.masked_lm(positions, &mut (), |id, index, logit| {
                    let (top, sum, label) = &mut found[index];
                    top.push(TokenLogit { id, logit });
                    sum.add(logit);
                    if id == labels[index] {
                        *label = logit;
                    }
                })?;
                let guess = |(top, sum, label): &(TopK<[TokenLogit; 1]>, LogSumExp, i32)| Guess {
                    best: top.as_slice()[0].id,
                    loss: surprise(sum.ratio(*label)),
                };
                Ok(found.iter().map(guess).collect())
            }
            Answer::IsNext(_) => {
                let logits = encoded.next_sentence(&mut ())?.map(|logit| logit_to_f64(logit) as f32);
                Ok(vec![guess(&logits, self.labels()[0])])
            }
        }
    }

    /// What the float model guesses, one for each label.
    ///
    /// # Errors
    ///
    /// A checkpoint without the head that is asked.
    pub fn ask_reference(&self, reference: &ReferenceBert) -> Result<Vec<Guess>> {
        let output = reference.forward(&self.input_ids, &self.token_type_ids)?;
        match &self.answer {
            Answer::Tokens { positions, labels } => {
                let hidden = output.hidden.last().map_or(&[][..], Vec::as_slice);
                let width = hidden.len() / self.input_ids.len();
                let rows: Vec<f32> =
                    positions.iter().flat_map(|&position| &hidden[position * width..][..width]).copied().collect();
                let logits = reference.prediction_logits(&rows)?;
                let rows = logits.chunks_exact(logits.len() / labels.len());
                Ok(rows.zip(labels).map(|(logits, &label)| guess(logits, label)).collect())
            }
            Answer::IsNext(_) => {
                let logits = output.seq_relationship_logits.context("the checkpoint has no next-sentence head")?;
                Ok(vec![guess(&logits, self.labels()[0])])
            }
        }
    }
}

/// What a model says to one prediction.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    /// Its best answer, as in [`Question::labels`].
    pub best: u32,
    /// Negative logarithm of the probability it gives to the true answer, in nats.
    pub loss: f64,
}

/// The guess that float logits stand for. Of equal logits the first is best, as in [`TopK`].
fn guess(logits: &[f32], label: u32) -> Guess {
    let best = (1..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
    Guess { best: best as u32, loss: log_sum_exp(logits) - f64::from(logits[label as usize]) }
}

/// Negative logarithm of a probability, in nats; not through the probability, which may be too small for a float.
fn surprise(Ratio { numerator, denominator, shift }: Ratio) -> f64 {
    let loss = libm::log(denominator as f64) - libm::log(numerator.into()) + f64::from(shift) * core::f64::consts::LN_2;
    loss.max(0.0)
}
