//! Text to tokens, piece by piece: words are split off the text as it comes.
//!
//! Split is at whitespace and around every punctuation character and ideograph. Most words stand in the text as the
//! model wants them and are tokenized where they stand. A word with a character that normalization changes, or one
//! that the end of a piece of text cuts, is written into a buffer, which holds as many characters as a word may have.

use super::characters::{class, count_chars, first_class};
use super::normalizer::Normalized;
use super::short_bytes::ShortBytes;
use super::special_tokens::{MAX_SPELLING_BYTES, Progress};
use super::unicode_tables::{NONSTARTER, PUNCTUATION, SPACE};
use super::word_buffer::{MAX_WORD_CHARS, Source, WordBuffer};
use super::wordpiece::Pieces;
use super::{Token, Tokenizer, TokenizerError};
use crate::storage::Storage;

/// Tokenizes one text that is given in pieces, cut anywhere.
///
/// Holds less than 2 KiB, whatever the text. Each token is handed to the caller as soon as its word is complete.
///
/// ```
/// # use mbert_runtime::{tokenizer::{Tokenizer, TokenizerError}, storage::Storage};
/// # fn example<S: Storage>(tokenizer: &Tokenizer<S>) -> Result<(), TokenizerError> {
/// let mut ids = [0; 8];
/// let mut tokens = ids.iter_mut();
/// let mut stream = tokenizer.stream();
/// for piece in [&b"Gr\xC3"[..], b"\xBC\xC3\x9Fe aus ", b"K\xC3\xB6ln"] {
///     stream.write_bytes(piece, |token| tokens.next().into_iter().for_each(|id| *id = token.id))?;
/// }
/// stream.finish(|token| tokens.next().into_iter().for_each(|id| *id = token.id))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenStream<'t, S> {
    tokenizer: &'t Tokenizer<S>,
    /// Bytes of the text taken so far.
    position: u32,
    /// The bytes of a character that the last piece was cut in.
    partial: ShortBytes<4>,
    /// The end of the text so far, as long as it may become a special token.
    held: ShortBytes<{ MAX_SPELLING_BYTES + 4 }>,
    word: WordBuffer,
    /// The number of the next word.
    word_index: u32,
    pieces: Pieces,
}

impl<'t, S: Storage> TokenStream<'t, S> {
    pub(super) fn new(tokenizer: &'t Tokenizer<S>) -> Self {
        Self {
            tokenizer,
            position: 0,
            partial: ShortBytes::EMPTY,
            held: ShortBytes::EMPTY,
            word: WordBuffer::new(),
            word_index: 0,
            pieces: Pieces::new(),
        }
    }

