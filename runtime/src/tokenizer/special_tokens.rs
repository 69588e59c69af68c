//! Special tokens that stand in the text itself: a user's `[MASK]` is the mask token.
//!
//! They are looked for before normalization, in exactly their spelling. Of several that start at one place the longest
//! is taken, as in the reference.

use super::characters::first_class;
use super::short_bytes::ShortBytes;
use super::{TokenizerError, Vocab};
use crate::config::TokenizerConfig;
use crate::storage::Storage;

/// Longest spelling in bytes. BERT's have six.
pub const MAX_SPELLING_BYTES: usize = 24;

/// The spellings of the special tokens.
#[derive(Clone, Debug)]
pub struct SpecialTokens {
    tokens: [Spelling; 5],
    first_bytes: [u8; 5],
}

#[derive(Clone, Copy, Debug)]
struct Spelling {
    bytes: ShortBytes<MAX_SPELLING_BYTES>,
    id: u32,
}

/// What a text that ends in a part of a spelling comes to with its next character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may still become a special token.
    Possible,
    /// Its first bytes are one.
    Found { id: u32, bytes: usize },
    /// No special token starts with its first character.
    None,
}

impl SpecialTokens {
    pub fn new<S: Storage>(vocab: &Vocab<S>, config: &TokenizerConfig) -> Result<Self, TokenizerError> {
        let ids =
            [config.pad_token_id, config.unk_token_id, config.cls_token_id, config.sep_token_id, config.mask_token_id];
        let mut tokens = ids.map(|id| Spelling { bytes: ShortBytes::EMPTY, id });
        for Spelling { bytes, id } in &mut tokens {
            let id = *id;
            let mut buffer = [0; MAX_SPELLING_BYTES + 1];
            let missing = TokenizerError::SpecialTokenMissing { id, vocab_size: vocab.len() as u32 };
            let token = vocab.copy_token(id, &mut buffer)?.filter(|token| !token.is_empty()).ok_or(missing)?;
            if token.len() > MAX_SPELLING_BYTES {
                return Err(TokenizerError::SpecialTokenTooLong { id });
            }
            // Only a damaged vocabulary spells half a character.
            core::str::from_utf8(token).map_err(|_| missing)?;
            bytes.push(token);
        }
        let first_bytes = tokens.map(|spelling| spelling.bytes.as_bytes().first().copied().unwrap_or_default());
        Ok(Self { tokens, first_bytes })
    }

    /// The flags of the characters that the spellings start with.
    pub fn first_classes(&self) -> impl Iterator<Item = u8> {
        self.tokens.iter().map(|spelling| first_class(spelling.bytes.as_bytes()).0)
    }

    /// Whether a spelling starts with the first byte of a text.
    #[inline]
    pub fn may_start(&self, text: &[u8]) -> bool {
        text.first().is_some_and(|byte| self.first_bytes.contains(byte))
    }

    /// What `text`, the last bytes read so far, comes to; at `is_end` nothing follows.
    pub fn progress(&self, text: &[u8], is_end: bool) -> Progress {
        let (mut found, mut longest) = (Progress::None, 0);
        for Spelling { bytes, id } in &self.tokens {
            let (spelling, bytes) = (bytes.as_bytes(), bytes.as_bytes().len());
            if bytes > longest && text.starts_with(spelling) {
                (found, longest) = (Progress::Found { id: *id, bytes }, bytes);
            } else if bytes > text.len() && !is_end && spelling.starts_with(text) {
                // Longer than all that are there.
                return Progress::Possible;
            }
        }
        found
    }

    /// Whether a token is spelled like a special one.
    pub fn contains(&self, token: &[u8]) -> bool {
        self.tokens.iter().any(|spelling| spelling.bytes.as_bytes() == token)
    }
}
