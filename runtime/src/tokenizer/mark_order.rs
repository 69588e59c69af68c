//! Combining characters in canonical order, where some of them stay although accents are stripped.
//!
//! Canonical order sorts each run of characters with a combining class other than 0 by that class. Most are nonspacing
//! marks and are dropped; a few are not (U+302E, the musical stems, and those that the reference's older categories do
//! not know). Those go to their places in the word as they come, so a run of any length takes no more memory.
//!
//! The reference sorts characters but not their places in the text: the first in order gets the first place, and so
//! on. The second and later parts of a decomposition get the place of what precedes them in order. So what has to be
//! known of a mark that stays is its rank, the number of marks before it in order, and of the run the places of its
//! marks. They are kept for the first [`PLACES`], which is more than Unicode's Stream-Safe Text Format allows (30), and
//! looked for in the text beyond. Only where a longer run is cut by the end of a piece of streamed text, a mark that stays
//! and has a higher rank gets the place of the latest that came: its id is exact all the same.

use super::characters::class;
use super::unicode_tables::{KEPT_CLASSES, REMOVED};
use super::word_buffer::Source;

/// Marks of a run whose places are kept.
pub const PLACES: usize = 32;

/// What is known of the run of combining characters that is being read.
///
/// A rank is kept doubled, plus one for parts of a decomposition.
#[derive(Clone, Debug)]
pub struct MarkOrder {
    is_open: bool,
    /// Characters of the word before the run.
    first_char: u32,
    /// The place of the character before the run.
    before: Source,
    /// Marks so far, and how many of them do not follow each of the classes of marks that stay.
    marks: u32,
    at_most: [u32; KEPT_CLASSES],
    starts: [u32; PLACES],
    lens: [u8; PLACES],
    /// The place of the latest mark.
    latest: Source,
    /// Place in order and rank of the last in order of those that stay.
    last: (u8, u32),
}

impl MarkOrder {
    pub const fn new() -> Self {
        let nowhere = Source { start: 0, len: 0 };
        Self {
            is_open: false,
            first_char: 0,
            before: nowhere,
            marks: 0,
            at_most: [0; KEPT_CLASSES],
            starts: [0; PLACES],
            lens: [0; PLACES],
            latest: nowhere,
            last: (0, 0),
        }
    }

    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A run starts behind `first_char` characters of the word, the last of which comes from `before`.
    pub fn open(&mut self, first_char: u32, before: Source) {
        self.is_open = true;
        self.first_char = first_char;
        (self.before, self.latest) = (before, before);
        self.marks = 0;
        self.at_most = [0; KEPT_CLASSES];
        self.last = (0, 0);
    }

    pub fn close(&mut self) {
        self.is_open = false;
    }

    pub fn first_char(&self) -> u32 {
        self.first_char
    }

    /// The rank of a mark that stays and has this place in order, if it came next.
    pub fn rank(&self, order: u8) -> u32 {
        self.at_most.get(usize::from(order / 2)).unwrap_or(&self.marks).saturating_mul(2)
    }

    /// The rank of a part of a decomposition, which has no place of its own.
    pub fn rank_of_part(&self, order: u8) -> u32 {
        self.rank(order) | 1
    }

    /// The rank of a mark before which, in order, another one has come.
    pub fn next_rank(rank: u32) -> u32 {
        rank.saturating_add(2)
    }

    /// Counts a mark of the text.
    pub fn count(&mut self, order: u8, source: Source) {
        // The classes that stay have the odd places.
        for (kept, at_most) in (1..).step_by(2).zip(&mut self.at_most) {
            *at_most += u32::from(order <= kept);
        }
        let number = self.marks as usize;
        if let (Some(start), Some(len)) = (self.starts.get_mut(number), self.lens.get_mut(number)) {
            (*start, *len) = (source.start, source.len);
        }
        self.marks += 1;
        self.latest = source;
    }

    /// Notes a mark that stays.
    pub fn keep(&mut self, order: u8, rank: u32) {
        if order >= self.last.0 {
            self.last = (order, rank);
        }
    }

    /// The same for the last of those that stay as [`next_rank`](Self::next_rank), if a mark of this place in order came.
    pub fn move_last(&mut self, order: u8) {
        if self.last.0 > order {
            self.last.1 = Self::next_rank(self.last.1);
        }
    }

    /// The place of the mark with this rank. `text` is what is at hand of the text, from the byte `base` on.
    pub fn place(&self, rank: u32, text: &str, base: u32) -> Source {
        let (rank, is_part) = ((rank / 2) as usize, rank % 2 == 1);
        let rank = match (is_part, rank) {
            (true, 0) => return self.before,
            (true, rank) => rank - 1,
            (false, rank) => rank,
        };
        match (self.starts.get(rank), self.lens.get(rank)) {
            (Some(&start), Some(&len)) if rank < self.marks as usize => Source { start, len },
            _ => rank.checked_sub(PLACES).and_then(|number| self.find(number, text, base)).unwrap_or(self.latest),
        }
    }

    /// The mark with this number behind those whose places are kept, if it is at hand.
    fn find(&self, number: usize, text: &str, base: u32) -> Option<Source> {
        let first = self.starts[PLACES - 1] + u32::from(self.lens[PLACES - 1]);
        let start = first.checked_sub(base)? as usize;
        let rest = text.get(start..)?;
        // All that is not removed is a mark, up to the one that is looked for.
        let (at, c) = rest.char_indices().filter(|&(_, c)| class(c) & REMOVED == 0).nth(number)?;
        Some(Source { start: first + at as u32, len: c.len_utf8() as u8 })
    }

    /// The place of the last in order of the marks that stay.
    pub fn last_place(&self, text: &str, base: u32) -> Source {
        self.place(self.last.1, text, base)
    }
}
