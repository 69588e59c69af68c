//! What the blob says of itself, encoded with postcard: the manifest, and behind it the provenance, which no answer needs.

use serde::{Deserialize, Serialize};

use crate::config::{BertConfig, TokenizerConfig};

/// What a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Geometry.
    pub config: BertConfig,
    /// Tokenizer flags and special ids.
    pub tokenizer: TokenizerConfig,
    /// What was quantised how.
    pub quantization: Quantization,
    /// Which heads the model has.
    pub heads: Heads,
}

/// Which heads follow the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// `pooler`.
    pub pooler: bool,
    /// `cls.predictions`.
    pub masked_lm: bool,
    /// `cls.seq_relationship`; needs the pooler.
    pub next_sentence: bool,
}

/// How the weights were quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// Input channels were scaled by a smoothing factor from calibration.
    pub smoothed: bool,
    /// Tokens that the calibration saw.
    pub calibration_tokens: u32,
    /// Channels that share one scale at the input of `output.dense`.
    pub group_size: u16,
}

/// Where a model comes from. Text is borrowed from the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance<'a> {
    /// Name of the checkpoint.
    pub model_name: &'a str,
    /// Its licence, or `unknown`.
    pub licence: &'a str,
    /// Its class in `config.json`, for example `BertForMaskedLM`.
    pub architecture: &'a str,
    /// Version of the converter.
    pub converter_version: &'a str,
    /// SHA-256 of the checkpoint's files.
    pub checkpoint_sha256: [u8; 32],
    /// SHA-256 of the calibration text or ids.
    pub calibration_sha256: [u8; 32],
    /// A device may refuse a model with a lower counter than the one it has.
    pub rollback_counter: u32,
}
