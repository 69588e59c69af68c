//! Long texts in overlapping windows, each an encoding of its own.

use super::encoding::Encoding;
use super::post_processor::room_for_text;
use super::wordpiece::Tokens;
use super::{Token, Tokenizer, TokenizerError};

/// The windows of a text that is longer than a model's input, or of the second text of a pair.
///
/// Each window starts `stride` tokens before the end of the one before. Nothing is tokenized twice: those tokens are
/// taken from the caller's memory.
#[derive(Debug)]
pub struct Windows<'t, 'b> {
    tokenizer: &'t Tokenizer<'t>,
    encoding: Encoding<'b>,
    tokens: Tokens<'t>,
    /// The token behind the last window; none if that was the last of all.
    next: Option<Token>,
    is_pair: bool,
    /// Tokens of the first text of a pair, which stands in every window.
    first: usize,
    room: usize,
    stride: usize,
    started: bool,
}

impl<'v> Tokenizer<'v> {
    /// Encodes a text, or the second text of a pair, in windows that overlap by `stride` tokens.
    ///
    /// ```text
    /// let mut windows = tokenizer.windows(question, Some(document), 32, Encoding::new(&mut ids))?;
    /// while let Some(encoding) = windows.next() { … }
    /// ```
    ///
    /// # Errors
    ///
    /// If a window has no room for more than `stride` tokens of the text that is cut.
    pub fn windows<'t, 'b>(
        &'t self,
        text: &'t str,
        pair: Option<&'t str>,
        stride: usize,
        mut encoding: Encoding<'b>,
    ) -> Result<Windows<'t, 'b>, TokenizerError> {
        let given_tokens = encoding.room();
        let mut room = room_for_text(given_tokens, pair.is_some())?;
        let mut first = 0;
        let mut tokens = self.tokens(text)?;
        if let Some(pair) = pair {
            first = self.write(text, usize::MAX, 1, room, 0, &mut encoding)?;
            room = room.saturating_sub(first);
            tokens = self.tokens(pair)?;
        }
        if room <= stride {
            let needed_tokens = given_tokens - room + stride + 1;
            return Err(TokenizerError::TooManyTokens { needed_tokens, given_tokens });
        }
        let next = tokens.next();
        let is_pair = pair.is_some();
        Ok(Windows { tokenizer: self, encoding, tokens, next, is_pair, first, room, stride, started: false })
    }
}

impl<'b> Windows<'_, 'b> {
    /// The next window. A text without tokens has one, too.
    #[expect(clippy::should_implement_trait, reason = "each window takes the memory of the one before")]
    pub fn next(&mut self) -> Option<&mut Encoding<'b>> {
        let start = self.first + if self.is_pair { 2 } else { 1 };
        let mut count = 0;
        if self.started {
            self.next?;
            count = self.stride;
            self.encoding.move_back(start + self.room - count, start, count);
        }
        self.started = true;
        while count < self.room
            && let Some(token) = self.next
        {
            self.encoding.set(start + count, token, u8::from(self.is_pair));
            count += 1;
            self.next = self.tokens.next();
        }
        let (first, second) = if self.is_pair { (self.first, Some(count)) } else { (count, None) };
        self.encoding.finish(&self.tokenizer.config, first, second);
        Some(&mut self.encoding)
    }
}
