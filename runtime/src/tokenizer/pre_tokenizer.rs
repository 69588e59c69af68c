//! Splits text into words: at whitespace, and around every punctuation character and ideograph.
//!
//! Most words stand in the text as the model wants them, so a word is first looked for there. Only one with a character
//! that normalization changes is written into a buffer, which holds as many characters as a word may have.

use super::characters::class;
use super::normalizer::{Normalizer, Source, Steps};
use super::unicode_tables::{CJK, PUNCTUATION, SPACE};

/// Longest word in characters; a longer one is unknown as a whole.
pub const MAX_WORD_CHARS: usize = 100;

/// A word in normalized form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It stands in the text as it is.
    InText {
        /// Its first byte.
        start: usize,
        /// The byte behind it.
        end: usize,
        /// Its length.
        chars: usize,
    },
    /// It is in the [`WordBuffer`].
    InBuffer,
}

/// A normalized word and where its characters come from.
#[derive(Clone, Debug)]
pub struct WordBuffer {
    bytes: [u8; 4 * MAX_WORD_CHARS],
    byte_len: usize,
    starts: [u32; MAX_WORD_CHARS],
    lens: [u8; MAX_WORD_CHARS],
    chars: usize,
    /// Where the last character comes from, also if it found no room.
    last: Source,
}

impl WordBuffer {
    fn new() -> Self {
        Self {
            bytes: [0; 4 * MAX_WORD_CHARS],
            byte_len: 0,
            starts: [0; MAX_WORD_CHARS],
            lens: [0; MAX_WORD_CHARS],
            chars: 0,
            last: Source::default(),
        }
    }

    fn clear(&mut self) {
        self.byte_len = 0;
        self.chars = 0;
    }

    /// Adds a character; of one that finds no room only the place is kept.
    fn push(&mut self, c: char, source: Source) {
        if self.chars < MAX_WORD_CHARS {
            self.byte_len += c.encode_utf8(&mut self.bytes[self.byte_len..]).len();
            self.starts[self.chars] = source.start;
            self.lens[self.chars] = source.len;
        }
        self.chars += 1;
        self.last = source;
    }

    /// The word's bytes, cut off behind [`MAX_WORD_CHARS`] characters.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.byte_len]
    }

    /// The word's length in characters.
    pub fn chars(&self) -> usize {
        self.chars
    }

    /// Where the characters `first..end` come from, from the first one's start to the last one's end.
    pub fn span(&self, first: usize, end: usize) -> (u32, u32) {
        let last =
            if end == self.chars { self.last.end() } else { self.starts[end - 1] + u32::from(self.lens[end - 1]) };
        (self.starts[first], last)
    }
}

/// The words of a part of a text.
#[derive(Clone, Debug)]
pub struct Words<'t> {
    normalizer: Normalizer<'t>,
    /// The classes that [`Steps`] change, and with them those that end a word.
    changed: u8,
    stops: u8,
    /// A punctuation character that ended a word and is the next one.
    held: Option<(char, Source)>,
    buffer: WordBuffer,
}

impl<'t> Words<'t> {
    pub fn new(text: &'t str, steps: Steps) -> Self {
        let changed = steps.changed();
        let set_off = if steps.space_out_cjk { CJK } else { 0 };
        Self {
            normalizer: Normalizer::new(text, steps),
            changed,
            stops: changed | set_off | SPACE | PUNCTUATION,
            held: None,
            buffer: WordBuffer::new(),
        }
    }

    /// Goes on with another part of the text.
    pub fn read_part(&mut self, start: usize, end: usize) {
        self.normalizer.read_part(start, end);
    }

    /// The word that was found [`Word::InBuffer`].
    pub fn buffer(&self) -> &WordBuffer {
        &self.buffer
    }

    /// The next word.
    #[inline]
    pub fn next(&mut self) -> Option<Word> {
        if self.held.is_none()
            && let Some(word) = self.next_in_text()
        {
            return Some(word);
        }
        self.next_in_buffer()
    }

    /// The next word if it stands in the text as it is. `None` also at the end.
    #[inline]
    fn next_in_text(&mut self) -> Option<Word> {
        loop {
            let (start, unread) = self.normalizer.unread()?;
            let mut rest = unread.chars();
            let mut chars = 0;
            let (stop, bytes_behind) = loop {
                let bytes_behind = rest.as_str().len();
                match rest.next().map(class) {
                    Some(flags) if flags & self.stops == 0 => chars += 1,
                    Some(flags) => break (flags, bytes_behind),
                    None => break (0, 0),
                }
            };
            let len = unread.len() - bytes_behind;
            if stop & self.changed != 0 || unread.is_empty() {
                return None;
            }
            if len > 0 {
                self.normalizer.advance(len);
                return Some(Word::InText { start, end: start + len, chars });
            }
            let stop_bytes = bytes_behind - rest.as_str().len();
            self.normalizer.advance(stop_bytes);
            if stop & SPACE == 0 {
                // Punctuation and ideographs are words by themselves.
                return Some(Word::InText { start, end: start + stop_bytes, chars: 1 });
            }
        }
    }

    /// Writes the next word into the buffer.
    fn next_in_buffer(&mut self) -> Option<Word> {
        self.buffer.clear();
        while let Some((c, source)) = self.held.take().or_else(|| self.normalizer.next()) {
            let class = class(c);
            if class & (SPACE | PUNCTUATION) == 0 {
                self.buffer.push(c, source);
            } else if self.buffer.chars > 0 {
                self.held = (class & PUNCTUATION != 0).then_some((c, source));
                break;
            } else if class & PUNCTUATION != 0 {
                self.buffer.push(c, source);
                break;
            }
        }
        (self.buffer.chars > 0).then_some(Word::InBuffer)
    }
}
