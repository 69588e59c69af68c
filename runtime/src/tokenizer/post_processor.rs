//! `[CLS] A [SEP] B [SEP]`: special tokens around the texts, truncation, token types.

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

/// Where a token stands, in bytes of its own text. Special tokens around the texts stand at 0..0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// First byte.
    pub start: u32,
    /// The byte behind the last.
    pub end: u32,
}

/// The word id of the special tokens around the texts.
pub const NO_WORD: u32 = u32::MAX;

/// The caller's memory for the model's input. Its room for ids is the longest sequence.
///
/// ```
/// # use mbert_runtime::tokenizer::{Encoding, Offsets};
/// let (mut ids, mut offsets) = ([0; 128], [Offsets::default(); 128]);
/// let mut encoding = Encoding::new(&mut ids).with_offsets(&mut offsets);
/// # assert!(encoding.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Encoding<'b> {
    ids: &'b mut [u32],
    token_type_ids: &'b mut [u8],
    offsets: &'b mut [Offsets],
    word_ids: &'b mut [u32],
    len: usize,
}

impl<'b> Encoding<'b> {
    /// Takes room for ids.
    pub fn new(ids: &'b mut [u32]) -> Self {
        Self { ids, ..Self::default() }
    }

    /// Asks for token types, as many as there is room for.
    #[must_use]
    pub fn with_token_type_ids(self, token_type_ids: &'b mut [u8]) -> Self {
        Self { token_type_ids, ..self }
    }

    /// Asks for offsets, as many as there is room for.
    #[must_use]
    pub fn with_offsets(self, offsets: &'b mut [Offsets]) -> Self {
        Self { offsets, ..self }
    }

    /// Asks for word ids, as many as there is room for.
    #[must_use]
    pub fn with_word_ids(self, word_ids: &'b mut [u32]) -> Self {
        Self { word_ids, ..self }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was encoded yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The token ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids[..self.len]
    }

    /// 0 for `[CLS] A [SEP]`, 1 for `B [SEP]`.
    pub fn token_type_ids(&self) -> &[u8] {
        &self.token_type_ids[..self.len.min(self.token_type_ids.len())]
    }

    /// Where the tokens stand in their texts.
    pub fn offsets(&self) -> &[Offsets] {
        &self.offsets[..self.len.min(self.offsets.len())]
    }

    /// The number of the word that each token belongs to, counted in each text from 0; [`NO_WORD`] for none.
    pub fn word_ids(&self) -> &[u32] {
        &self.word_ids[..self.len.min(self.word_ids.len())]
    }

    fn set(&mut self, at: usize, id: u32, token_type_id: u8, offsets: Offsets, word_id: u32) {
        if let Some(entry) = self.ids.get_mut(at) {
            *entry = id;
        }
        if let Some(entry) = self.token_type_ids.get_mut(at) {
            *entry = token_type_id;
        }
        if let Some(entry) = self.offsets.get_mut(at) {
            *entry = offsets;
        }
        if let Some(entry) = self.word_ids.get_mut(at) {
            *entry = word_id;
        }
    }

    fn set_special(&mut self, at: usize, id: u32, token_type_id: u8) {
        self.set(at, id, token_type_id, Offsets::default(), NO_WORD);
    }
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
        encoding.len = 0;
        let given_tokens = encoding.ids.len();
        let special_tokens = if pair.is_some() { 3 } else { 2 };
        let Some(room) = given_tokens.checked_sub(special_tokens) else {
            return Err(TokenizerError::NoRoomForSpecialTokens { needed_tokens: special_tokens, given_tokens });
        };

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

        encoding.set_special(0, self.config.cls_token_id, 0);
        encoding.set_special(kept.0 + 1, self.config.sep_token_id, 0);
        encoding.len = kept.0 + 2;
        if pair.is_some() {
            encoding.set_special(encoding.len + kept.1, self.config.sep_token_id, 1);
            encoding.len += kept.1 + 1;
        }
        Ok(())
    }

    /// Writes the first `room` tokens of a text from `at` on, and returns how many it has.
    ///
    /// Stops behind the first word, special tokens in the text apart, that brings their number to `enough`.
    fn write(
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
                let offsets = Offsets { start: token.start, end: token.end };
                encoding.set(at + count, token.id, token_type_id, offsets, token.word);
            }
            count += 1;
        }
        Ok(count)
    }
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
