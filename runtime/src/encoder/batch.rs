//! Several sequences together: each piece of the weights is read for all of them before the next.
//!
//! None of them knows of the others, so each gets the bits that it gets alone, whatever their lengths.

use super::Forward;
use super::schedule::Stage;
use crate::error::ForwardError;
use crate::storage::Storage;

impl<S: Storage> Forward<'_, S> {
    /// Does all the steps of several sequences; each can be [finished](Self::finish) then.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn run_together(forwards: &mut [Self]) -> Result<(), ForwardError> {
        let place = |forward: &Self| forward.next_stage().map(|(layer, stage)| (layer, place(stage)));
        // Whoever has the least place takes its steps there; so all are at the same weights one after the other.
        while let Some(next) = forwards.iter().filter_map(place).min() {
            for forward in forwards.iter_mut() {
                while place(forward) == Some(next) {
                    forward.step(&mut ())?;
                }
            }
        }
        Ok(())
    }
}

/// A stage's place in a layer, the same whatever the length of a sequence: ascending in the order of the schedule.
fn place(stage: Stage) -> (usize, usize, usize, usize) {
    match stage {
        Stage::Embeddings { .. } => (0, 0, 0, 0),
        Stage::EmbeddingsNorm { chunk } => (1, chunk, 0, 0),
        Stage::QkvInput => (2, 0, 0, 0),
        Stage::Qkv { head, part, tile } => (3, head, part, tile),
        // Behind the three parts of its head.
        Stage::Attention { head, .. } => (3, head, 3, 0),
        Stage::Context => (4, 0, 0, 0),
        Stage::AttentionOutput { tile } => (5, tile, 0, 0),
        Stage::AttentionNorm { chunk } => (6, chunk, 0, 0),
        Stage::IntermediateInput { pass } => (7, pass, 0, 0),
        Stage::Intermediate { pass, tile } => (7, pass, 1, tile),
        Stage::Output { pass, tile } => (7, pass, 2, tile),
        Stage::OutputNorm { pass, chunk } => (7, pass, 3, chunk),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::steps;
    use super::*;
    use crate::config::{BertConfig, HiddenAct};

    #[test]
    fn places_ascend_from_step_to_step() {
        let config = BertConfig {
            vocab_size: 100,
            hidden_size: 96,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            intermediate_size: 200,
            max_position_embeddings: 64,
            type_vocab_size: 2,
            hidden_act: HiddenAct::Gelu,
        };
        for (tokens, passes, window_bytes) in [(1, 1, usize::MAX), (33, 1, 128), (33, 3, 512)] {
            let places = || steps(&config, tokens, passes, window_bytes).map(|(layer, stage)| (layer, place(stage)));
            assert!(places().zip(places().skip(1)).all(|(one, next)| one <= next), "{tokens} tokens");
        }
    }
}
