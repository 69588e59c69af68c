//! What models reach on a text, as numbers, JSON and a table.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::question::Guess;
use crate::cli::EvalTask;

/// What one model reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Share of right predictions.
    pub accuracy: f64,
    /// Mean negative logarithm of the true answer's probability, in nats.
    pub loss: f64,
}

/// What the integer model reaches, and the float model on the same questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Predictions asked for.
    pub count: usize,
    /// The integer model.
    pub int8: Measure,
    /// The float model.
    pub fp32: Option<Measure>,
    /// Share of predictions, right or wrong, that are the same in both.
    pub agreement: Option<f64>,
}

impl Measure {
    fn of(labels: &[u32], guesses: &[Guess]) -> Self {
        let right = labels.iter().zip(guesses).map(|(&label, guess)| f64::from(u8::from(guess.best == label)));
        Self { accuracy: mean(right), loss: mean(guesses.iter().map(|guess| guess.loss)) }
    }

    fn mean(measures: &[Self]) -> Self {
        let accuracy = mean(measures.iter().map(|measure| measure.accuracy));
        Self { accuracy, loss: mean(measures.iter().map(|measure| measure.loss)) }
    }
}

impl Score {
    /// The score of guesses, as many as labels.
    pub fn of(labels: &[u32], int8: &[Guess], fp32: Option<&[Guess]>) -> Self {
        let agreement = |fp32: &[Guess]| {
            mean(int8.iter().zip(fp32).map(|(int8, fp32)| f64::from(u8::from(int8.best == fp32.best))))
        };
        Self {
            count: labels.len(),
            int8: Measure::of(labels, int8),
            fp32: fp32.map(|fp32| Measure::of(labels, fp32)),
            agreement: fp32.map(agreement),
        }
    }

    /// The sum of the counts, and the mean of everything else: each score weighs the same.
    pub fn mean(scores: &[Self]) -> Self {
        let all = |measure: fn(&Self) -> Option<Measure>| scores.iter().map(measure).collect::<Option<Vec<_>>>();
        let agreement: Option<Vec<f64>> = scores.iter().map(|score| score.agreement).collect();
        Self {
            count: scores.iter().map(|score| score.count).sum(),
            int8: Measure::mean(&scores.iter().map(|score| score.int8).collect::<Vec<_>>()),
            fp32: all(|score| score.fp32).map(|measures| Measure::mean(&measures)),
            agreement: agreement.map(|agreement| mean(agreement.into_iter())),
        }
    }

    /// One object; what was not measured is `null`.
    pub fn to_json(self, file: &str, task: EvalTask) -> Value {
        json!({
            "file": file,
            counted(task): self.count,
            "accuracy": self.int8.accuracy,
            "loss": self.int8.loss,
            "fp32_accuracy": self.fp32.map(|fp32| fp32.accuracy),
            "fp32_loss": self.fp32.map(|fp32| fp32.loss),
            "agreement": self.agreement,
        })
    }
}

/// Prints a table with a row for each file and, for several, their mean.
///
/// # Errors
///
/// If it cannot be written.
pub fn print(rows: &[(String, Score)], task: EvalTask, out: &mut impl Write) -> io::Result<()> {
    let mut rows = rows.to_vec();
    if rows.len() > 1 {
        let scores: Vec<Score> = rows.iter().map(|(_, score)| *score).collect();
        rows.push((format!("mean of {}", rows.len()), Score::mean(&scores)));
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let columns = |accuracy: &str, loss: &str, perplexity: &str| match task {
        EvalTask::Mlm => format!("  {accuracy:>13}  {loss:>9}  {perplexity:>15}"),
        EvalTask::NextSentence => format!("  {accuracy:>13}  {loss:>9}"),
    };
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let measure = |measure: Measure| {
        let perplexity = format!("{:.2}", libm::exp(measure.loss));
        columns(&percent(measure.accuracy), &format!("{:.4}", measure.loss), &perplexity)
    };
    write!(out, "{:width$}  {:>8}{}", "file", counted(task), columns("accuracy", "loss", "perplexity"))?;
    if rows.iter().any(|(_, score)| score.fp32.is_some()) {
        write!(out, "{}  agreement", columns("fp32 accuracy", "fp32 loss", "fp32 perplexity"))?;
    }
    writeln!(out)?;
    for (name, score) in &rows {
        write!(out, "{name:width$}  {:>8}{}", score.count, measure(score.int8))?;
        if let (Some(fp32), Some(agreement)) = (score.fp32, score.agreement) {
            write!(out, "{}  {:>9}", measure(fp32), percent(agreement))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What the predictions are called.
fn counted(task: EvalTask) -> &'static str {
    match task {
        EvalTask::Mlm => "masked",
        EvalTask::NextSentence => "pairs",
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses(best: [u32; 4], loss: f64) -> [Guess; 4] {
        best.map(|best| Guess { best, loss })
    }

    #[test]
    fn right_answers_and_agreement_are_counted_apart() {
        let (int8, fp32) = (guesses([1, 2, 3, 9], 0.5), guesses([1, 2, 8, 9], 0.25));
        let score = Score::of(&[1, 2, 3, 4], &int8, Some(&fp32));
        assert_eq!(score.int8, Measure { accuracy: 0.75, loss: 0.5 });
        assert_eq!(score.fp32, Some(Measure { accuracy: 0.5, loss: 0.25 }));
        assert_eq!((score.count, score.agreement), (4, Some(0.75)));
    }

    #[test]
    fn files_weigh_the_same_in_the_mean() {
        let one = Score::of(&[1, 2, 3, 4], &guesses([1, 2, 3, 4], 1.0), None);
        let other = Score::of(&[1], &guesses([0; 4], 2.0)[..1], None);
        let mean = Score::mean(&[one, other]);
        assert_eq!((mean.count, mean.int8), (5, Measure { accuracy: 0.5, loss: 1.5 }));
        assert_eq!((mean.fp32, mean.agreement), (None, None));
        let mut out = Vec::new();
        print(&[("a".into(), one), ("b.txt".into(), other)], EvalTask::Mlm, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().count(), 4);
        assert!(out.lines().last().unwrap().starts_with("mean of 2"), "{out}");
        assert!(out.contains("perplexity") && !out.contains("fp32"), "{out}");
    }
}
