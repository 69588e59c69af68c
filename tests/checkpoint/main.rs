//! Checkpoints in every form that Hugging Face writes, and one test for each way in which one can be refused.

mod accepted;
mod refused;
mod reference;

use std::collections::BTreeMap;
use std::path::Path;

use mbert::convert::checkpoint::Checkpoint;
use mbert_tests::tiny_checkpoint::TinyCheckpoint;
use serde_json::{Value, json};

const WORD_EMBEDDINGS: &str = "bert.embeddings.word_embeddings.weight";
const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

fn tiny() -> TinyCheckpoint {
    TinyCheckpoint::new(1)
}

fn opened(checkpoint: &TinyCheckpoint) -> Checkpoint {
    Checkpoint::open(checkpoint.write().path()).unwrap()
}

/// Opens what must be refused; every one of `expected` must be in the chain of causes.
fn assert_refused(checkpoint: &TinyCheckpoint, expected: &[&str]) {
    assert_dir_refused(checkpoint.write().path(), expected);
}

fn assert_dir_refused(dir: &Path, expected: &[&str]) {
    let Err(error) = Checkpoint::open(dir) else { panic!("accepted, although it should be refused: {expected:?}") };
    let chain = format!("{error:#}");
    for part in expected {
        assert!(chain.contains(part), "{part:?} is not in: {chain}");
    }
}

fn with_config(field: &str, value: Value) -> TinyCheckpoint {
    let mut checkpoint = tiny();
    checkpoint.config[field] = value;
    checkpoint
}

/// `tokenizer.json` with the tokens of `vocab.txt`.
fn tokenizer_json(checkpoint: &TinyCheckpoint) -> Value {
    let ids: BTreeMap<&String, usize> =
        checkpoint.vocabulary.iter().enumerate().map(|(id, token)| (token, id)).collect();
    json!({
        "normalizer": {"type": "BertNormalizer", "lowercase": false, "strip_accents": false, "handle_chinese_chars": false},
        "added_tokens": [{"id": 0, "content": "[PAD]", "special": true}],
        "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": ids},
    })
}
