//! Cleans text, sets ideographs off by spaces, strips accents and lower-cases, one character at a time.
//!
//! Input: a part of the text without special tokens. Output: its normalized characters, each with the place in the text
//! that the reference ascribes to it. The steps are those of the reference's `BertNormalizer`, in its order:
//!
//! 1. drop NUL, U+FFFD and control characters; whitespace becomes a space;
//! 2. a space before and after each ideograph, at the ideograph's place;
//! 3. canonical decomposition (NFD) without nonspacing marks, each part at the place of the whole;
//! 4. lower case.
//!
//! Decomposition also sorts combining characters. Nearly all of them are nonspacing marks and dropped, so the sorting
//! matters only for the few that stay, which [`MarkRun`] handles.

use super::characters::{Characters, class, decompose_without_marks, lower_case};
use super::mark_run::MarkRun;
use super::unicode_tables::{CJK, DECOMPOSES, MARK, NONSTARTER, REMOVED, SPACE, UPPER};
use crate::config::TokenizerConfig;

/// Where in the text a normalized character comes from: the bytes of one character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub start: u32,
    pub len: u8,
}

impl Source {
    pub fn new(start: usize, c: char) -> Self {
        // `Tokenizer` takes texts of less than 4 GiB only.
        Self { start: start as u32, len: c.len_utf8() as u8 }
    }

    pub fn end(self) -> u32 {
        self.start + u32::from(self.len)
    }
}

/// The steps that a checkpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub lower_case: bool,
    pub strip_accents: bool,
    pub space_out_cjk: bool,
}

impl Steps {
    pub fn new(config: &TokenizerConfig) -> Self {
        Self {
            lower_case: config.do_lower_case,
            strip_accents: config.strip_accents.unwrap_or(config.do_lower_case),
            space_out_cjk: config.tokenize_chinese_chars,
        }
    }

    /// The classes of characters that these steps change. Others that neither split words pass as they are.
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
}

/// The normalized characters of a part of a text.
#[derive(Clone, Debug)]
pub struct Normalizer<'t> {
    text: &'t str,
    steps: Steps,
    /// What is left to read of the part, and where the part ends.
    rest: &'t str,
    end: usize,
    /// Characters not handed out yet, all from the same place.
    waiting: Characters,
    source: Source,
    run: Option<MarkRun>,
}

impl<'t> Normalizer<'t> {
    pub fn new(text: &'t str, steps: Steps) -> Self {
        Self { text, steps, rest: "", end: 0, waiting: Characters::default(), source: Source::default(), run: None }
    }

    /// Goes on with another part of the text.
    pub fn read_part(&mut self, start: usize, end: usize) {
        self.rest = &self.text[start..end];
        self.end = end;
    }

    fn next_byte(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The part's bytes that are not read yet and where they start, if nothing that was read waits to be handed out.
    #[inline]
    pub fn unread(&self) -> Option<(usize, &'t str)> {
        if self.waiting.len() > 0 || self.run.is_some() {
            return None;
        }
        Some((self.next_byte(), self.rest))
    }

    /// Takes `bytes` off the unread ones without looking at them.
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn wait(&mut self, characters: impl Iterator<Item = char>) {
        for c in characters {
            if self.steps.lower_case && class(c) & UPPER != 0 {
                lower_case(c).for_each(|c| self.waiting.push(c));
            } else {
                self.waiting.push(c);
            }
        }
    }

    /// Reads the next character; `None` at the end.
    #[inline]
    fn read(&mut self) -> Option<()> {
        let start = self.next_byte();
        let mut rest = self.rest.chars();
        let c = rest.next()?;
        self.rest = rest.as_str();
        let flags = class(c);
        if flags & REMOVED != 0 {
            return Some(());
        }
        self.waiting = Characters::default();
        self.source = Source::new(start, c);
        if flags & SPACE != 0 {
            self.waiting.push(' ');
            return Some(());
        }
        let set_off = flags & CJK != 0 && self.steps.space_out_cjk;
        if set_off {
            self.waiting.push(' ');
        }
        if !self.steps.strip_accents || flags & (MARK | NONSTARTER | DECOMPOSES) == 0 {
            self.wait(core::iter::once(c));
        } else if flags & NONSTARTER != 0 {
            self.read_marks(Characters::default(), start);
        } else if flags & DECOMPOSES != 0 {
            let parts = decompose_without_marks(c);
            let is_mark = |&part: &char| class(part) & NONSTARTER != 0;
            self.wait(parts.filter(|part| !is_mark(part)));
            let mut marks = Characters::default();
            parts.filter(is_mark).for_each(|mark| marks.push(mark));
            if marks.len() > 0 {
                self.read_marks(marks, self.next_byte());
            }
        }
        if set_off {
            self.waiting.push(' ');
        }
        Some(())
    }

    /// Reads the combining characters from `start` on; `marks` are those that the character before them ends with.
    fn read_marks(&mut self, marks: Characters, start: usize) {
        let run = MarkRun::new(self.text, start, self.end, marks, self.source);
        self.rest = &self.text[run.end()..self.end];
        self.run = run.keeps_any().then_some(run);
    }
}

impl Iterator for Normalizer<'_> {
    type Item = (char, Source);

    #[inline]
    fn next(&mut self) -> Option<(char, Source)> {
        loop {
            if let Some(c) = self.waiting.next() {
                return Some((c, self.source));
            }
            if let Some(run) = &mut self.run {
                match run.next(self.text) {
                    Some(kept) => return Some(kept),
                    None => self.run = None,
                }
            }
            self.read()?;
        }
    }
}
