//! A normalized word, and where in the text its characters come from.

use super::characters::{class, combining_order};
use super::mark_order::MarkOrder;
use super::unicode_tables::MARK;

/// Longest word in characters; a longer one is unknown as a whole.
pub const MAX_WORD_CHARS: usize = 100;

/// Where in the text a normalized character comes from: the bytes of one character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub start: u32,
    pub len: u8,
}

impl Source {
    pub fn new(start: u32, c: char) -> Self {
        Self { start, len: c.len_utf8() as u8 }
    }

    pub fn end(self) -> u32 {
        self.start + u32::from(self.len)
    }
}

/// A word that is being put together: as many characters as a word may have, and what is known of the rest.
#[derive(Clone, Debug)]
pub struct WordBuffer {
    bytes: [u8; 4 * MAX_WORD_CHARS],
    byte_len: u16,
    /// Of a mark whose place is still open: its rank among the marks, see [`MarkOrder`].
    starts: [u32; MAX_WORD_CHARS],
    lens: [u8; MAX_WORD_CHARS],
    /// The word's length, also beyond what finds room.
    chars: u32,
    /// Where the last character comes from, also if it found no room.
    last: Source,
    marks: MarkOrder,
}

impl WordBuffer {
    pub const fn new() -> Self {
        Self {
            bytes: [0; 4 * MAX_WORD_CHARS],
            byte_len: 0,
            starts: [0; MAX_WORD_CHARS],
            lens: [0; MAX_WORD_CHARS],
            chars: 0,
            last: Source { start: 0, len: 0 },
            marks: MarkOrder::new(),
        }
    }

    pub fn clear(&mut self) {
        self.byte_len = 0;
        self.chars = 0;
    }

    /// Whether nothing that was pushed has a say in what comes next.
    #[inline]
    pub fn is_clean(&self) -> bool {
        self.chars == 0 && !self.marks.is_open()
    }

