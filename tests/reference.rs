//! The float reference against every hidden state and every logit that Hugging Face transformers gave.
//!
//! The checkpoints are float16 copies, the golden outputs those of the float32 originals: what remains is the rounding of
//! the weights. The seeded checkpoint has no original, but its golden hidden states are themselves rounded to float16.

use std::collections::BTreeMap;
use std::path::Path;

use mbert::built_in::BuiltIn;
use mbert::convert::checkpoint::Checkpoint;
use mbert::golden::{Ids, read_ids};
use mbert::reference::{ReferenceBert, ReferenceOutput};
use mbert_tests::models::built_in_directory;
use mbert_tests::{geometry, shared};
use safetensors::SafeTensors;

/// Largest difference of a logit.
const LOGIT_TOLERANCE: f32 = 0.01;
/// Largest difference of a value of a hidden state, of its root mean square, and of a row's cosine from 1, for weights that
/// were rounded to float16.
const HIDDEN_TOLERANCE: f32 = 0.01;
const HIDDEN_RMS_TOLERANCE: f64 = 0.001;
const HIDDEN_COSINE_TOLERANCE: f64 = 3e-6;

/// A golden file, by tensor name.
struct Golden {
    floats: BTreeMap<String, Vec<f32>>,
    integers: BTreeMap<String, Vec<i32>>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut golden = Self { floats: BTreeMap::new(), integers: BTreeMap::new() };
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let words = view.data().as_chunks().0.iter();
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    golden.floats.insert(name.into(), words.map(|&four| f32::from_le_bytes(four)).collect());
                }
                safetensors::Dtype::I32 => {
                    golden.integers.insert(name.into(), words.map(|&four| i32::from_le_bytes(four)).collect());
                }
                other => panic!("{name} is {other}"),
            }
        }
        golden
    }

    fn sequence(&self, ids: &Ids) -> impl Iterator<Item = (&str, &[f32])> {
        let prefix = format!("{}.", ids.name);
        self.floats.iter().filter_map(move |(name, values)| Some((name.strip_prefix(&prefix)?, values.as_slice())))
    }
}

/// Runs every sequence of a golden file and compares every float in it.
fn check(dir: &Path, golden_path: &Path, check_hidden: fn(&str, &[f32], &[f32], usize)) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let hidden_size = usize::from(checkpoint.config.hidden_size);
    let model = ReferenceBert::load(&checkpoint).unwrap();
    let golden = Golden::read(golden_path);
    let mut compared = 0;
    for ids in read_ids(golden_path).unwrap() {
        let output = model.forward(&ids.input_ids, &ids.token_type_ids).unwrap();
        for (name, expected) in golden.sequence(&ids) {
            let place = format!("{} {}.{name}", dir.display(), ids.name);
            if let Some(layer) = name.strip_prefix("hidden.") {
                let layer: usize = layer.parse().unwrap();
                check_hidden(&place, &output.hidden[layer], expected, hidden_size);
            } else if name == "seq_relationship_logits" {
                check_logits(&place, &output.seq_relationship_logits.unwrap(), expected);
            } else if name == "prediction_logits" {
                check_logits(&place, &model.prediction_logits(output.hidden.last().unwrap()).unwrap(), expected);
            } else if name == "logits" {
                check_logits(&place, &classifier_logits(&checkpoint, &output), expected);
            } else {
                let integers = |name: &str| golden.integers.get(&format!("{}.{name}", ids.name));
                check_top(&place, &model, &output, expected, integers, hidden_size);
            }
            compared += 1;
        }
    }
    assert_eq!(compared, golden.floats.len(), "every float tensor is compared");
}

