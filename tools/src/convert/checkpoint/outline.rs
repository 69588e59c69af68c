//! What a checkpoint tells of the model to come before its weights are read, or are there at all.

use std::path::Path;

use anyhow::{Context, Result};
use mbert_runtime::config::BertConfig;
use mbert_runtime::format::manifest::Heads;

use super::config::{ModelConfig, read_config, read_config_file};
use super::files::Files;
use super::vocabulary::read_vocabulary;
use super::weights::Weights;
use super::{find_heads, model_card};

/// A model to come.
pub struct Outline {
    /// Its name.
    pub name: String,
    /// Geometry.
    pub config: BertConfig,
    /// Heads that the weights hold; where they are absent, those of the class in `config.json`.
    pub heads: Heads,
    /// Whether the weights were there to look for heads in.
    pub has_weights: bool,
    /// Tokens in id order, where there is a file of them.
    pub vocabulary: Option<Vec<String>>,
}

impl Outline {
    /// Reads a directory with `config.json`, of which nothing else need be there, or a `config.json` alone.
    ///
    /// # Errors
    ///
    /// If a file that is there is malformed or describes a model that cannot be converted.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let model = read_config_file(path)?;
            return Ok(Self::new(&model, path.display().to_string(), None, None));
        }
        let files = Files::Directory(path.to_owned());
        let model = read_config(&files, &mut Vec::new())?;
        let has_vocabulary = files.has("vocab.txt") || files.has("tokenizer.json");
        let vocabulary = match has_vocabulary {
            true => {
                Some(read_vocabulary(&files, files.json("tokenizer.json")?.as_ref(), model.bert.vocab_size as usize)?)
            }
            false => None,
        };
        let has_weights = files.has("model.safetensors") || files.has("model.safetensors.index.json");
        let weights = has_weights.then(|| Weights::open(&files)).transpose().context("the weights cannot be read")?;
        let name = model_card::model_name(&files, model.name_or_path.as_deref());
        Ok(Self::new(&model, name, weights.as_ref(), vocabulary))
    }

    fn new(model: &ModelConfig, name: String, weights: Option<&Weights>, vocabulary: Option<Vec<String>>) -> Self {
        let heads = weights.map_or_else(|| model.heads_of_class(), |weights| find_heads(model, weights));
        Self { name, config: model.bert, heads, has_weights: weights.is_some(), vocabulary }
    }
}
