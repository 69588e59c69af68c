//! Odd shapes, other activations and broken weights: the conversion stays close to the float model, and never panics.

use std::path::Path;

use indicatif::ProgressBar;
use mbert::compare::{Comparison, compare};
use mbert::convert::checkpoint::Checkpoint;
use mbert::convert::{Calibration, Options, convert};
use mbert::golden::Ids;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::available;
use mbert_runtime::model::Model;
use mbert_tests::tiny_checkpoint::{TinyCheckpoint, TinyTensor};

fn converted(dir: &Path, layout: WeightLayout) -> Vec<u8> {
    let options = Options { calibration: Calibration::BuiltIn, layout, ..Default::default() };
    convert(&Checkpoint::open(dir).unwrap(), &options, &ProgressBar::hidden()).unwrap().blob
}

/// Some sequences of random ids.
fn sequences() -> Vec<Ids> {
    let sequence = |number: u64| {
        let len = 3 + 9 * number as usize;
        let id = |position| (mbert_tests::splitmix64(number, position) % 60) as u32;
        Ids {
            name: number.to_string(),
            input_ids: (0..len as u64).map(id).collect(),
            token_type_ids: (0..len).map(|position| u8::from(2 * position > len)).collect(),
        }
    };
    (0..4).map(sequence).collect()
}

/// Converts and compares, with every table of kernels; all of them agree to the bit.
fn comparison(checkpoint: &TinyCheckpoint) -> Comparison {
    let dir = checkpoint.write();
    let blob = converted(dir.path(), WeightLayout::RowMajor);
    let model = Model::open(&blob[..]).unwrap();
    model.verify().unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let run = |kernels| compare(&model, kernels, &checkpoint, &sequences(), &ProgressBar::hidden()).unwrap();
    let comparisons: Vec<Comparison> = available().map(run).collect();
    for other in &comparisons {
        assert_eq!(format!("{other:?}"), format!("{:?}", comparisons[0]));
    }
    comparisons.into_iter().next().unwrap()
}

fn assert_close(comparison: &Comparison, min_cosine: f64) {
    for layer in &comparison.layers {
        assert!(layer.min_cosine > min_cosine, "{comparison:#?}");
    }
}

#[test]
fn odd_shapes_stay_close_to_float() {
    // Heads that are no whole tiles, a last group of 44 channels, fewer channels than a tile, one head.
    for (hidden_size, intermediate_size, heads) in [(30, 300, 3), (32, 256, 2), (6, 7, 2), (48, 600, 1), (272, 512, 17)]
    {
        let comparison = comparison(&TinyCheckpoint::with_sizes(7, hidden_size, intermediate_size, heads));
        // Random weights attend sharply, which amplifies every error: a wrong formula would fall far below.
        assert_close(&comparison, 0.98);
    }
}

#[test]
fn every_activation_stays_close_to_float() {
    for hidden_act in ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"] {
        let mut checkpoint = TinyCheckpoint::new(3);
        checkpoint.config["hidden_act"] = hidden_act.into();
        assert_close(&comparison(&checkpoint), 0.997);
    }
}

#[test]
fn packed_weights_give_the_bits_of_row_major_ones() {
    let dir = TinyCheckpoint::with_sizes(5, 64, 320, 4).write();
    let blobs = WeightLayout::ALL.map(|layout| converted(dir.path(), layout));
    let cases = blobs.each_ref().map(|blob| {
        let model = Model::open(&blob[..]).unwrap();
        let section = model.sections().nth(1).unwrap();
        model.section_bytes(&section).to_vec()
    });
    assert_ne!(blobs[0], blobs[1]);
    assert_eq!(cases[0], cases[1], "the self-tests hold trace hashes");
}

fn scaled(name_ends: &str, factor: f32) -> TinyCheckpoint {
    let mut checkpoint = TinyCheckpoint::new(11);
    for (name, tensor) in &mut checkpoint.tensors {
        if name.ends_with(name_ends) && name.contains("encoder") {
            let values = tensor.bytes.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()) * factor);
            *tensor = TinyTensor::f32(&tensor.shape.clone(), &values.collect::<Vec<_>>());
        }
    }
    checkpoint
}

#[test]
fn layers_of_zeros_are_converted_and_stay_close() {
    for name in ["self.value.weight", "self.query.weight", "dense.weight", "weight"] {
        // Layer norms of zero weight leave nothing but their bias.
        assert_close(&comparison(&scaled(name, 0.0)), 0.997);
    }
}

#[test]
fn large_and_small_weights_are_converted_and_stay_close() {
    for (factor, min_cosine) in [(1e-4, 0.997), (3.0, 0.9)] {
        assert_close(&comparison(&scaled("dense.weight", factor)), min_cosine);
    }
}

#[test]
fn absurdly_large_weights_are_converted_or_refused_without_panic() {
    for factor in [1e6, 1e20, 1e30] {
        let dir = scaled("dense.weight", factor).write();
        let options =
            Options { calibration: Calibration::BuiltIn, layout: WeightLayout::RowMajor, ..Default::default() };
        let checkpoint = Checkpoint::open(dir.path());
        match checkpoint.and_then(|checkpoint| convert(&checkpoint, &options, &ProgressBar::hidden())) {
            Ok(converted) => Model::open(&converted.blob[..]).unwrap().verify().unwrap(),
            Err(error) => println!("{error:#}"),
        }
    }
}
