//! Text to token ids, exactly as Hugging Face's `tokenizers` with the `tokenizer.json` of a BERT checkpoint.
//!
//! The path of a text: special tokens are cut out (`special_tokens`), the rest is cleaned (`normalizer`), split into
//! words (`pre_tokenizer`), each word into tokens (`wordpiece`), and the model's input put together
//! (`post_processor`). Each step pulls from the one before, so a text of any length needs less than 2 KiB beside the
//! caller's output.
//!
//! ```text
//! let vocab = Vocab::open(section)?;
//! let tokenizer = Tokenizer::new(vocab, config)?;
//! let mut ids = [0; 128];
//! let mut encoding = Encoding::new(&mut ids);
//! tokenizer.encode("Paris is the [MASK] of France.", None, Truncation::DoNotTruncate, &mut encoding)?;
//! ```

mod special_tokens;
mod normalizer;
mod characters;
mod mark_run;
#[rustfmt::skip]
mod unicode_tables;
mod pre_tokenizer;
mod wordpiece;
pub mod vocab;
mod encoding;
mod post_processor;
mod windows;
mod decoder;
mod error;

pub use encoding::{Encoding, NO_WORD, Offsets};
pub use error::TokenizerError;
pub use post_processor::Truncation;
pub use vocab::{Vocab, VocabError};
pub use windows::Windows;
pub use wordpiece::Tokens;

use crate::config::TokenizerConfig;
use normalizer::Steps;
use special_tokens::SpecialTokens;

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id in the vocabulary.
    pub id: u32,
    /// Where it starts in the text, in bytes.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// The number of its word in the text, from 0.
    pub word: u32,
}

/// Turns text into token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer<'v> {
    vocab: Vocab<'v>,
    config: TokenizerConfig,
    steps: Steps,
    special_tokens: SpecialTokens<'v>,
}

impl<'v> Tokenizer<'v> {
    /// Joins a vocabulary and the flags that belong to it.
    ///
    /// # Errors
    ///
    /// If the vocabulary lacks one of the special tokens.
    pub fn new(vocab: Vocab<'v>, config: TokenizerConfig) -> Result<Self, TokenizerError> {
        let special_tokens = SpecialTokens::new(&vocab, &config)?;
        Ok(Self { vocab, config, steps: Steps::new(&config), special_tokens })
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab<'v> {
        &self.vocab
    }

    /// The flags and special ids.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// The tokens of a text, one by one, without `[CLS]` and `[SEP]`.
    ///
    /// # Errors
    ///
    /// If the text has 4 GiB or more.
    pub fn tokens<'t>(&'t self, text: &'t str) -> Result<Tokens<'t>, TokenizerError> {
        match u32::try_from(text.len()) {
            Ok(_) => Ok(Tokens::new(self, text)),
            Err(_) => Err(TokenizerError::TextTooLong { bytes: text.len() }),
        }
    }
}
