//! The model's geometry and the tokenizer's flags, under their Hugging Face names.

use serde::{Deserialize, Serialize};

/// The geometry of a BERT encoder, with the field names of Hugging Face's `config.json`.
///
/// Limits (checked by the converter and again when a blob is opened): see [`BertConfig::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BertConfig {
    /// Entries of the vocabulary and rows of the word embeddings.
    pub vocab_size: u32,
    /// Channels of the residual stream.
    pub hidden_size: u16,
    /// Encoder layers.
    pub num_hidden_layers: u8,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: u8,
    /// Channels between the two feed-forward products.
    pub intermediate_size: u16,
    /// Longest sequence in tokens, special tokens included.
    pub max_position_embeddings: u16,
    /// Segments; 2 for every published BERT.
    pub type_vocab_size: u8,
    /// The activation between the feed-forward products.
    pub hidden_act: HiddenAct,
}

/// The feed-forward activation. All are `max(x, 0) − δ(|x|)` with a δ that the blob carries as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum HiddenAct {
    /// The erf form.
    Gelu,
    /// The tanh form, first named `gelu_new`.
    GeluNew,
    /// The tanh form, as PyTorch names it.
    GeluPytorchTanh,
    /// `max(x, 0)`.
    Relu,
}

impl HiddenAct {
    /// The name in `config.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluNew => "gelu_new",
            Self::GeluPytorchTanh => "gelu_pytorch_tanh",
            Self::Relu => "relu",
        }
    }
}

/// A field of [`BertConfig`] that lies outside what the runtime computes exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConfigOutOfRange {
    /// The field's Hugging Face name.
    pub field: &'static str,
    /// Its value.
    pub value: u32,
    /// Smallest value allowed.
    pub min: u32,
    /// Largest value allowed.
    pub max: u32,
}

impl core::fmt::Display for ConfigOutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { field, value, min, max } = self;
        write!(f, "{field} is {value}; supported are {min} to {max}")
    }
}

impl core::error::Error for ConfigOutOfRange {}

impl BertConfig {
    /// Channels of one attention head; 0 if there are none.
    pub const fn head_dim(&self) -> usize {
        match self.num_attention_heads {
            0 => 0,
            heads => self.hidden_size as usize / heads as usize,
        }
    }

    /// Checks that every field is in the range in which the integer arithmetic cannot overflow.
    ///
    /// # Errors
    ///
    /// The first field that is not, with its range. A `num_attention_heads` that does not divide
    /// `hidden_size` is reported with the largest divisor below it as `max`.
    pub fn check(&self) -> Result<(), ConfigOutOfRange> {
        let range = |field, value: u32, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigOutOfRange { field, value, min, max }) }
        };
        let hidden_size = u32::from(self.hidden_size);
        range("vocab_size", self.vocab_size, 1, 1 << 24)?;
        range("hidden_size", hidden_size, 2, 4096)?;
        range("num_hidden_layers", u32::from(self.num_hidden_layers), 1, 255)?;
        range("num_attention_heads", u32::from(self.num_attention_heads), 1, hidden_size)?;
        let heads = u32::from(self.num_attention_heads);
        if !hidden_size.is_multiple_of(heads) {
            let max = (1..heads).rev().find(|&heads| hidden_size.is_multiple_of(heads)).unwrap_or(1);
            return Err(ConfigOutOfRange { field: "num_attention_heads", value: heads, min: 1, max });
        }
        range("intermediate_size", u32::from(self.intermediate_size), 1, 16384)?;
        range("max_position_embeddings", u32::from(self.max_position_embeddings), 2, 4096)?;
        range("type_vocab_size", u32::from(self.type_vocab_size), 1, 255)
    }
}

/// How text becomes token ids: the flags of `tokenizer_config.json` and the ids of the special
/// tokens, looked up in the vocabulary by the converter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerConfig {
    /// Lower-case the text first.
    pub do_lower_case: bool,
    /// Strip accents; `None` follows `do_lower_case`, as in the reference.
    pub strip_accents: Option<bool>,
    /// Set CJK characters off by spaces.
    pub tokenize_chinese_chars: bool,
    /// Id of `[PAD]`.
    pub pad_token_id: u32,
    /// Id of `[UNK]`.
    pub unk_token_id: u32,
    /// Id of `[CLS]`.
    pub cls_token_id: u32,
    /// Id of `[SEP]`.
    pub sep_token_id: u32,
    /// Id of `[MASK]`.
    pub mask_token_id: u32,
}
