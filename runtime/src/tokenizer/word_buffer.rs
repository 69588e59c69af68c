//! A normalized word, and where in the text its characters come from.

use super::characters::{class, combining_class};
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
        &self.bytes[..self.byte_len.into()]
    }

    /// The word's length in characters.
    pub fn chars(&self) -> usize {
        self.chars as usize
    }

    /// Where the characters `first..end` come from, from the first one's start to the last one's end.
    pub fn span(&self, first: usize, end: usize) -> (u32, u32) {
        let last = if end == self.chars() { self.last.end() } else { self.source(end - 1).end() };
        (self.starts[first], last)
    }

    fn source(&self, char: usize) -> Source {
        Source { start: self.starts[char], len: self.lens[char] }
    }

    /// Adds a character that is no combining one; of one that finds no room only the place is kept.
    #[inline]
    pub fn push(&mut self, c: char, source: Source) {
        self.place(c, source);
        self.last = source;
    }

    fn place(&mut self, c: char, source: Source) {
        if self.chars() < MAX_WORD_CHARS {
            let start = usize::from(self.byte_len);
            self.byte_len += c.encode_utf8(&mut self.bytes[start..]).len() as u16;
            self.starts[self.chars()] = source.start;
            self.lens[self.chars()] = source.len;
        }
        self.chars = self.chars.saturating_add(1);
    }

    /// Adds a combining character of the text, which goes to its place in canonical order if it stays.
    pub fn push_mark(&mut self, c: char, source: Source) {
        let class_of_order = combining_class(c);
        if !self.marks.is_open() {
            self.marks.open(self.chars, Source { start: source.start, len: 0 });
        }
        let kept = (class(c) & MARK == 0).then(|| self.marks.rank(class_of_order));
        self.marks.count(class_of_order, source);
        self.move_behind(class_of_order);
        if let Some(rank) = kept {
            self.insert(c, class_of_order, rank);
        }
    }

    /// Adds a combining character that stays of a decomposition, at the place `source` of the whole.
    pub fn push_mark_of_decomposition(&mut self, c: char, source: Source) {
        if !self.marks.is_open() {
            self.marks.open(self.chars, source);
        }
        let class = combining_class(c);
        self.insert(c, class, self.marks.rank_of_part(class));
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
        let first = self.marks.first_char() as usize;
        for char in first..self.chars().min(MAX_WORD_CHARS) {
            let place = self.marks.place(self.starts[char], text, base);
            (self.starts[char], self.lens[char]) = (place.start, place.len);
        }
        if self.chars() > first {
            self.last = self.marks.last_place(text, base);
        }
        self.marks.close();
    }

    /// A mark of this class has come: those in the word that follow it in order go up by one rank.
    fn move_behind(&mut self, class: u8) {
        let mut at = usize::from(self.byte_len);
        for char in (self.marks.first_char() as usize..self.chars().min(MAX_WORD_CHARS)).rev() {
            let c = self.char_before(at);
            if combining_class(c) <= class {
                break;
            }
            self.starts[char] = MarkOrder::next_rank(self.starts[char]);
            at -= c.len_utf8();
        }
        self.marks.move_last(class);
    }

    /// Puts a mark behind those of its own class and of lower ones.
    fn insert(&mut self, c: char, class: u8, rank: u32) {
        self.marks.keep(class, rank);
        let mut at = usize::from(self.byte_len);
        let mut char = self.chars().min(MAX_WORD_CHARS);
        while char > self.marks.first_char() as usize {
            let before = self.char_before(at);
            if combining_class(before) <= class {
                break;
            }
            at -= before.len_utf8();
            char -= 1;
        }
        let is_full = self.chars() >= MAX_WORD_CHARS;
        self.chars = self.chars.saturating_add(1);
        if char == MAX_WORD_CHARS {
            return;
        }
        if is_full {
            // The last one gives way: the word is unknown, and only where it starts and ends matters.
            self.byte_len -= self.char_before(self.byte_len.into()).len_utf8() as u16;
        }
        let behind = self.chars().min(MAX_WORD_CHARS) - 1;
        let (len, added) = (usize::from(self.byte_len), c.len_utf8());
        self.bytes.copy_within(at..len, at + added);
        c.encode_utf8(&mut self.bytes[at..]);
        self.byte_len += added as u16;
        self.starts.copy_within(char..behind, char + 1);
        self.starts[char] = rank;
    }

    /// The character that ends before the byte `at`, which is not the first.
    fn char_before(&self, at: usize) -> char {
        let start = self.bytes[..at].iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
        // What was pushed is valid.
        let text = core::str::from_utf8(&self.bytes[start..at]).unwrap_or_default();
        text.chars().next().unwrap_or('\0')
    }
}