    /// The word's bytes, cut off behind [`MAX_WORD_CHARS`] characters.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.byte_len.into()).unwrap_or_default()
    }

    /// The word's length in characters.
    pub fn chars(&self) -> usize {
        self.chars as usize
    }

    /// The number of characters that found room.
    fn stored(&self) -> usize {
        self.chars().min(MAX_WORD_CHARS)
    }

    /// Where the characters `first..end` come from, from the first one's start to the last one's end.
    pub fn span(&self, first: usize, end: usize) -> (u32, u32) {
        let last = if end == self.chars() { self.last } else { self.source(end.saturating_sub(1)) };
        (self.source(first).start, last.end())
    }

    fn source(&self, char: usize) -> Source {
        match (self.starts.get(char), self.lens.get(char)) {
            (Some(&start), Some(&len)) => Source { start, len },
            _ => self.last,
        }
    }

    /// Adds a character that is no combining one; of one that finds no room only the place is kept.
    pub fn push(&mut self, c: char, source: Source) {
        let char = self.chars();
        let bytes = self.bytes.get_mut(self.byte_len.into()..).and_then(<[u8]>::first_chunk_mut);
        if let (Some(start), Some(len), Some(bytes)) = (self.starts.get_mut(char), self.lens.get_mut(char), bytes) {
            (*start, *len) = (source.start, source.len);
            *bytes = utf8(c);
            self.byte_len += c.len_utf8() as u16;
        }
        self.chars = self.chars.saturating_add(1);
        self.last = source;
    }

    /// Adds a combining character of the text, which goes to its place in canonical order if it stays.
    pub fn push_mark(&mut self, c: char, source: Source) {
        let order = combining_order(c);
        if !self.marks.is_open() {
            self.marks.open(self.chars, Source { start: source.start, len: 0 });
        }
        let kept = (class(c) & MARK == 0).then(|| self.marks.rank(order));
        self.marks.count(order, source);
        self.move_behind(order);
        if let Some(rank) = kept {
            self.insert(c, order, rank);
        }
    }

    /// Adds a combining character that stays of a decomposition, at the place `source` of the whole.
    pub fn push_mark_of_decomposition(&mut self, c: char, source: Source) {
        if !self.marks.is_open() {
            self.marks.open(self.chars, source);
        }
        let order = combining_order(c);
        self.insert(c, order, self.marks.rank_of_part(order));
    }

    /// Gives the combining characters in the word their places: the first in order gets the first place, and so on, as
    /// in the reference. `text` is what is at hand of the text, from the byte `base` on.
    #[inline]
    pub fn close_marks(&mut self, text: &str, base: u32) {
        if self.marks.is_open() {
            self.place_marks(text, base);
        }
    }

    #[cold]
    fn place_marks(&mut self, text: &str, base: u32) {
        let (first, stored) = (self.marks.first_char() as usize, self.stored());
        let ranks = self.starts.get_mut(first..stored).unwrap_or_default();
        let lens = self.lens.get_mut(first..stored).unwrap_or_default();
        for (start, len) in ranks.iter_mut().zip(lens) {
            let place = self.marks.place(*start, text, base);
            (*start, *len) = (place.start, place.len);
        }
        if self.chars() > first {
            self.last = self.marks.last_place(text, base);
        }
        self.marks.close();
    }

    /// A mark of this place in order has come: those in the word that follow it go up by one rank.
    fn move_behind(&mut self, order: u8) {
        let (stored, (behind, _)) = (self.stored(), self.marks_behind(order));
        let ranks = self.starts.get_mut(stored - behind..stored).unwrap_or_default();
        ranks.iter_mut().for_each(|rank| *rank = MarkOrder::next_rank(*rank));
        self.marks.move_last(order);
    }

    /// How many of the last marks in the word follow one of this place in order, and how many bytes they have.
    fn marks_behind(&self, order: u8) -> (usize, usize) {
        let marks = self.stored().saturating_sub(self.marks.first_char() as usize);
        // Nearly always there are none.
        let text = if marks > 0 { self.text() } else { "" };
        let behind = text.chars().rev().take(marks).take_while(|&c| combining_order(c) > order);
        behind.fold((0, 0), |(marks, bytes), c| (marks + 1, bytes + c.len_utf8()))
    }

    /// Puts a mark behind those of its own place in order and of lower ones.
    fn insert(&mut self, c: char, order: u8, rank: u32) {
        self.marks.keep(order, rank);
        let (marks, bytes) = self.marks_behind(order);
        let (char, at) = (self.stored() - marks, usize::from(self.byte_len) - bytes);
        let is_full = self.chars() >= MAX_WORD_CHARS;
        self.chars = self.chars.saturating_add(1);
        if char == MAX_WORD_CHARS {
            return;
        }
        let mut len = usize::from(self.byte_len);
        if is_full {
            // The last one gives way: the word is unknown, and only where it starts and ends matters.
            len -= self.text().chars().next_back().map_or(0, char::len_utf8);
        }
        len += c.len_utf8();
        self.byte_len = len as u16;
        let bytes = self.bytes.get_mut(at..len).unwrap_or_default();
        c.encode_utf8(&mut [0; 4]).bytes().rev().for_each(|byte| insert_first(bytes, byte));
        let stored = self.stored();
        insert_first(self.starts.get_mut(char..stored).unwrap_or_default(), rank);
    }

    /// The characters of the word that found room.
    fn text(&self) -> &str {
        // What was pushed is valid.
        core::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

/// The bytes of a character, and zeros.
#[inline]
fn utf8(c: char) -> [u8; 4] {
    let mut bytes = [0; 4];
    c.encode_utf8(&mut bytes);
    bytes
}

/// Moves every entry of a list to the next place, for one more at the first; the last gives way.
fn insert_first<T>(list: &mut [T], value: T) {
    list.iter_mut().fold(value, |moved, place| core::mem::replace(place, moved));
}
