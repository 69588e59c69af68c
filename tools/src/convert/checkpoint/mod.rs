//! Reads a BERT checkpoint as Hugging Face writes it, and refuses what cannot be converted faithfully.
//!
//! ```text
//! config.json                                      → config        geometry, class
//! vocab.txt | tokenizer.json                       → vocabulary    tokens in id order
//! tokenizer_config.json, special_tokens_map.json   → tokenizer     flags, special ids
//! model.safetensors | model.safetensors.index.json → weights       memory-mapped; tensors by canonical name
//! README.md, LICENSE                               → licence
//! ```
//!
//! Opening checks everything: after it, every tensor that a head or the encoder needs is there, has the shape that the
//! configuration asks for, and is finite. Weights stay in their files and are decoded row by row.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use mbert_runtime::config::{BertConfig, TokenizerConfig};
use mbert_runtime::format::manifest::Heads;
use sha2::{Digest, Sha256};

pub mod module;
pub mod config;
pub mod vocabulary;
pub mod tokenizer_config;
pub mod tensor;
mod weights;
mod model_card;
mod files;
mod outline;

use config::ModelConfig;
pub use files::Files;
pub use module::Module;
pub use outline::Outline;
pub use tensor::Tensor;
use weights::Weights;

/// The tensor by which an untied checkpoint gives the decoder of the masked-LM head a weight of its own.
const DECODER_WEIGHT: &str = "cls.predictions.decoder.weight";

/// A checkpoint whose every needed part was found and checked.
pub struct Checkpoint {
    /// Geometry.
    pub config: BertConfig,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// Which heads the weights hold.
    pub heads: Heads,
    /// Tokens in id order; `config.vocab_size` of them, all different.
    pub vocabulary: Vec<String>,
    /// Tokenizer flags and special ids.
    pub tokenizer: TokenizerConfig,
    /// The class in `config.json`, or `unknown`.
    pub architecture: String,
    /// Name on the hub, or of the directory.
    pub model_name: String,
    /// From the model card or the licence file, or `unknown`.
    pub licence: String,
    /// What the user should know: defaults taken, tensors not converted. One sentence each.
    pub notes: Vec<String>,
    weights: Weights,
    files: Files,
    /// Names of the files that decide what the model computes, sorted.
    deciding: Vec<String>,
}

impl Checkpoint {
    /// Opens the directory that `save_pretrained` wrote, or a built-in model.
    ///
    /// # Errors
    ///
    /// If a file is absent, malformed or of a kind that is not supported, or disagrees with another; if a tensor is
    /// missing, misshapen or not finite. The chain of causes tells what, where, and what to do.
    pub fn open(files: impl Into<Files>) -> Result<Self> {
        let files = files.into();
        if let Files::Directory(dir) = &files {
            ensure!(
                dir.is_dir(),
                "{} is not a directory; give the one that holds config.json and model.safetensors",
                dir.display()
            );
        }
        let mut notes = Vec::new();
        let model = config::read_config(&files, &mut notes)?;
        let config = model.bert;

        let tokenizer_json = files.json("tokenizer.json")?;
        let vocabulary = vocabulary::read_vocabulary(&files, tokenizer_json.as_ref(), config.vocab_size as usize)?;
        let tokenizer =
            tokenizer_config::read_tokenizer_config(&files, tokenizer_json.as_ref(), &vocabulary, &mut notes)?;

        let weights = Weights::open(&files)?;
        let heads = find_heads(&model, &weights);
        check_tensors(&config, &heads, &weights)?;
        check_tied_decoder(&heads, &weights)?;
        note_unused(&model, &heads, &weights, &mut notes);

        let small_files = [
            "config.json",
            "vocab.txt",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors.index.json",
        ];
        let small_files = small_files.into_iter().filter(|name| files.has(name));
        let mut deciding: Vec<String> = small_files.chain(weights.files()).map(str::to_owned).collect();
        deciding.sort();
        Ok(Self {
            config,
            layer_norm_eps: model.layer_norm_eps,
            heads,
            vocabulary,
            tokenizer,
            architecture: model.architecture.unwrap_or_else(|| "unknown".into()),
            model_name: model_card::model_name(&files, model.name_or_path.as_deref()),
            licence: model_card::licence(&files)?,
            notes,
            weights,
            files,
            deciding,
        })
    }

