//! Special tokens that stand in the text itself: a user's `[MASK]` is the mask token.
//!
//! They are looked for before normalization, in exactly their spelling. Of several that start at one place the longest
//! is taken, as in the reference.

use super::{Token, TokenizerError, Vocab};
use crate::config::TokenizerConfig;

/// The spellings of the special tokens.
#[derive(Clone, Debug)]
pub struct SpecialTokens<'v> {
    /// Longest first.
    tokens: [(&'v [u8], u32); 5],
    /// Whether a token starts with this byte.
    starts: [bool; 256],
}

impl<'v> SpecialTokens<'v> {
    pub fn new(vocab: &Vocab<'v>, config: &TokenizerConfig) -> Result<Self, TokenizerError> {
        let ids =
            [config.pad_token_id, config.unk_token_id, config.cls_token_id, config.sep_token_id, config.mask_token_id];
        let mut tokens = [(&[][..], 0); 5];
        let mut starts = [false; 256];
        for (entry, id) in tokens.iter_mut().zip(ids) {
            let missing = TokenizerError::SpecialTokenMissing { id, vocab_size: vocab.len() as u32 };
            let spelling = vocab.token(id).ok_or(missing)?;
            let first = spelling.first().ok_or(missing)?;
            starts[usize::from(*first)] = true;
            *entry = (spelling, id);
        }
        tokens.sort_unstable_by_key(|(spelling, _)| core::cmp::Reverse(spelling.len()));
        Ok(Self { tokens, starts })
    }

    /// The first special token at or behind the byte `start`, as word 0.
    pub fn find(&self, text: &str, start: usize) -> Option<Token> {
        let bytes = text.as_bytes();
        let mut at = start;
        loop {
            at += bytes[at..].iter().position(|&byte| self.starts[usize::from(byte)])?;
            let found = self.tokens.iter().find(|(spelling, _)| bytes[at..].starts_with(spelling));
            if let Some(&(spelling, id)) = found
                // Always so, unless the vocabulary is damaged.
                && text.is_char_boundary(at)
                && text.is_char_boundary(at + spelling.len())
            {
                return Some(Token { id, start: at as u32, end: (at + spelling.len()) as u32, word: 0 });
            }
            at += 1;
        }
    }

    /// Whether a token is spelled like a special one.
    pub fn contains(&self, token: &[u8]) -> bool {
        self.tokens.iter().any(|(spelling, _)| *spelling == token)
    }
}
