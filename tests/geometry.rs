//! A checkpoint of full size, made from a seed: the geometry of bert-base-multilingual-cased with weights that mean nothing.
//!
//! Value for value what `shared/mbert-geometry/make.py` writes, so that the golden outputs beside that script apply to it.
//! Tensor number t, in the order of names, draws from SplitMix64 seeded with t; the four 16-bit fields of a word are summed
//! to approximate a normal. A few residual channels get a large bias, as trained models have them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::{Dtype, View};

const HIDDEN_SIZE: usize = 768;
const INTERMEDIATE_SIZE: usize = 3072;
const LAYERS: usize = 12;
const VOCAB_SIZE: usize = 119_547;
const POSITIONS: usize = 512;
/// Residual channels, and what each layer's feed-forward bias adds to them.
const OUTLIERS: [(usize, f32); 3] = [(145, 6.0), (308, -9.0), (381, 4.0)];

const CONFIG: &str = r#"{
 "architectures": ["BertForPreTraining"], "model_type": "bert", "vocab_size": 119547, "hidden_size": 768,
 "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
 "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
 "position_embedding_type": "absolute", "tie_word_embeddings": true
}"#;
const TOKENIZER_CONFIG: &str = r#"{"do_lower_case": false, "strip_accents": null, "tokenize_chinese_chars": true}"#;

/// The directory of the checkpoint, made under `cache` unless it is there already: 357 MB in float16.
///
/// `None` where the genuine vocabulary is absent (see [`crate::shared`]).
///
/// # Panics
///
/// If it cannot be written.
pub fn checkpoint(cache: &Path) -> Option<PathBuf> {
    let vocabulary = crate::shared("vocabs/bert-base-multilingual-cased.vocab.txt")?;
    let dir = cache.join("mbert-geometry-f16");
    let weights = dir.join("model.safetensors");
    if !weights.exists() {
        fs::create_dir_all(&dir).expect("the cache can be written to");
        fs::write(dir.join("config.json"), CONFIG).expect("the cache can be written to");
        fs::write(dir.join("tokenizer_config.json"), TOKENIZER_CONFIG).expect("the cache can be written to");
        let tokens = fs::read(vocabulary).expect("the vocabulary can be read");
        fs::write(dir.join("vocab.txt"), tokens).expect("the cache can be written to");
        write_weights(&weights);
    }
    Some(dir)
}

fn write_weights(path: &Path) {
    let tensors = shapes().into_iter().enumerate().map(|(number, (name, shape))| {
        let tensor = SeededTensor { seed: number as u64, name: name.clone(), shape };
        (name, tensor)
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    // The name appears last, so that a second test that looks for it meanwhile finds it whole or not at all.
    let parts = path.with_extension(format!("{}.part", std::process::id()));
    safetensors::serialize_to_file(tensors, metadata, &parts).expect("the cache has 357 MB of space");
    fs::rename(parts, path).expect("the cache can be written to");
}

/// Every tensor's shape, by name.
fn shapes() -> BTreeMap<String, Vec<usize>> {
    fn linear(shapes: &mut BTreeMap<String, Vec<usize>>, name: &str, outputs: usize, inputs: usize) {
        shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
        shapes.insert(format!("{name}.bias"), vec![outputs]);
    }
    fn layer_norm(shapes: &mut BTreeMap<String, Vec<usize>>, name: &str) {
        shapes.insert(format!("{name}.weight"), vec![HIDDEN_SIZE]);
        shapes.insert(format!("{name}.bias"), vec![HIDDEN_SIZE]);
    }
    let mut shapes = BTreeMap::new();
    for (name, rows) in [("word", VOCAB_SIZE), ("position", POSITIONS), ("token_type", 2)] {
        shapes.insert(format!("bert.embeddings.{name}_embeddings.weight"), vec![rows, HIDDEN_SIZE]);
    }
    layer_norm(&mut shapes, "bert.embeddings.LayerNorm");
    for layer in 0..LAYERS {
        let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            linear(&mut shapes, &name(part), HIDDEN_SIZE, HIDDEN_SIZE);
        }
        layer_norm(&mut shapes, &name("attention.output.LayerNorm"));
        linear(&mut shapes, &name("intermediate.dense"), INTERMEDIATE_SIZE, HIDDEN_SIZE);
        linear(&mut shapes, &name("output.dense"), HIDDEN_SIZE, INTERMEDIATE_SIZE);
        layer_norm(&mut shapes, &name("output.LayerNorm"));
    }
    linear(&mut shapes, "bert.pooler.dense", HIDDEN_SIZE, HIDDEN_SIZE);
    linear(&mut shapes, "cls.predictions.transform.dense", HIDDEN_SIZE, HIDDEN_SIZE);
    layer_norm(&mut shapes, "cls.predictions.transform.LayerNorm");
    shapes.insert("cls.predictions.bias".into(), vec![VOCAB_SIZE]);
    linear(&mut shapes, "cls.seq_relationship", 2, HIDDEN_SIZE);
    shapes
}

/// A tensor whose values are drawn when they are written.
struct SeededTensor {
    seed: u64,
    name: String,
    shape: Vec<usize>,
}

impl SeededTensor {
    fn values(&self) -> Vec<f32> {
        let is_norm_weight = self.name.contains("LayerNorm.weight");
        let standard_deviation = match () {
            () if is_norm_weight => 0.1,
            () if self.name.contains("embeddings") || self.name.contains("LayerNorm.bias") => 0.05,
            () => 0.04,
        };
        // The sum of four uniform 16-bit numbers has mean 131,070 and standard deviation 37,837.2.
        let scale = (standard_deviation / 37837.2) as f32;
        let offset = if is_norm_weight { 1.0 } else { 0.0 };
        let draw = |k: u64| {
            let word = crate::splitmix64(self.seed, k);
            let sum: u64 = (0..4).map(|field| word >> (16 * field) & 0xFFFF).sum();
            offset + (sum as f32 - 131_070.0) * scale
        };
        let mut values: Vec<f32> = (0..self.shape.iter().product::<usize>() as u64).map(draw).collect();
        if self.name.ends_with("output.dense.bias") && !self.name.contains("attention") {
            for (channel, bias) in OUTLIERS {
                values[channel] += bias;
            }
        }
        values
    }
}

impl View for SeededTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values().into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}