    /// The tensor of a canonical name (see [`Module`]), or of its name in the file.
    ///
    /// # Errors
    ///
    /// If the checkpoint has none, or it does not hold floats. Not for the modules of this checkpoint's encoder and heads.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        self.weights.tensor(name)
    }

    /// SHA-256 over every file that decides what the model computes, in name order: configuration, vocabulary, tokenizer
    /// files and weights. Of each: its name, a zero byte, its length as 8 bytes little-endian, its content.
    ///
    /// # Errors
    ///
    /// If a file can no longer be read.
    pub fn sha256(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        for name in &self.deciding {
            let bytes = self.files.open(name)?;
            let bytes = bytes.with_context(|| format!("{} has disappeared", self.files.path(name).display()))?;
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&*bytes);
        }
        Ok(hash.finalize().into())
    }
}

/// A head is there if one of its tensors is, or if the class cannot do without it. The next-sentence head reads the pooler.
fn find_heads(model: &ModelConfig, weights: &Weights) -> Heads {
    let of_class = model.heads_of_class();
    let next_sentence = weights.has("cls.seq_relationship.") || of_class.next_sentence;
    Heads {
        pooler: weights.has("pooler.") || next_sentence,
        masked_lm: weights.has("cls.predictions.") || of_class.masked_lm,
        next_sentence,
    }
}

/// Every needed tensor is there, has its shape, and is finite.
fn check_tensors(config: &BertConfig, heads: &Heads, weights: &Weights) -> Result<()> {
    let mut tensors = Vec::new();
    for module in Module::all(config, heads) {
        for (name, expected) in module.tensors(config) {
            let tensor = weights.tensor(&name)?;
            ensure!(
                tensor.shape() == expected,
                "the tensor {} in {} has shape {:?}, but config.json asks for {expected:?}: the two belong to different models",
                tensor.name(),
                tensor.path().display(),
                tensor.shape(),
            );
            tensors.push(tensor);
        }
    }
    check_finite(&tensors)
}

/// Reads every value once, on all cores, and reports the first tensor in which one is not finite.
fn check_finite(tensors: &[Tensor<'_>]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let search = || -> Option<(usize, usize)> {
        std::iter::from_fn(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            Some((number, tensors.get(number)?))
        })
        .find_map(|(number, tensor)| Some((number, tensor.first_not_finite()?)))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = std::thread::scope(|scope| {
        let searches: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        searches.into_iter().filter_map(|thread| thread.join().expect("searching does not panic")).min()
    });
    let Some((number, index)) = found else { return Ok(()) };
    let tensor = &tensors[number];
    bail!(
        "the tensor {} in {} is NaN or infinite at index {index}: training diverged or the file is damaged; take another checkpoint",
        tensor.name(),
        tensor.path().display(),
    )
}

/// The blob stores the word embeddings once, so a decoder of its own must hold the same values.
fn check_tied_decoder(heads: &Heads, weights: &Weights) -> Result<()> {
    if !heads.masked_lm || !weights.has(DECODER_WEIGHT) {
        return Ok(());
    }
    let decoder = weights.tensor(DECODER_WEIGHT)?;
    let embeddings = weights.tensor(&Module::WordEmbeddings.weight())?;
    ensure!(
        decoder.same_values(&embeddings),
        "the tensor {} in {} differs from {}: only a decoder tied to the word embeddings is supported; train with \
         tie_word_embeddings, or remove the tensors of cls.predictions to convert the encoder alone",
        decoder.name(),
        decoder.path().display(),
        embeddings.name(),
    );
    Ok(())
}

/// Names the head that is dropped, or the tensors that nothing reads.
fn note_unused(model: &ModelConfig, heads: &Heads, weights: &Weights, notes: &mut Vec<String>) {
    let mut used: Vec<String> = Module::all(&model.bert, heads)
        .iter()
        .flat_map(|module| module.tensors(&model.bert))
        .map(|(name, _)| name)
        .collect();
    used.extend([DECODER_WEIGHT.into(), "embeddings.position_ids".into()]);
    let unused: Vec<&str> = weights.names().filter(|name| !used.contains(&module::canonical_name(name))).collect();
    match (&model.architecture, unused.is_empty()) {
        (Some(class), false) if !model.class_is_converted() => {
            notes.push(format!("{class}: {} dropped; the encoder is converted", unused.join(", ")));
        }
        (Some(class), true) if !model.class_is_converted() => {
            notes.push(format!("{class} is converted as an encoder"));
        }
        (_, false) => notes.push(format!("not used: {}", unused.join(", "))),
        (_, true) => {}
    }
}
