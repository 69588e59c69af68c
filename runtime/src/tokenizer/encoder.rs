//! `[CLS] A [SEP] B [SEP]`: special tokens around the texts, truncation, token types, padding.

use core::fmt;

use super::encoding::Encoding;
use super::{Token, TokenStream, Tokenizer, TokenizerError};
use crate::storage::Storage;

/// Which text is shortened if there are too many tokens. The reference's `truncation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// None: too many tokens are an error that says how many.
    #[default]
    DoNotTruncate,
    /// The longer text, then both alike.
    LongestFirst,
    /// The first.
    OnlyFirst,
    /// The second.
    OnlySecond,
}

impl<S: Storage> Tokenizer<S> {
    /// Encodes one text, or two as a pair, with `[CLS]` and `[SEP]`, for a model.
    ///
    /// There are never more tokens than `encoding` has room for ids.
    ///
    /// # Errors
    ///
    /// If they do not fit and `truncation` does not help; see [`TokenizerError`]. What `encoding` then holds is
    /// unspecified.
    pub fn encode(
        &self,
        text: &str,
        pair: Option<&str>,
        truncation: Truncation,
        encoding: &mut Encoding<'_>,
    ) -> Result<(), TokenizerError> {
        let mut encoder = self.encoder(pair.is_some(), truncation, encoding)?;
        encoder.write_last(text)?;
        if let Some(pair) = pair {
            encoder.assembly.next_text();
            encoder.write_last(pair)?;
        }
        encoder.assembly.finish(self)
    }

    /// Encodes one text, or two with `is_pair`, that come in pieces.
    ///
    /// ```
    /// # use mbert_runtime::{storage::Storage, tokenizer::{Encoding, Tokenizer, TokenizerError, Truncation}};
    /// # fn example<S: Storage>(tokenizer: &Tokenizer<S>) -> Result<(), Box<dyn core::error::Error>> {
    /// use core::fmt::Write;
    ///
    /// let mut ids = [0; 64];
    /// let mut encoding = Encoding::new(&mut ids);
    /// let mut encoder = tokenizer.encoder(true, Truncation::LongestFirst, &mut encoding)?;
    /// write!(encoder, "It is {} degrees. ", 21)?;
    /// encoder.write_bytes(b"What is the temp")?;
    /// encoder.next_text()?;
    /// encoder.write_bytes(b"erature?")?;
    /// encoder.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no room for `[CLS]` and `[SEP]`.
    pub fn encoder<'t, 'e, 'b>(
        &'t self,
        is_pair: bool,
        truncation: Truncation,
        encoding: &'e mut Encoding<'b>,
    ) -> Result<Encoder<'t, 'e, 'b, S>, TokenizerError> {
        encoding.clear();
        let room = room_for_text(encoding.room(), is_pair)?;
        // The reference stops reading a text that is long enough in any case, and decides which of two is the longer by
        // what it has seen.
        let enough = if truncation == Truncation::LongestFirst { encoding.room() } else { usize::MAX };
        let assembly = Assembly {
            encoding,
            truncation,
            is_pair,
            room,
            enough,
            is_second: false,
            is_closed: false,
            previous: (0, true),
            counts: [0; 2],
            kept: [0; 2],
            spare: None,
        };
        Ok(Encoder { stream: self.stream(), assembly, error: None })
    }

    /// Fills `encoding` up to `tokens` with `[PAD]`, which its attention mask leaves out.
    ///
    /// # Errors
    ///
    /// If there is no room for that many.
    pub fn pad(&self, encoding: &mut Encoding<'_>, tokens: usize) -> Result<(), TokenizerError> {
        let given_tokens = encoding.room();
        if tokens > given_tokens {
            return Err(TokenizerError::TooManyTokens { needed_tokens: tokens, given_tokens });
        }
        encoding.pad(self.config.pad_token_id, tokens);
        Ok(())
    }
}

/// Puts a model's input together from texts that come in pieces; [`Tokenizer::encoder`] makes one.
///
/// Holds less than 2 KiB, whatever the texts. As a [`fmt::Write`] it takes formatted text.
#[derive(Debug)]
pub struct Encoder<'t, 'e, 'b, S> {
    stream: TokenStream<'t, S>,
    assembly: Assembly<'e, 'b>,
    /// What `fmt::Write` could not tell.
    error: Option<TokenizerError>,
}

impl<S: Storage> Encoder<'_, '_, '_, S> {
    /// Goes on with a piece of the text, which may be cut within a character.
    ///
    /// # Errors
    ///
    /// If the text is not UTF-8 or has 4 GiB or more, or the vocabulary cannot be read.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        let result = self.stream.write_bytes(bytes, |token| self.assembly.token(token));
        result.inspect_err(|&error| _ = self.error.get_or_insert(error))
    }

    /// Ends the first text; what follows is the second. Without a pair that is not encoded, nor is a third text.
    ///
    /// # Errors
    ///
    /// If the text ends within a character, or the vocabulary cannot be read.
    pub fn next_text(&mut self) -> Result<(), TokenizerError> {
        let result = self.write_last("");
        self.assembly.next_text();
        result.inspect_err(|&error| _ = self.error.get_or_insert(error))
    }

    fn write_last(&mut self, text: &str) -> Result<(), TokenizerError> {
        self.stream.write_last(text, &mut |token| self.assembly.token(token))
    }

    /// Ends the last text and completes the encoding.
    ///
    /// # Errors
    ///
    /// If the tokens do not fit and the truncation does not help, or the text ends within a character, or the vocabulary
    /// cannot be read.
    pub fn finish(mut self) -> Result<(), TokenizerError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.write_last("")?;
        if self.assembly.is_pair && !self.assembly.is_second {
            self.assembly.next_text();
        }
        self.assembly.finish(self.stream.tokenizer())
    }
}

