//! Long texts in overlapping windows, each an encoding of its own.

use core::fmt;

use super::encoder::room_for_text;
use super::encoding::Encoding;
use super::{Token, TokenStream, Tokenizer, TokenizerError};
use crate::storage::Storage;

/// The windows of a text that is longer than a model's input; [`Tokenizer::windows`] makes them.
///
/// Each window starts `stride` tokens before the end of the one before. Nothing is tokenized twice: those tokens are
/// taken from the caller's memory. As a [`fmt::Write`] it takes formatted text.
#[derive(Debug)]
pub struct Windows<'t, 'b, S, F> {
    tokenizer: &'t Tokenizer<S>,
    stream: TokenStream<'t, S>,
    window: Window<'b, F>,
    error: Option<TokenizerError>,
}

#[derive(Debug)]
struct Window<'b, F> {
    encoding: Encoding<'b>,
    each: F,
    /// Tokens of the text that stands in every window, if there is one.
    first: Option<usize>,
    room: usize,
    stride: usize,
    /// Tokens in this window.
    count: usize,
}

impl<S: Storage> Tokenizer<S> {
    /// Encodes a text that is given in pieces, below 4 GiB in all, in windows that overlap by `stride` tokens, and
    /// hands each to `each`. `first`, a question say, stands before it in every window.
    ///
    /// ```
    /// # use mbert_runtime::{storage::Storage, tokenizer::{Encoding, Tokenizer, TokenizerError}};
    /// # fn example<S: Storage>(tokenizer: &Tokenizer<S>, document: &[&[u8]]) -> Result<(), TokenizerError> {
    /// let mut ids = [0; 128];
    /// let mut tokens = 0;
    /// let mut windows =
    ///     tokenizer.windows(Some("Who wrote it?"), 32, Encoding::new(&mut ids), |window| tokens += window.len())?;
    /// for piece in document {
    ///     windows.write_bytes(piece)?;
    /// }
    /// windows.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a window has no room for `first`, the special tokens and more than `stride` tokens of the text that is cut, or the
    /// vocabulary cannot be read.
    pub fn windows<'t, 'b, F: FnMut(&Encoding<'b>)>(
        &'t self,
        first: Option<&str>,
        stride: usize,
        mut encoding: Encoding<'b>,
        each: F,
    ) -> Result<Windows<'t, 'b, S, F>, TokenizerError> {
        encoding.clear();
        let given_tokens = encoding.room();
        let mut room = room_for_text(given_tokens, first.is_some())?;
        let mut stream = self.stream();
        let mut count = 0;
        if let Some(first) = first {
            stream.write_last(first, &mut |token| {
                if count < room {
                    encoding.set(1 + count, token, 0);
                }
                count += 1;
            })?;
            room = room.saturating_sub(count);
        }
        if room <= stride {
            let special = if first.is_some() { 3 } else { 2 };
            let needed_tokens = stride.saturating_add(special + count + 1);
            return Err(TokenizerError::TooManyTokens { needed_tokens, given_tokens });
        }
        let window = Window { encoding, each, first: first.map(|_| count), room, stride, count: 0 };
        Ok(Windows { tokenizer: self, stream, window, error: None })
    }
}

impl<'b, S: Storage, F: FnMut(&Encoding<'b>)> Windows<'_, 'b, S, F> {
    /// Goes on with a piece of the text, which may be cut within a character.
    ///
    /// # Errors
    ///
    /// If the text is not UTF-8 or has 4 GiB or more, or the vocabulary cannot be read.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        let result = self.stream.write_bytes(bytes, |token| self.window.token(self.tokenizer, token));
        result.inspect_err(|&error| _ = self.error.get_or_insert(error))
    }

    /// Hands out the last window. A text without tokens has one, too.
    ///
    /// # Errors
    ///
    /// If the text ends within a character, or the vocabulary cannot be read.
    pub fn finish(mut self) -> Result<(), TokenizerError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.stream.finish(|token| self.window.token(self.tokenizer, token))?;
        self.window.hand_out(self.tokenizer);
        Ok(())
    }
}

impl<'b, S: Storage, F: FnMut(&Encoding<'b>)> fmt::Write for Windows<'_, 'b, S, F> {
    /// Fails where [`write_bytes`](Windows::write_bytes) does; [`finish`](Windows::finish) then says why.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let result = self.stream.write(text, |token| self.window.token(self.tokenizer, token));
        result.map_err(|error| {
            self.error.get_or_insert(error);
            fmt::Error
        })
    }
}

impl<'b, F: FnMut(&Encoding<'b>)> Window<'b, F> {
    /// Where the text that is cut starts.
    fn start(&self) -> usize {
        self.first.map_or(1, |first| first + 2)
    }

    fn token<S: Storage>(&mut self, tokenizer: &Tokenizer<S>, token: Token) {
        let start = self.start();
        if self.count == self.room {
            self.hand_out(tokenizer);
            self.encoding.move_back(start + self.room - self.stride, start, self.stride);
            self.count = self.stride;
        }
        self.encoding.set(start + self.count, token, u8::from(self.first.is_some()));
        self.count += 1;
    }

    fn hand_out<S: Storage>(&mut self, tokenizer: &Tokenizer<S>) {
        let (first, second) = match self.first {
            Some(first) => (first, Some(self.count)),
            None => (self.count, None),
        };
        self.encoding.finish(&tokenizer.config, first, second);
        (self.each)(&self.encoding);
    }
}
