//! Combining characters in canonical order, where some of them stay although accents are stripped.
//!
//! Canonical order sorts each run of characters with a combining class other than 0 by that class. Most are nonspacing
//! marks and are dropped; a few are not (U+302E, the musical stems, and those that the reference's older categories do
//! not know). A run has no longest length, so it is not gathered and sorted but read once per class that occurs in it,
//! which takes constant memory and at most about 50 passes.
//!
//! The reference sorts characters but not their places in the text: the first in order gets the first place, and so
//! on. The second and later parts of a decomposition get the place of what precedes them in order.

use super::characters::{Characters, class, combining_class};
use super::normalizer::Source;
use super::unicode_tables::{MARK, NONSTARTER, REMOVED};

/// A run of combining characters that is being read in canonical order.
#[derive(Clone, Debug)]
pub struct MarkRun {
    start: usize,
    end: usize,
    keeps_any: bool,
    /// The kept marks at the end of the decomposed character before the run.
    leading: Characters,
    /// The combining class that is being read, the least above it that was met, and how far reading has come.
    class: u8,
    next_class: u8,
    leading_left: Characters,
    position: usize,
    /// The place that the latest mark in order got, and where the next place is to be looked for.
    source: Source,
    next_source: usize,
}

impl MarkRun {
    /// The run that starts at `start` and goes on to the first starter or to `end`.
    ///
    /// `leading` are the kept marks with which the decomposition of the character before it ends, `before` is the
    /// place of that character.
    pub fn new(text: &str, start: usize, end: usize, leading: Characters, before: Source) -> Self {
        let mut run = Self {
            start,
            end,
            keeps_any: leading.len() > 0,
            leading,
            class: 0,
            next_class: 1,
            leading_left: Characters::default(),
            position: end,
            source: before,
            next_source: start,
        };
        let mut after = start;
        for (at, c) in text[start..end].char_indices() {
            let class = class(c);
            if class & NONSTARTER != 0 {
                run.keeps_any |= class & MARK == 0;
                after = start + at + c.len_utf8();
            } else if class & REMOVED == 0 {
                break;
            }
        }
        run.end = after;
        run.position = after;
        run
    }

    /// The byte behind the run.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Whether any of its characters stays.
    pub fn keeps_any(&self) -> bool {
        self.keeps_any
    }

    /// The next character that stays, with its place.
    pub fn next(&mut self, text: &str) -> Option<(char, Source)> {
        loop {
            while let Some(c) = self.leading_left.next() {
                if self.is_in_order(c) {
                    return Some((c, self.source));
                }
            }
            while let Some((at, c)) = next_mark(text, self.position, self.end) {
                self.position = at + c.len_utf8();
                if self.is_in_order(c) {
                    if let Some((at, c)) = next_mark(text, self.next_source, self.end) {
                        self.source = Source::new(at, c);
                        self.next_source = at + c.len_utf8();
                    }
                    if class(c) & MARK == 0 {
                        return Some((c, self.source));
                    }
                }
            }
            if self.next_class == u8::MAX {
                return None;
            }
            // Class 1 may not occur: then the first pass only finds the least class that does.
            self.class = self.next_class;
            self.next_class = u8::MAX;
            self.leading_left = self.leading;
            self.position = self.start;
        }
    }

    /// Whether `c` has the class that is being read; if it has a greater one, that is noted.
    fn is_in_order(&mut self, c: char) -> bool {
        let class = combining_class(c);
        if class > self.class {
            self.next_class = self.next_class.min(class);
        }
        class == self.class
    }
}

/// The first character at or behind `position` that text cleaning does not drop.
fn next_mark(text: &str, position: usize, end: usize) -> Option<(usize, char)> {
    let (at, c) = text[position..end].char_indices().find(|&(_, c)| class(c) & REMOVED == 0)?;
    Some((position + at, c))
}
