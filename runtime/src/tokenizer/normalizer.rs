//! Cleans text, sets ideographs off by spaces, strips accents and lower-cases, one character at a time.
//!
//! The steps are those of the reference's `BertNormalizer`, in its order:
//!
//! 1. drop NUL, U+FFFD and control characters; whitespace becomes a space;
//! 2. a space before and after each ideograph;
//! 3. canonical decomposition (NFD) without nonspacing marks, each part at the place of the whole;
//! 4. lower case.
//!
//! Decomposition also sorts combining characters. Nearly all of them are nonspacing marks and dropped, so the sorting
//! matters only for the few that stay, which [`mark_order`](super::mark_order) handles.

use super::characters::{Characters, class, decompose_without_marks, push_lower_case};
use super::unicode_tables::{CJK, DECOMPOSES, MARK, NONSTARTER, PUNCTUATION, REMOVED, SPACE, UPPER};
use crate::config::TokenizerConfig;

/// The steps that a checkpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    lower_case: bool,
    /// Whether combining characters are put in order and most of them dropped.
    pub strip_accents: bool,
    space_out_cjk: bool,
}

/// What becomes of a character of the text.
#[derive(Clone, Copy, Debug)]
pub enum Normalized {
    /// Nothing: it is dropped and separates nothing.
    Nothing,
    /// A space.
    Space,
    /// A combining character, to be put in order with its neighbours.
    Mark,
    /// One character of a word.
    Letter(char),
    /// Itself, a word of its own.
    Punctuation,
    /// These, with combining characters that stay at the end; words of their own if it is an ideograph.
    Parts {
        /// The characters, in lower case if that is asked for.
        parts: Characters,
        /// Whether spaces stand around it.
        is_set_off: bool,
    },
}

impl Steps {
    pub fn new(config: &TokenizerConfig) -> Self {
        Self {
            lower_case: config.do_lower_case,
            strip_accents: config.strip_accents.unwrap_or(config.do_lower_case),
            space_out_cjk: config.tokenize_chinese_chars,
        }
    }

    /// The classes of characters that these steps change.
    pub fn changed(self) -> u8 {
        let mut changed = REMOVED;
        if self.strip_accents {
            changed |= MARK | NONSTARTER | DECOMPOSES;
        }
        if self.lower_case {
            changed |= UPPER;
        }
        changed
    }

    /// The classes of characters that end a word or are one.
    pub fn splits(self) -> u8 {
        SPACE | PUNCTUATION | if self.space_out_cjk { CJK } else { 0 }
    }

    /// What becomes of `c`, which has these flags, at least one of them of [`changed`](Self::changed) or
    /// [`splits`](Self::splits).
    #[inline]
    pub fn normalize(self, c: char, flags: u8) -> Normalized {
        if flags == UPPER && c.is_ascii() && self.lower_case {
            return Normalized::Letter(c.to_ascii_lowercase());
        }
        if flags == PUNCTUATION {
            return Normalized::Punctuation;
        }
        self.normalize_rare(c, flags)
    }

    fn normalize_rare(self, c: char, flags: u8) -> Normalized {
        if flags & REMOVED != 0 {
            return Normalized::Nothing;
        }
        if self.strip_accents && flags & NONSTARTER != 0 {
            return Normalized::Mark;
        }
        if flags & SPACE != 0 {
            return Normalized::Space;
        }
        let mut parts = Characters::default();
        if !self.strip_accents || flags & (MARK | DECOMPOSES) == 0 {
            self.lower(c, &mut parts);
        } else if flags & DECOMPOSES != 0 {
            decompose_without_marks(c).as_slice().iter().for_each(|&part| self.lower(part, &mut parts));
        }
        Normalized::Parts { parts, is_set_off: flags & CJK != 0 && self.space_out_cjk }
    }

    fn lower(self, c: char, parts: &mut Characters) {
        if self.lower_case && class(c) & UPPER != 0 {
            push_lower_case(c, parts);
        } else {
            parts.push(c);
        }
    }
}
