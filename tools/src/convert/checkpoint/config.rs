//! Reads `config.json`: geometry, activation and class, and refuses what is not BERT's encoder.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use mbert_runtime::config::{BertConfig, HiddenAct};
use mbert_runtime::format::manifest::Heads;
use serde::Deserialize;

use super::files::Files;
use crate::bytes::Bytes;

/// Classes whose heads are converted whole.
const CONVERTED_CLASSES: [&str; 4] =
    ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction"];

/// What `config.json` says of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Geometry.
    pub bert: BertConfig,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// First of `architectures`, for example `BertForMaskedLM`; `None` where the file has none.
    pub architecture: Option<String>,
    /// `_name_or_path`, where the file has one.
    pub name_or_path: Option<String>,
}

impl ModelConfig {
    /// Whether every head of the class is converted.
    pub fn class_is_converted(&self) -> bool {
        self.architecture.as_deref().is_none_or(|class| CONVERTED_CLASSES.contains(&class))
    }

    /// The heads that a model of this class cannot do without.
    pub fn heads_of_class(&self) -> Heads {
        let class = self.architecture.as_deref().unwrap_or_default();
        let pre_training = class == "BertForPreTraining";
        let next_sentence = pre_training || class == "BertForNextSentencePrediction";
        Heads { pooler: next_sentence, masked_lm: pre_training || class == "BertForMaskedLM", next_sentence }
    }
}

/// `config.json` as written: `null` and absent fields alike take the defaults of transformers' `BertConfig`.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    #[serde(rename = "_name_or_path")]
    name_or_path: Option<String>,
    vocab_size: Option<i64>,
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    intermediate_size: Option<i64>,
    max_position_embeddings: Option<i64>,
    type_vocab_size: Option<i64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    add_cross_attention: Option<bool>,
}

/// Reads and checks `config.json`.
///
/// # Errors
///
/// If it is absent, malformed, out of the runtime's range, or describes a model that is not BERT's encoder.
pub fn read_config(files: &Files, notes: &mut Vec<String>) -> Result<ModelConfig> {
    let path = files.path("config.json");
    let raw: RawConfig = files.json("config.json")?.with_context(|| {
        format!("{} is absent; give the directory that `save_pretrained` or `git clone` wrote", path.display())
    })?;
    checked_at(&path, raw, notes)
}

/// Reads and checks a `config.json` that stands alone, whatever its name.
///
/// # Errors
///
/// As [`read_config`].
pub fn read_config_file(path: &Path) -> Result<ModelConfig> {
    let raw = serde_json::from_slice(&Bytes::map(path)?)
        .with_context(|| format!("{} is not the JSON that Hugging Face writes", path.display()))?;
    checked_at(path, raw, &mut Vec::new())
}

fn checked_at(path: &Path, raw: RawConfig, notes: &mut Vec<String>) -> Result<ModelConfig> {
    checked(raw, notes).with_context(|| format!("{} describes a model that cannot be converted", path.display()))
}

fn checked(raw: RawConfig, notes: &mut Vec<String>) -> Result<ModelConfig> {
    match raw.model_type.as_deref() {
        Some("bert") => {}
        Some(other) => bail!("model_type is {other:?}; only \"bert\" is supported"),
        None => notes.push("config.json has no model_type: taken as \"bert\"".into()),
    }
    let position_embedding_type = raw.position_embedding_type.as_deref().unwrap_or("absolute");
    ensure!(
        position_embedding_type == "absolute",
        "position_embedding_type is {position_embedding_type:?}; only \"absolute\" is supported"
    );
    ensure!(raw.is_decoder != Some(true), "is_decoder is true; only encoders are supported");
    ensure!(raw.add_cross_attention != Some(true), "add_cross_attention is true; only encoders are supported");

    let hidden_act = match raw.hidden_act.as_deref().unwrap_or("gelu") {
        "gelu" => HiddenAct::Gelu,
        "gelu_new" => HiddenAct::GeluNew,
        "gelu_pytorch_tanh" => HiddenAct::GeluPytorchTanh,
        "relu" => HiddenAct::Relu,
        other => bail!("hidden_act is {other:?}; supported are gelu, gelu_new, gelu_pytorch_tanh and relu"),
    };
    let layer_norm_eps = raw.layer_norm_eps.unwrap_or(1e-12);
    ensure!((0.0..1.0).contains(&layer_norm_eps), "layer_norm_eps is {layer_norm_eps}; expected is 0 to 1");
    let bert = BertConfig {
        vocab_size: narrow("vocab_size", raw.vocab_size, 30522)?,
        hidden_size: narrow("hidden_size", raw.hidden_size, 768)?,
        num_hidden_layers: narrow("num_hidden_layers", raw.num_hidden_layers, 12)?,
        num_attention_heads: narrow("num_attention_heads", raw.num_attention_heads, 12)?,
        intermediate_size: narrow("intermediate_size", raw.intermediate_size, 3072)?,
        max_position_embeddings: narrow("max_position_embeddings", raw.max_position_embeddings, 512)?,
        type_vocab_size: narrow("type_vocab_size", raw.type_vocab_size, 2)?,
        hidden_act,
    };
    bert.check()?;

    let architecture = raw.architectures.and_then(|classes| classes.into_iter().next());
    if architecture.is_none() {
        notes.push("config.json names no class in architectures: the heads found in the weights are converted".into());
    }
    Ok(ModelConfig { bert, layer_norm_eps, architecture, name_or_path: raw.name_or_path })
}

fn narrow<T: TryFrom<i64>>(field: &str, value: Option<i64>, default: i64) -> Result<T> {
    let value = value.unwrap_or(default);
    T::try_from(value).ok().with_context(|| format!("{field} is {value}, which no supported model has"))
}
