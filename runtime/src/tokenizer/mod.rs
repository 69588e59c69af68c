//! Text to token ids, exactly as Hugging Face's `tokenizers` with the `tokenizer.json` of a BERT checkpoint.
//!
//! The path of a text: special tokens are cut out (`special_tokens`), the rest is split into words (`token_stream`),
//! which are cleaned where that changes them (`normalizer`, `word_buffer`, `mark_order`), each word into tokens
//! (`wordpiece`, in the `vocab`), and the model's input put together (`encoder`). The text may come in pieces; whatever
//! it is, less than 2 KiB are needed beside the caller's output, and the vocabulary may lie in memory or on a device.
//!
//! ```
//! # use mbert_runtime::{config::TokenizerConfig, tokenizer::{Encoding, Tokenizer, Truncation, Vocab}};
//! # fn example(section: &[u8], config: TokenizerConfig) -> Result<(), Box<dyn core::error::Error>> {
//! let tokenizer = Tokenizer::new(Vocab::open(section)?, config)?;
//! let mut ids = [0; 128];
//! let mut encoding = Encoding::new(&mut ids);
//! tokenizer.encode("Paris is the [MASK] of France.", None, Truncation::DoNotTruncate, &mut encoding)?;
//! # Ok(())
//! # }
//! ```

mod token_stream;
mod special_tokens;
mod normalizer;
mod characters;
#[rustfmt::skip]
mod unicode_tables;
mod short_bytes;
mod word_buffer;
mod mark_order;
mod wordpiece;
pub mod vocab;
mod encoding;
mod encoder;
mod windows;
mod decoder;
mod error;

pub use decoder::CleanUp;
pub use encoder::{Encoder, Truncation};
pub use encoding::{Encoding, NO_WORD, Offsets};
pub use error::TokenizerError;
pub use special_tokens::MAX_SPELLING_BYTES;
pub use token_stream::TokenStream;
pub use vocab::{Vocab, VocabError};
pub use windows::Windows;

use crate::config::TokenizerConfig;
use crate::storage::Storage;
use normalizer::Steps;
use special_tokens::SpecialTokens;
use unicode_tables::SPACE;

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
    /// Whether it is a special token that is spelled out in the text.
    pub is_special: bool,
}

/// Turns text into token ids and back.
///
/// `S` is where the vocabulary lies: `&[u8]`, or a [`CachedSection`](crate::storage::CachedSection) of a device.
#[derive(Clone, Debug)]
pub struct Tokenizer<S> {
    vocab: Vocab<S>,
    config: TokenizerConfig,
    steps: Steps,
    special_tokens: SpecialTokens,
    /// The classes of characters that normalization changes, and with them those that end a word.
    changed: u8,
    stops: u8,
    /// Whether every special token starts with a character that ends a word.
    special_tokens_stop_words: bool,
}

impl<S: Storage> Tokenizer<S> {
    /// Joins a vocabulary and the flags that belong to it.
    ///
    /// # Errors
    ///
    /// If the vocabulary lacks one of the special tokens, or cannot be read, or one is longer than [`MAX_SPELLING_BYTES`].
    pub fn new(vocab: Vocab<S>, config: TokenizerConfig) -> Result<Self, TokenizerError> {
        let special_tokens = SpecialTokens::new(&vocab, &config)?;
        let steps = Steps::new(&config);
        let stops = steps.changed() | steps.splits();
        // One that starts with a space is not looked for where a space ends a word.
        let special_tokens_stop_words = special_tokens.first_classes().all(|class| class & stops & !SPACE != 0);
        Ok(Self { vocab, config, steps, special_tokens, changed: steps.changed(), stops, special_tokens_stop_words })
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab<S> {
        &self.vocab
    }

    /// The flags and special ids.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// Tokenizes a text that comes in pieces, without `[CLS]` and `[SEP]`.
    pub fn stream(&self) -> TokenStream<'_, S> {
        TokenStream::new(self)
    }

    /// Hands the tokens of a text to `sink`, without `[CLS]` and `[SEP]`.
    ///
    /// # Errors
    ///
    /// If the text has 4 GiB or more, or the vocabulary cannot be read.
    pub fn tokens(&self, text: &str, mut sink: impl FnMut(Token)) -> Result<(), TokenizerError> {
        self.stream().write_last(text, &mut sink)
    }
}