impl<S: Storage> fmt::Write for Encoder<'_, '_, '_, S> {
    /// Fails where [`write_bytes`](Encoder::write_bytes) does; [`finish`](Encoder::finish) then says why.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let result = self.stream.write(text, |token| self.assembly.token(token));
        result.map_err(|error| {
            self.error.get_or_insert(error);
            fmt::Error
        })
    }
}

/// The tokens of one text or two in the caller's memory, without those that truncation drops.
#[derive(Debug)]
struct Assembly<'e, 'b> {
    encoding: &'e mut Encoding<'b>,
    truncation: Truncation,
    is_pair: bool,
    /// Room for the tokens of both texts.
    room: usize,
    /// A text with as many tokens is not read to its end.
    enough: usize,
    is_second: bool,
    is_closed: bool,
    /// The word of the token before, and whether it was a special one.
    previous: (u32, bool),
    /// Tokens of each text, and how many of them are kept for now.
    counts: [usize; 2],
    kept: [usize; 2],
    /// The first token of the second text that is not kept: the odd place may still become its.
    spare: Option<Token>,
}

impl Assembly<'_, '_> {
    // Where flash is scarce, it is there once and not wherever tokens are handed out.
    #[cfg_attr(target_os = "none", inline(never))]
    #[cfg_attr(not(target_os = "none"), inline)]
    fn token(&mut self, token: Token) {
        let text = usize::from(self.is_second);
        if self.counts[text] >= self.enough && self.is_enough(token) {
            return;
        }
        self.previous = (token.word, token.is_special);
        let number = self.counts[text];
        self.counts[text] += 1;
        if self.is_second {
            self.second_token(token, number);
        } else if number < self.room {
            self.encoding.set(1 + number, token, 0);
            self.kept[0] = number + 1;
        }
    }

    /// Whether `token` is one of those that the reference does not read any more: those behind the word that brings their
    /// number to `enough`, special tokens in the text apart.
    #[cold]
    fn is_enough(&mut self, token: Token) -> bool {
        let (word, is_special) = self.previous;
        self.is_closed |= word != token.word && !is_special;
        self.is_closed
    }

    fn second_token(&mut self, token: Token, number: usize) {
        let (first, second) = self.shares();
        if first < self.kept[0] {
            self.encoding.move_back(self.kept[0] + 2, first + 2, self.kept[1]);
            self.kept[0] = first;
        }
        // A share grows by one at a time, and once by one without a new token to fill it.
        while self.kept[1] < second {
            let next = if number == self.kept[1] { Some(token) } else { self.spare.take() };
            let Some(next) = next else { break };
            self.encoding.set(self.kept[0] + 2 + self.kept[1], next, 1);
            self.kept[1] += 1;
        }
        if number == self.kept[1] {
            self.spare = Some(token);
        }
    }

    fn next_text(&mut self) {
        self.is_closed = self.is_second || !self.is_pair;
        self.is_second = true;
        if self.is_closed {
            self.enough = 0;
        }
        self.previous = (0, true);
    }

    /// How many tokens of each text stay.
    fn shares(&self) -> (usize, usize) {
        let ([first, second], room) = (self.counts, self.room);
        if first.saturating_add(second) <= room {
            return (first, second);
        }
        let half = room / 2;
        match self.truncation {
            Truncation::DoNotTruncate | Truncation::OnlySecond => (first.min(room), room - first.min(room)),
            Truncation::OnlyFirst => (room - second.min(room), second.min(room)),
            // The shorter one stays whole if it has at most half of the room; a longer second gets the odd token.
            Truncation::LongestFirst => match (first <= second, first.min(second)) {
                (true, shorter) if shorter <= half => (shorter, room - shorter),
                (false, shorter) if shorter <= half => (room - shorter, shorter),
                (true, _) => (half, room - half),
                (false, _) => (room - half, half),
            },
        }
    }

    fn finish<S: Storage>(self, tokenizer: &Tokenizer<S>) -> Result<(), TokenizerError> {
        let ([first, second], room) = (self.counts, self.room);
        let tokens = first.saturating_add(second);
        if tokens > room {
            let excess_tokens = tokens - room;
            let given_tokens = self.encoding.room();
            let nothing_left = |text_tokens| Err(TokenizerError::NothingLeft { excess_tokens, text_tokens });
            match self.truncation {
                Truncation::DoNotTruncate => {
                    let needed_tokens = given_tokens.saturating_add(excess_tokens);
                    return Err(TokenizerError::TooManyTokens { needed_tokens, given_tokens });
                }
                // Room for the special tokens alone: the reference empties both texts then, whichever may be shortened.
                _ if room == 0 => {}
                Truncation::OnlyFirst if first <= excess_tokens => return nothing_left(first),
                Truncation::OnlySecond if !self.is_pair => return Err(TokenizerError::SecondTextMissing),
                Truncation::OnlySecond if second <= excess_tokens => return nothing_left(second),
                _ => {}
            }
        }
        self.encoding.finish(&tokenizer.config, self.kept[0], self.is_pair.then_some(self.kept[1]));
        Ok(())
    }
}

/// Room for the tokens of the texts themselves.
pub(super) fn room_for_text(given_tokens: usize, is_pair: bool) -> Result<usize, TokenizerError> {
    let needed_tokens = if is_pair { 3 } else { 2 };
    given_tokens
        .checked_sub(needed_tokens)
        .ok_or(TokenizerError::NoRoomForSpecialTokens { needed_tokens, given_tokens })
}
