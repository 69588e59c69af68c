//! `[CLS] A [SEP] B [SEP]`: special tokens around the texts, truncation, token types.

use super::encoding::Encoding;
use super::{Token, Tokenizer, TokenizerError};

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

impl Tokenizer<'_> {
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
        let given_tokens = encoding.room();
        let room = room_for_text(given_tokens, pair.is_some())?;

        // What does not fit is counted, not written. Nor is it counted to the end where that changes nothing, for the
        // reference stops early too and decides which text is the longer by what it has seen.
        let enough = if truncation == Truncation::LongestFirst { given_tokens } else { usize::MAX };
        let first = self.write(text, enough, 1, room, 0, encoding)?;
        let mut kept = (first, 0);
        if let Some(pair) = pair {
            let start = first.min(room);
            kept.1 = self.write(pair, enough, start + 2, room - start, 1, encoding)?;
        }
        if kept.0 + kept.1 > room {
            kept = truncate(kept, pair.is_some(), room, given_tokens, truncation)?;
            if let Some(pair) = pair
                && kept.0 < first
            {
                // The first text got shorter, so the second moves.
                self.write(pair, kept.1, kept.0 + 2, kept.1, 1, encoding)?;
            }
        }

        encoding.finish(&self.config, kept.0, pair.map(|_| kept.1));
        Ok(())
    }

    /// Writes the first `room` tokens of a text from `at` on, and returns how many it has.
    ///
    /// Stops behind the first word, special tokens in the text apart, that brings their number to `enough`.
    pub(super) fn write(
        &self,
        text: &str,
        enough: usize,
        at: usize,
        room: usize,
        token_type_id: u8,
        encoding: &mut Encoding<'_>,
    ) -> Result<usize, TokenizerError> {
        let mut count = 0;
        let mut previous = Token { id: 0, start: 0, end: 0, word: 0 };
        for token in self.tokens(text)? {
            if count >= enough && token.word != previous.word {
                let spelling = &text.as_bytes()[previous.start as usize..previous.end as usize];
                if !self.special_tokens.contains(spelling) {
                    break;
                }
            }
            previous = token;
            if count < room {
                encoding.set(at + count, token, token_type_id);
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Room for the tokens of the texts themselves.
pub(super) fn room_for_text(given_tokens: usize, is_pair: bool) -> Result<usize, TokenizerError> {
    let needed_tokens = if is_pair { 3 } else { 2 };
    given_tokens
        .checked_sub(needed_tokens)
        .ok_or(TokenizerError::NoRoomForSpecialTokens { needed_tokens, given_tokens })
}

/// How many of `counts` tokens stay so that they fit into `room`.
fn truncate(
    counts: (usize, usize),
    is_pair: bool,
    room: usize,
    given_tokens: usize,
    truncation: Truncation,
) -> Result<(usize, usize), TokenizerError> {
    let (first, second) = counts;
    let excess_tokens = first + second - room;
    let shorten = |text_tokens: usize| match text_tokens.checked_sub(excess_tokens) {
        None | Some(0) => Err(TokenizerError::NothingLeft { excess_tokens, text_tokens }),
        Some(left) => Ok(left),
    };
    match truncation {
        Truncation::DoNotTruncate => {
            Err(TokenizerError::TooManyTokens { needed_tokens: given_tokens + excess_tokens, given_tokens })
        }
        // Room for the special tokens alone: the reference empties both texts then, whichever may be shortened.
        _ if room == 0 => Ok((0, 0)),
        Truncation::LongestFirst if !is_pair => Ok((room, 0)),
        Truncation::LongestFirst => {
            // The shorter one stays whole if it has at most half of the room; a longer second gets the odd token.
            let half = room / 2;
            Ok(match (first <= second, first.min(second)) {
                (true, shorter) if shorter <= half => (shorter, room - shorter),
                (false, shorter) if shorter <= half => (room - shorter, shorter),
                (true, _) => (half, room - half),
                (false, _) => (room - half, half),
            })
        }
        Truncation::OnlyFirst => Ok((shorten(first)?, second)),
        Truncation::OnlySecond if !is_pair => Err(TokenizerError::SecondTextMissing),
        Truncation::OnlySecond => Ok((first, shorten(second)?)),
    }
}
