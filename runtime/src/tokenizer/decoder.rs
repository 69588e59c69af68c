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

/// Texts to be replaced, in this order, and what by. Each starts with a space.
type Replacements = [(&'static str, &'static str)];

/// What cleaning up replaces in a token and the space before it.
const TOKEN_REPLACEMENTS: &Replacements = &[
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// What cleaning up replaces in a whole text.
const TEXT_REPLACEMENTS: &Replacements = &[
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
        let (of_tokens, of_text): (&Replacements, &Replacements) = match clean_up {
            CleanUp::Nothing => (&[], &[]),
            CleanUp::Tokens => (TOKEN_REPLACEMENTS, &[]),
            CleanUp::Text => (TOKEN_REPLACEMENTS, TEXT_REPLACEMENTS),
        };
        let mut write = |c| out.write_char(c);
        let mut text = Replacer::new(of_text, &mut write);
        let mut is_first = true;
        for &id in ids {
            let mut buffer = [0; MAX_TOKEN_BYTES];
            let Some(token) = self.vocab.copy_token(id, &mut buffer)? else { continue };
            if token.is_empty() || skip_special_tokens && self.special_tokens.contains(token) {
                continue;
            }
            let (space, token) = match token.strip_prefix(CONTINUATION_PREFIX) {
                _ if is_first => (None, token),
                Some(token) => (None, token),
                None => (Some(' '), token),
            };
            let mut pass = |c| text.feed(0, c);
            let mut cleaned = Replacer::new(of_tokens, &mut pass);
            let characters = token.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
            space.into_iter().chain(characters).try_for_each(|c| cleaned.feed(0, c))?;
            cleaned.finish()?;
            is_first = false;
        }
        text.finish()?;
        Ok(())
    }
}

/// Most replacements at once.
const MAX_REPLACEMENTS: usize = 11;

/// Replaces in a text that passes through.
struct Replacer<'o> {
    replacements: &'static Replacements,
    /// How many bytes of each were read last and are not handed on yet.
    matched: [u8; MAX_REPLACEMENTS],
    out: &'o mut dyn FnMut(char) -> fmt::Result,
}

impl<'o> Replacer<'o> {
    fn new(replacements: &'static Replacements, out: &'o mut dyn FnMut(char) -> fmt::Result) -> Self {
        Self { replacements, matched: [0; MAX_REPLACEMENTS], out }
    }

    /// Takes a character that has passed the replacements before `stage`.
    fn feed(&mut self, stage: usize, c: char) -> fmt::Result {
        let (Some((from, to)), Some(matched)) = (self.replacements.get(stage), self.matched.get_mut(stage)) else {
            return (self.out)(c);
        };
        let (before, behind) = from.split_at_checked(usize::from(*matched)).unwrap_or_default();
        if behind.starts_with(c) {
            *matched += c.len_utf8() as u8;
            if behind.len() > c.len_utf8() {
                return Ok(());
            }
            *matched = 0;
            return to.chars().try_for_each(|c| self.feed(stage + 1, c));
        }
        // The first character is not replaced; another one may be.
        *matched = 0;
        let mut before = before.chars();
        match before.next() {
            None => self.feed(stage + 1, c),
            Some(first) => {
                self.feed(stage + 1, first)?;
                before.chain([c]).try_for_each(|c| self.feed(stage, c))
            }
        }
    }

    /// Hands on what may no longer be replaced.
    fn finish(mut self) -> fmt::Result {
        for (stage, (from, _)) in self.replacements.iter().enumerate() {
            let matched = self.matched.get_mut(stage).map_or(0, core::mem::take);
            let rest = from.get(..matched.into()).unwrap_or_default();
            rest.chars().try_for_each(|c| self.feed(stage + 1, c))?;
        }
        Ok(())
    }
}
