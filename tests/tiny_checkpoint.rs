//! A checkpoint of a few kilobytes, made from a seed, to be bent out of shape by tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

const LAYERS: usize = 2;
const POSITIONS: usize = 40;

/// What a directory of Hugging Face holds, before it is written. Change the fields, then write it.
pub struct TinyCheckpoint {
    /// `config.json`: `BertForPreTraining`, 2 layers of 32 channels, 2 heads.
    pub config: Value,
    /// `tokenizer_config.json`: uncased.
    pub tokenizer_config: Value,
    /// `vocab.txt`: five special tokens, the letters, the letters as continuations, a few words.
    pub vocabulary: Vec<String>,
    /// `model.safetensors`, by name, with `bert.` and without a decoder of its own.
    pub tensors: BTreeMap<String, TinyTensor>,
    /// Other files, by name; they also replace those above.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A tensor as it is written.
#[derive(Clone)]
pub struct TinyTensor {
    /// Type of the values.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values, little-endian.
    pub bytes: Vec<u8>,
}

impl TinyTensor {
    /// A float32 tensor.
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }
}

impl TinyCheckpoint {
    /// A checkpoint that can be converted whole. Weights lie within ±0.3, those of layer norms around 1.
    pub fn new(seed: u64) -> Self {
        Self::with_sizes(seed, 32, 64, 2)
    }

    /// The same with another hidden size, intermediate size and number of heads.
    pub fn with_sizes(seed: u64, hidden_size: usize, intermediate_size: usize, heads: usize) -> Self {
        let letters = || 'a'..='z';
        let mut vocabulary: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(Into::into).into();
        vocabulary.extend(letters().map(|letter| letter.to_string()));
        vocabulary.extend(letters().map(|letter| format!("##{letter}")));
        vocabulary.extend(["the", "cat", "sat", "on", "mat", ".", ","].map(Into::into));

        let mut tensors = BTreeMap::new();
        let mut add = |name: &str, shape: &[usize]| {
            let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let stream = seed.wrapping_add(1000 * tensors.len() as u64);
            let value = |k| centre + (crate::splitmix64(stream, k) >> 40) as f32 / (1 << 24) as f32 * 0.6 - 0.3;
            let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64).map(value).collect();
            tensors.insert(name.to_owned(), TinyTensor::f32(shape, &values));
        };
        add("bert.embeddings.word_embeddings.weight", &[vocabulary.len(), hidden_size]);
        add("bert.embeddings.position_embeddings.weight", &[POSITIONS, hidden_size]);
        add("bert.embeddings.token_type_embeddings.weight", &[2, hidden_size]);
        let mut modules: Vec<(String, Vec<usize>)> = vec![("bert.embeddings.LayerNorm".into(), vec![hidden_size])];
        for layer in 0..LAYERS {
            for (module, shape) in [
                ("attention.self.query", vec![hidden_size, hidden_size]),
                ("attention.self.key", vec![hidden_size, hidden_size]),
                ("attention.self.value", vec![hidden_size, hidden_size]),
                ("attention.output.dense", vec![hidden_size, hidden_size]),
                ("attention.output.LayerNorm", vec![hidden_size]),
                ("intermediate.dense", vec![intermediate_size, hidden_size]),
                ("output.dense", vec![hidden_size, intermediate_size]),
                ("output.LayerNorm", vec![hidden_size]),
            ] {
                modules.push((format!("bert.encoder.layer.{layer}.{module}"), shape));
            }
        }
        modules.push(("bert.pooler.dense".into(), vec![hidden_size, hidden_size]));
        modules.push(("cls.predictions.transform.dense".into(), vec![hidden_size, hidden_size]));
        modules.push(("cls.predictions.transform.LayerNorm".into(), vec![hidden_size]));
        modules.push(("cls.seq_relationship".into(), vec![2, hidden_size]));
        for (module, shape) in modules {
            add(&format!("{module}.weight"), &shape);
            add(&format!("{module}.bias"), &shape[..1]);
        }
        add("cls.predictions.bias", &[vocabulary.len()]);

        Self {
            config: json!({
                "architectures": ["BertForPreTraining"], "model_type": "bert", "vocab_size": vocabulary.len(),
                "hidden_size": hidden_size, "num_hidden_layers": LAYERS, "num_attention_heads": heads,
                "intermediate_size": intermediate_size, "hidden_act": "gelu", "max_position_embeddings": POSITIONS,
                "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            }),
            tokenizer_config: json!({
                "do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true, "pad_token": "[PAD]",
                "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
            }),
            vocabulary,
            tensors,
            files: BTreeMap::new(),
        }
    }

    /// The content of `model.safetensors` for some of the tensors.
    ///
    /// # Panics
    ///
    /// If a tensor's bytes do not fit its shape.
    pub fn safetensors(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let tensors = self.tensors.iter().filter(|(name, _)| keep(name)).map(|(name, tensor)| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            (name, view.expect("bytes fit the shape"))
        });
        safetensors::serialize(tensors, None).expect("names differ")
    }

    /// Writes all files to a new directory, which is removed when it is dropped. A `null` leaves its file out.
    ///
    /// # Panics
    ///
    /// If the temporary directory cannot be written to.
    pub fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        self.write_to(dir.path());
        dir
    }

    /// Writes all files to a directory of this name, which is made where it is absent. A `null` leaves its file out.
    ///
    /// # Panics
    ///
    /// If it cannot be written to.
    pub fn write_to(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("the directory can be made");
        let write = |name: &str, bytes: &[u8]| {
            fs::write(dir.join(name), bytes).expect("the directory can be written to");
        };
        for (name, value) in [("config.json", &self.config), ("tokenizer_config.json", &self.tokenizer_config)] {
            if !value.is_null() {
                write(name, value.to_string().as_bytes());
            }
        }
        if !self.vocabulary.is_empty() {
            write("vocab.txt", (self.vocabulary.join("\n") + "\n").as_bytes());
        }
        if !self.tensors.is_empty() {
            write("model.safetensors", &self.safetensors(|_| true));
        }
        for (name, bytes) in &self.files {
            write(name, bytes);
        }
    }
}
