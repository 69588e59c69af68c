//! Token ids back to text.
//!
//! Tokens are joined by spaces, `##` glues a token to the one before. What the first token is called does not matter:
//! its `##` stays. Cleaning up takes the space before `. , ? !` and English contractions.

use core::fmt;

use super::vocab::{CONTINUATION_PREFIX, MAX_TOKEN_BYTES};
use super::{Tokenizer, TokenizerError};
use crate::storage::Storage;

/// Which spaces a decoded text loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanUp {
    /// None.
    Nothing,
    /// Those before punctuation and contractions that are one token: what the reference's own decoder does.
    #[default]
    Tokens,
    /// In addition those before contractions of several tokens: `clean_up_tokenization_spaces` in transformers.
    Text,
}

/// What cleaning up replaces in a token and the space before it, in this order.
const REPLACEMENTS: [(&[u8], &[u8]); 11] = [
    (b" .", b"."),
    (b" ?", b"?"),
    (b" !", b"!"),
    (b" ,", b","),
    (b" ' ", b"'"),
    (b" n't", b"n't"),
    (b" 'm", b"'m"),
    (b" do not", b" don't"),
    (b" 's", b"'s"),
    (b" 've", b"'ve"),
    (b" 're", b"'re"),
];

/// What cleaning up replaces in a whole text, in this order. Each starts with a space, and only the fifth has another.
const TEXT_REPLACEMENTS: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

impl<S: Storage> Tokenizer<S> {
    /// Writes the text of `ids`, which it leaves out where the vocabulary has no such token, or an empty one.
    ///
    /// # Errors
    ///
    /// If `out` gives one, or the vocabulary cannot be read.
    pub fn decode(
        &self,
        ids: &[u32],
        skip_special_tokens: bool,
        clean_up: CleanUp,
        out: &mut (impl fmt::Write + ?Sized),
    ) -> Result<(), TokenizerError> {
        let mut first = true;
        let mut text = TextCleaner { out, matched: [0; TEXT_REPLACEMENTS.len()] };
        let stage = if clean_up == CleanUp::Text { 0 } else { TEXT_REPLACEMENTS.len() };
        for &id in ids {
            let mut piece = SpacedToken { bytes: [b' '; MAX_TOKEN_BYTES + 1], len: 0 };
            let Some(token) = self.vocab.copy_token(id, &mut piece.bytes[1..])? else { continue };
            if token.is_empty() || skip_special_tokens && self.special_tokens.contains(token) {
                continue;
            }
            let end = 1 + token.len();
            let start = match token.starts_with(CONTINUATION_PREFIX) {
                _ if first => 1,
                true => 1 + CONTINUATION_PREFIX.len(),
                false => 0,
            };
            piece.bytes.copy_within(start..end, 0);
            piece.len = end - start;
            if clean_up != CleanUp::Nothing {
                REPLACEMENTS.iter().for_each(|(from, to)| piece.replace(from, to));
            }
            let mut chars = piece.bytes[..piece.len].utf8_chunks().flat_map(|chunk| chunk.valid().chars());
            chars.try_for_each(|c| text.feed(stage, c))?;
            first = false;
        }
        text.finish()?;
        Ok(())
    }
}

/// Replaces in a text that passes through, in one pass.
struct TextCleaner<'o, W: ?Sized> {
    out: &'o mut W,
    /// How many characters of each pattern were read last and are not handed on yet.
    matched: [u8; TEXT_REPLACEMENTS.len()],
}

impl<W: fmt::Write + ?Sized> TextCleaner<'_, W> {
    /// Takes a character that has passed the replacements before `stage`.
    fn feed(&mut self, stage: usize, c: char) -> fmt::Result {
        let Some(&(from, to)) = TEXT_REPLACEMENTS.get(stage) else { return self.out.write_char(c) };
        loop {
            let matched = usize::from(self.matched[stage]);
            if from[matched..].starts_with(c) {
                self.matched[stage] += 1;
                if matched + 1 == from.len() {
                    self.matched[stage] = 0;
                    to.chars().try_for_each(|c| self.feed(stage + 1, c))?;
                }
                return Ok(());
            }
            if matched == 0 {
                return self.feed(stage + 1, c);
            }
            // No start of a pattern is found within it, so what was matched is handed on whole.
            self.matched[stage] = 0;
            from[..matched].chars().try_for_each(|c| self.feed(stage + 1, c))?;
        }
    }

    fn finish(&mut self) -> fmt::Result {
        for (stage, (from, _)) in TEXT_REPLACEMENTS.iter().enumerate() {
            let matched = usize::from(core::mem::take(&mut self.matched[stage]));
            from[..matched].chars().try_for_each(|c| self.feed(stage + 1, c))?;
        }
        Ok(())
    }
}

/// A token and the space before it.
struct SpacedToken {
    bytes: [u8; MAX_TOKEN_BYTES + 1],
    len: usize,
}

impl SpacedToken {
    /// Replaces every `from` by `to`, which is not longer, from left to right.
    fn replace(&mut self, from: &[u8], to: &[u8]) {
        let (mut read, mut written) = (0, 0);
        while read < self.len {
            if self.bytes[read..self.len].starts_with(from) {
                self.bytes[written..][..to.len()].copy_from_slice(to);
                read += from.len();
                written += to.len();
            } else {
                self.bytes[written] = self.bytes[read];
                read += 1;
                written += 1;
            }
        }
        self.len = written;
    }
}