    pub(super) fn tokenizer(&self) -> &'t Tokenizer<S> {
        self.tokenizer
    }

    /// Goes on with a piece of the text, which may be cut within a character. Hands each token that is complete to
    /// `sink`.
    ///
    /// # Errors
    ///
    /// If the text is not UTF-8 or has 4 GiB or more, or the vocabulary cannot be read. The stream is then of no more
    /// use.
    pub fn write_bytes(&mut self, bytes: &[u8], mut sink: impl FnMut(Token)) -> Result<(), TokenizerError> {
        self.bytes(bytes, &mut sink)
    }

    /// Goes on with a piece of the text.
    ///
    /// # Errors
    ///
    /// See [`write_bytes`](Self::write_bytes).
    pub fn write(&mut self, text: &str, mut sink: impl FnMut(Token)) -> Result<(), TokenizerError> {
        if self.partial.is_empty() { self.run(text, false, &mut sink) } else { self.bytes(text.as_bytes(), &mut sink) }
    }

    /// Hands the last tokens to `sink`. The stream then stands at the start of another text.
    ///
    /// # Errors
    ///
    /// If the text ends within a character, or the vocabulary cannot be read. The stream is then of no more use.
    pub fn finish(&mut self, mut sink: impl FnMut(Token)) -> Result<(), TokenizerError> {
        self.write_last("", &mut sink)
    }

    /// [`write_bytes`](Self::write_bytes), which is compiled once whatever takes the tokens, like all that follows.
    fn bytes(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Token)) -> Result<(), TokenizerError> {
        while !self.partial.is_empty()
            && let Some((byte, rest)) = bytes.split_first()
        {
            self.partial.push(&[*byte]);
            bytes = rest;
            let partial = self.partial;
            match core::str::from_utf8(partial.as_bytes()) {
                Ok(character) => {
                    self.partial = ShortBytes::EMPTY;
                    self.run(character, false, sink)?;
                }
                Err(error) if error.error_len().is_some() => {
                    return Err(TokenizerError::InvalidUtf8 { at: self.position as usize });
                }
                Err(_) => {}
            }
        }
        let (valid, rest) = match core::str::from_utf8(bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) => {
                let (valid, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
                if error.error_len().is_some() {
                    let at = (self.position as usize).saturating_add(valid.len());
                    return Err(TokenizerError::InvalidUtf8 { at });
                }
                // It was just found valid.
                (core::str::from_utf8(valid).unwrap_or_default(), rest)
            }
        };
        self.run(valid, false, sink)?;
        self.partial.push(rest);
        Ok(())
    }

    /// The last piece of the text and the end.
    pub(super) fn write_last(&mut self, text: &str, sink: &mut dyn FnMut(Token)) -> Result<(), TokenizerError> {
        if !self.partial.is_empty() {
            return Err(TokenizerError::InvalidUtf8 { at: self.position as usize });
        }
        let piece = Piece { text, start: self.position, is_last: true };
        self.run(text, true, sink)?;
        self.settle(piece, self.position, sink)?;
        self.end_word(piece, sink)?;
        self.position = 0;
        self.word_index = 0;
        Ok(())
    }

    fn run(&mut self, text: &str, is_last: bool, sink: &mut dyn FnMut(Token)) -> Result<(), TokenizerError> {
        let piece = Piece { text, start: self.position, is_last };
        let end = u32::try_from(text.len()).ok().and_then(|bytes| self.position.checked_add(bytes));
        self.position =
            end.ok_or(TokenizerError::TextTooLong { bytes: (self.position as usize).saturating_add(text.len()) })?;
        let mut at = 0;
        loop {
            if self.tokenizer.special_tokens_stop_words && self.is_clean() {
                at = self.run_in_place(piece, at, sink)?;
            }
            // What could not be done in place, up to the end of the word.
            let rest = text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            for c in rest.chars() {
                self.scalar(c, piece, at, sink)?;
                at += c.len_utf8();
                if self.is_clean() {
                    break;
                }
            }
        }
    }

    /// Whether nothing of the text so far has a say in what comes next.
    #[inline]
    fn is_clean(&self) -> bool {
        self.held.is_empty() && self.word.is_clean()
    }

    /// Tokenizes words where they stand, from `at` on. Returns where the word starts for which that is not possible.
    #[inline]
    fn run_in_place(
        &mut self,
        piece: Piece<'_>,
        mut at: usize,
        sink: &mut dyn FnMut(Token),
    ) -> Result<usize, TokenizerError> {
        let Piece { text, is_last, .. } = piece;
        let (stops, changed) = (self.tokenizer.stops, self.tokenizer.changed);
        loop {
            let mut end = at;
            let (flags, stop_bytes) = loop {
                match text.as_bytes().get(end..) {
                    Some(rest) if !rest.is_empty() => {
                        let (flags, bytes) = first_class(rest);
                        if flags & stops != 0 {
                            break (flags, bytes);
                        }
                        end += bytes;
                    }
                    _ if is_last => break (SPACE, 0),
                    // The word may go on.
                    _ => return Ok(at),
                }
            };
            if flags & changed != 0 {
                return Ok(at);
            }
            if end > at {
                self.word_in_place(piece, at, end, sink)?;
                at = end;
            }
            if at == text.len() {
                return Ok(at);
            }
            let behind = at + stop_bytes;
            if flags & SPACE == 0 {
                // Punctuation and ideographs are words by themselves, unless a special token starts here.
                let rest = text.as_bytes().get(at..).unwrap_or_default();
                if self.tokenizer.special_tokens.may_start(rest) {
                    match self.tokenizer.special_tokens.progress(rest, is_last) {
                        Progress::Found { id, bytes } => {
                            self.special(id, piece.start + at as u32, bytes, sink);
                            at += bytes;
                            continue;
                        }
                        Progress::Possible => return Ok(at),
                        Progress::None => {}
                    }
                }
                self.word_in_place(piece, at, behind, sink)?;
            }
            at = behind;
        }
    }

    /// Tokenizes the word that stands at `start..end` of the piece.
    #[inline]
    fn word_in_place(
        &mut self,
        piece: Piece<'_>,
        start: usize,
        end: usize,
        sink: &mut dyn FnMut(Token),
    ) -> Result<(), TokenizerError> {
        let word = piece.text.as_bytes().get(start..end).unwrap_or_default();
        let first = piece.start + start as u32;
        let mut token = Token {
            id: self.tokenizer.config.unk_token_id,
            start: first,
            end: first,
            word: self.word_index,
            is_special: false,
        };
        self.word_index += 1;
        let fits = word.len() <= MAX_WORD_CHARS || count_chars(word) <= MAX_WORD_CHARS;
        if fits && self.pieces.split(&self.tokenizer.vocab, word)? {
            for (id, end) in self.pieces.iter() {
                (token.id, token.start, token.end) = (id, token.end, first + end as u32);
                sink(token);
            }
        } else {
            token.end = first + word.len() as u32;
            sink(token);
        }
        Ok(())
    }

    /// Takes a character, the piece's at `at`, which is held back if a special token may start with it.
    #[inline]
    fn scalar(
        &mut self,
        c: char,
        piece: Piece<'_>,
        at: usize,
        sink: &mut dyn FnMut(Token),
    ) -> Result<(), TokenizerError> {
        let start = piece.start + at as u32;
        let rest = piece.text.as_bytes().get(at..).unwrap_or_default();
        if self.held.is_empty() && !self.tokenizer.special_tokens.may_start(rest) {
            return self.character(c, Source::new(start, c), piece, sink);
        }
        // What is held is shorter than a spelling, so there is room.
        self.held.push(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.settle(Piece { is_last: false, ..piece }, start + c.len_utf8() as u32, sink)
    }

    /// Lets go of what is held, which ends at the byte `end` of the text, as far as no special token starts with it.
    #[cold]
    fn settle(&mut self, piece: Piece<'_>, end: u32, sink: &mut dyn FnMut(Token)) -> Result<(), TokenizerError> {
        while !self.held.is_empty() {
            let held = self.held;
            let held = held.as_bytes();
            let start = end - held.len() as u32;
            let released = match self.tokenizer.special_tokens.progress(held, piece.is_last) {
                Progress::Possible => return Ok(()),
                Progress::Found { id, bytes } => {
                    self.end_word(piece, sink)?;
                    self.special(id, start, bytes, sink);
                    bytes
                }
                Progress::None => {
                    // Only whole characters are held.
                    let c = core::str::from_utf8(held).unwrap_or_default().chars().next().unwrap_or(' ');
                    self.character(c, Source::new(start, c), piece, sink)?;
                    c.len_utf8()
                }
            };
            self.held.remove(released);
        }
        Ok(())
    }

    #[inline]
    fn special(&mut self, id: u32, start: u32, bytes: usize, sink: &mut dyn FnMut(Token)) {
        sink(Token { id, start, end: start + bytes as u32, word: self.word_index, is_special: true });
        self.word_index += 1;
    }

    /// Writes a character of the text into the word, or ends it.
    #[inline(always)]
    fn character(
        &mut self,
        c: char,
        source: Source,
        piece: Piece<'_>,
        sink: &mut dyn FnMut(Token),
    ) -> Result<(), TokenizerError> {
        let flags = class(c);
        if flags & self.tokenizer.stops == 0 {
            self.word.close_marks(piece.text, piece.start);
            self.word.push(c, source);
            return Ok(());
        }
        self.changed_character(c, flags, source, piece, sink)
    }

    /// The same for one that normalization changes or that ends a word.
    fn changed_character(
        &mut self,
        c: char,
        flags: u8,
        source: Source,
        piece: Piece<'_>,
        sink: &mut dyn FnMut(Token),
    ) -> Result<(), TokenizerError> {
        let steps = self.tokenizer.steps;
        match steps.normalize(c, flags) {
            Normalized::Letter(c) => {
                self.word.close_marks(piece.text, piece.start);
                self.word.push(c, source);
            }
            Normalized::Punctuation => {
                self.end_word(piece, sink)?;
                self.word.push(c, source);
                self.end_word(piece, sink)?;
            }
            Normalized::Nothing => {}
            Normalized::Mark => self.word.push_mark(c, source),
            Normalized::Space => self.end_word(piece, sink)?,
            Normalized::Parts { parts, is_set_off } => {
                self.word.close_marks(piece.text, piece.start);
                if is_set_off {
                    self.end_word(piece, sink)?;
                }
                for &part in parts.as_slice() {
                    if steps.strip_accents && class(part) & NONSTARTER != 0 {
                        self.word.push_mark_of_decomposition(part, source);
                    } else {
                        self.letter(part, source, piece, sink)?;
                    }
                }
                if is_set_off {
                    self.end_word(piece, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a part of a character into the word; punctuation is a word by itself.
    fn letter(
        &mut self,
        c: char,
        source: Source,
        piece: Piece<'_>,
        sink: &mut dyn FnMut(Token),
    ) -> Result<(), TokenizerError> {
        let flags = class(c);
        if flags & (SPACE | PUNCTUATION) == 0 {
            self.word.close_marks(piece.text, piece.start);
            self.word.push(c, source);
            return Ok(());
        }
        self.end_word(piece, sink)?;
        if flags & PUNCTUATION != 0 {
            self.word.push(c, source);
            self.end_word(piece, sink)?;
        }
        Ok(())
    }

    /// Tokenizes the word in the buffer, if there is one.
    fn end_word(&mut self, piece: Piece<'_>, sink: &mut dyn FnMut(Token)) -> Result<(), TokenizerError> {
        self.word.close_marks(piece.text, piece.start);
        let chars = self.word.chars();
        if chars == 0 {
            return Ok(());
        }
        let word = self.word_index;
        self.word_index += 1;
        if chars <= MAX_WORD_CHARS && self.pieces.split(&self.tokenizer.vocab, self.word.bytes())? {
            let (mut before, mut first) = (0, 0);
            for (id, after) in self.pieces.iter() {
                // Every character has one byte that does not continue it. A damaged vocabulary may split characters.
                let starts = count_chars(self.word.bytes().get(before..after).unwrap_or_default());
                let (start, end) = self.word.span(first.min(chars - 1), (first + starts).max(1));
                sink(Token { id, start, end, word, is_special: false });
                (before, first) = (after, first + starts);
            }
        } else {
            let (start, end) = self.word.span(0, chars);
            sink(Token { id: self.tokenizer.config.unk_token_id, start, end, word, is_special: false });
        }
        self.word.clear();
        Ok(())
    }
}

/// What is at hand of the text.
#[derive(Clone, Copy)]
struct Piece<'x> {
    text: &'x str,
    /// Where it starts in the text.
    start: u32,
    /// Whether nothing follows it.
    is_last: bool,
}