/// `logits.top_values`, and `logits.logsumexp`: at all positions, or at those of `mask_positions`.
fn check_top<'a>(
    place: &str,
    model: &ReferenceBert,
    output: &ReferenceOutput,
    expected: &[f32],
    integers: impl Fn(&str) -> Option<&'a Vec<i32>>,
    hidden_size: usize,
) {
    let last = output.hidden.last().unwrap();
    let rows: Vec<&[f32]> = last.chunks(hidden_size).collect();
    let positions = match integers("mask_positions") {
        Some(positions) => positions.iter().map(|&position| position as usize).collect(),
        None => (0..rows.len()).collect::<Vec<_>>(),
    };
    let count = expected.len() / positions.len();
    for (number, position) in positions.into_iter().enumerate() {
        let logits = model.prediction_logits(rows[position]).unwrap();
        let expected = &expected[number * count..][..count];
        if place.ends_with(".logits.logsumexp") {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            check_logits(place, &[sum.ln() as f32], expected);
        } else {
            assert!(place.ends_with(".logits.top_values"), "{place} is not known");
            let ids = &integers("logits.top_ids").unwrap()[number * count..][..count];
            let found: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
            check_logits(place, &found, expected);
            let best = logits.iter().copied().fold(f32::MIN, f32::max);
            assert!(best - found[0] <= LOGIT_TOLERANCE, "{place}: another token is best");
        }
    }
}

/// The head that `convert` drops: one linear layer on every position.
fn classifier_logits(checkpoint: &Checkpoint, output: &ReferenceOutput) -> Vec<f32> {
    let weight = checkpoint.tensor("classifier.weight").unwrap();
    let (bias, rows) = (checkpoint.tensor("classifier.bias").unwrap().to_vec(), weight.to_vec());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let positions = output.hidden.last().unwrap().chunks(weight.row_len());
    positions
        .flat_map(|hidden| rows.chunks(hidden.len()).zip(&bias).map(move |(row, bias)| dot(row, hidden) + bias))
        .collect()
}

fn check_logits(place: &str, found: &[f32], expected: &[f32]) {
    let worst = worst_difference(place, found, expected);
    assert!(worst <= LOGIT_TOLERANCE, "{place}: a logit is off by {worst}");
}

/// For weights that were rounded to float16.
fn check_rounded_model(place: &str, found: &[f32], expected: &[f32], hidden_size: usize) {
    let worst = worst_difference(place, found, expected);
    assert!(worst <= HIDDEN_TOLERANCE, "{place}: a value is off by {worst}");
    let squares = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2));
    let rms = (squares.sum::<f64>() / found.len() as f64).sqrt();
    assert!(rms <= HIDDEN_RMS_TOLERANCE, "{place}: the root mean square difference is {rms}");
    for (found, expected) in found.chunks(hidden_size).zip(expected.chunks(hidden_size)) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
        assert!(1.0 - cosine <= HIDDEN_COSINE_TOLERANCE, "{place}: a row's cosine is {cosine}");
    }
}

/// For golden hidden states that were rounded to float16: half a unit in the last place, and float32's own noise.
fn check_rounded_golden(place: &str, found: &[f32], expected: &[f32], _hidden_size: usize) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let tolerance = expected.abs() / 2048.0 + 2e-5;
        assert!((found - expected).abs() <= tolerance, "{place}: {found} instead of {expected} at {index}");
    }
}

fn worst_difference(place: &str, found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "{place}");
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check_model(name: &str) {
    let Some(dir) = shared(&format!("models/{name}")) else { return };
    check(&dir, &dir.join("golden.safetensors"), check_rounded_model);
}

#[test]
fn built_in_models_give_the_golden_hidden_states_and_logits_of_both_heads() {
    for model in BuiltIn::ALL {
        let dir = built_in_directory(model);
        check(&dir, &dir.join("golden.safetensors"), check_rounded_model);
    }
}

#[test]
fn splade_tiny_gives_the_golden_hidden_states_and_logits() {
    check_model("splade-tiny-mlm");
}

#[test]
fn rxnfp_gives_the_golden_hidden_states_and_logits_of_both_heads() {
    check_model("rxnfp-bert-mlm");
}

#[test]
fn minilm_gives_the_golden_hidden_states() {
    check_model("all-MiniLM-L6-v2");
}

#[test]
fn rampart_gives_the_golden_hidden_states_and_label_logits() {
    check_model("rampart-ner");
}

#[test]
fn full_mbert_geometry_gives_the_golden_hidden_states_and_logits() {
    let Some(golden) = shared("mbert-geometry/golden.safetensors") else { return };
    let Some(dir) = geometry::checkpoint(Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    check(&dir, &golden, check_rounded_golden);
}
