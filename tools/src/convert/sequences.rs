//! What calibration reads: lines of text or token ids, as sequences for the model.

use std::fs;

use anyhow::{Context, Result, ensure};
use mbert_runtime::tokenizer::{Encoding, Tokenizer, Truncation, Vocab};

use super::calibrate::Sequence;
use super::checkpoint::Checkpoint;
use super::{Calibration, sha256};
use crate::golden::read_ids;
use crate::text;

/// Text that is used where the user gives none.
const BUILT_IN: &str = include_str!("calibration.txt");
/// More lines than these are thinned out evenly: the maxima hardly change, the time does.
const MAX_SEQUENCES: usize = 1024;
/// With more than one [UNK] in so many tokens, a text says nothing about the model.
const LARGEST_UNKNOWN_SHARE: usize = 5;

/// Calibration sequences and the hash of what they were read from.
pub struct Sequences {
    pub sequences: Vec<Sequence>,
    pub sha256: [u8; 32],
}

impl Sequences {
    /// Reads them; `None` where smoothing is to be skipped, with a note that says why.
    pub fn read(
        calibration: &Calibration,
        checkpoint: &Checkpoint,
        vocabulary: &[u8],
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        match calibration {
            Calibration::BuiltIn => from_text(BUILT_IN, "the built-in text", checkpoint, vocabulary, notes),
            Calibration::Text(path) => {
                from_text(&text::read(path)?, &path.display().to_string(), checkpoint, vocabulary, notes)
            }
            Calibration::Ids(path) => {
                let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                let sequences: Vec<Sequence> = read_ids(path)?
                    .into_iter()
                    .map(|ids| Sequence { input_ids: ids.input_ids, token_type_ids: ids.token_type_ids })
                    .collect();
                ensure!(!sequences.is_empty(), "{} holds no N.input_ids", path.display());
                let sequences = thin_out(sequences, &path.display().to_string(), notes);
                Ok(Some(Self { sequences, sha256: sha256(&bytes) }))
            }
        }
    }
}

fn from_text(
    text: &str,
    source: &str,
    checkpoint: &Checkpoint,
    vocabulary: &[u8],
    notes: &mut Vec<String>,
) -> Result<Option<Sequences>> {
    let vocab = Vocab::open(vocabulary).context("the vocabulary cannot be searched")?;
    let tokenizer = Tokenizer::new(vocab, checkpoint.tokenizer).context("the tokenizer cannot be set up")?;
    let max = usize::from(checkpoint.config.max_position_embeddings);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut sequences = Vec::new();
    for line in thin_out(lines, source, notes) {
        let (mut input_ids, mut token_type_ids) = (vec![0; max], vec![0; max]);
        let mut encoding = Encoding::new(&mut input_ids).with_token_type_ids(&mut token_type_ids);
        tokenizer.encode(line, None, Truncation::LongestFirst, &mut encoding)?;
        let len = encoding.len();
        input_ids.truncate(len);
        token_type_ids.truncate(len);
        sequences.push(Sequence { input_ids, token_type_ids });
    }
    let tokens: usize = sequences.iter().map(|sequence| sequence.input_ids.len().saturating_sub(2)).sum();
    let is_unknown = |id: &&u32| **id == checkpoint.tokenizer.unk_token_id;
    let unknown: usize = sequences.iter().map(|sequence| sequence.input_ids.iter().filter(is_unknown).count()).sum();
    if unknown * LARGEST_UNKNOWN_SHARE > tokens {
        notes.push(format!(
            "{unknown} of {tokens} tokens of {source} are unknown to this vocabulary: not smoothed; give text of the \
             model's own kind with --calibrate, or ids with --calibrate-ids"
        ));
        return Ok(None);
    }
    Ok(Some(Sequences { sequences, sha256: sha256(text.as_bytes()) }))
}

/// At most `MAX_SEQUENCES`, evenly spaced.
fn thin_out<T>(items: Vec<T>, source: &str, notes: &mut Vec<String>) -> Vec<T> {
    let count = items.len();
    if count <= MAX_SEQUENCES {
        return items;
    }
    notes.push(format!("{source}: {MAX_SEQUENCES} of {count} sequences are used, evenly spaced"));
    let kept = |index: usize| index * MAX_SEQUENCES / count != (index + 1) * MAX_SEQUENCES / count;
    items.into_iter().enumerate().filter(|(index, _)| kept(*index)).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_out_keeps_exactly_the_limit() {
        for count in [1024, 1025, 2000, 5000, 100_001] {
            let mut notes = Vec::new();
            assert_eq!(thin_out((0..count).collect(), "x", &mut notes).len(), MAX_SEQUENCES);
            assert_eq!(notes.is_empty(), count == 1024);
        }
    }
}
