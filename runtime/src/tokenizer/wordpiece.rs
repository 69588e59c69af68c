//! Splits words into the tokens of the vocabulary, longest match first.
//!
//! A word is all or nothing: if some rest of it starts with no token, or if it has more than 100 characters, the whole
//! word becomes `[UNK]`.

use super::pre_tokenizer::{MAX_WORD_CHARS, Word, Words};
use super::{Token, Tokenizer};

/// The tokens of one word, as ids and ends in bytes of the normalized word.
#[derive(Clone, Debug)]
struct Pieces {
    ids: [u32; MAX_WORD_CHARS],
    ends: [u16; MAX_WORD_CHARS],
    len: usize,
}

impl Pieces {
    /// Splits the word; `None` if it is unknown.
    #[inline]
    fn split(&mut self, tokenizer: &Tokenizer<'_>, word: &[u8], chars: usize) -> Option<()> {
        self.len = 0;
        if chars > MAX_WORD_CHARS {
            return None;
        }
        let mut at = 0;
        while at < word.len() {
            let found = tokenizer.vocab.longest_match(&word[at..], at > 0)?;
            at += found.bytes;
            // There is room for a token per character; a damaged vocabulary may ask for more.
            *self.ids.get_mut(self.len)? = found.id;
            self.ends[self.len] = at as u16;
            self.len += 1;
        }
        Some(())
    }
}

/// The tokens of one text, without `[CLS]` and `[SEP]`.
///
/// Holds less than 2 KiB, whatever the text.
#[derive(Clone, Debug)]
pub struct Tokens<'t> {
    tokenizer: &'t Tokenizer<'t>,
    text: &'t str,
    words: Words<'t>,
    /// The special token behind the part that is being read.
    special: Option<Token>,
    word: Word,
    word_index: u32,
    pieces: Pieces,
    /// The next piece, and the bytes and characters of the word before it.
    next_piece: usize,
    bytes_before: usize,
    chars_before: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer<'t>, text: &'t str) -> Self {
        let mut tokens = Self {
            tokenizer,
            text,
            words: Words::new(text, tokenizer.steps),
            special: None,
            word: Word::InBuffer,
            word_index: 0,
            pieces: Pieces { ids: [0; MAX_WORD_CHARS], ends: [0; MAX_WORD_CHARS], len: 0 },
            next_piece: 0,
            bytes_before: 0,
            chars_before: 0,
        };
        tokens.read_part(0);
        tokens
    }

    /// Goes on at `start`, up to the next special token.
    fn read_part(&mut self, start: usize) {
        self.special = self.tokenizer.special_tokens.find(self.text, start);
        self.words.read_part(start, self.special.map_or(self.text.len(), |special| special.start as usize));
    }

    #[inline]
    fn split(&mut self, word: Word) -> Option<Token> {
        self.word = word;
        self.next_piece = 0;
        self.bytes_before = 0;
        self.chars_before = 0;
        let (bytes, chars) = match word {
            Word::InText { start, end, chars } => (&self.text.as_bytes()[start..end], chars),
            Word::InBuffer => (self.words.buffer().bytes(), self.words.buffer().chars()),
        };
        if self.pieces.split(self.tokenizer, bytes, chars).is_some() {
            return None;
        }
        self.pieces.len = 0;
        let (start, end) = match word {
            Word::InText { start, end, .. } => (start as u32, end as u32),
            Word::InBuffer => self.words.buffer().span(0, chars),
        };
        Some(Token { id: self.tokenizer.config.unk_token_id, start, end, word: self.word_index - 1 })
    }

    #[inline]
    fn piece(&mut self) -> Token {
        let before = self.bytes_before;
        let after = usize::from(self.pieces.ends[self.next_piece]);
        let (start, end) = match self.word {
            Word::InText { start, .. } => ((start + before) as u32, (start + after) as u32),
            Word::InBuffer => {
                let buffer = self.words.buffer();
                let first = self.chars_before;
                // Every character has one byte that does not continue it. A damaged vocabulary may split characters.
                let starts = buffer.bytes()[before..after].iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
                self.chars_before += starts;
                buffer.span(first.min(buffer.chars() - 1), self.chars_before.max(1))
            }
        };
        let token = Token { id: self.pieces.ids[self.next_piece], start, end, word: self.word_index - 1 };
        self.bytes_before = after;
        self.next_piece += 1;
        token
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        loop {
            if self.next_piece < self.pieces.len {
                return Some(self.piece());
            }
            if let Some(word) = self.words.next() {
                self.word_index += 1;
                if let Some(unknown) = self.split(word) {
                    return Some(unknown);
                }
            } else {
                let special = self.special.take()?;
                let token = Token { word: self.word_index, ..special };
                self.word_index += 1;
                self.read_part(special.end as usize);
                return Some(token);
            }
        }
    }
}
