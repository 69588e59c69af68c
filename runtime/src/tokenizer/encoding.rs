//! The model's input, in the caller's memory.

use core::cell::Cell;

use super::Token;
use super::characters::count_chars;
use crate::config::TokenizerConfig;

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
    attention_mask: &'b mut [u8],
    offsets: &'b mut [Offsets],
    word_ids: &'b mut [u32],
    /// Whether more than ids was asked for, and the room in the shortest list of it.
    has_more: bool,
    shortest: usize,
    len: usize,
    /// Tokens of the first text.
    first_len: usize,
}

impl<'b> Encoding<'b> {
    /// Takes room for ids.
    pub fn new(ids: &'b mut [u32]) -> Self {
        Self { ids, shortest: usize::MAX, ..Self::default() }
    }

    /// Asks for token types. Like each list, it limits how many tokens there is room for.
    #[must_use]
    pub fn with_token_type_ids(self, token_type_ids: &'b mut [u8]) -> Self {
        let shortest = self.shortest.min(token_type_ids.len());
        Self { token_type_ids, has_more: true, shortest, ..self }
    }

    /// Asks for an attention mask.
    #[must_use]
    pub fn with_attention_mask(self, attention_mask: &'b mut [u8]) -> Self {
        let shortest = self.shortest.min(attention_mask.len());
        Self { attention_mask, shortest, ..self }
    }

    /// Asks for offsets.
    #[must_use]
    pub fn with_offsets(self, offsets: &'b mut [Offsets]) -> Self {
        let shortest = self.shortest.min(offsets.len());
        Self { offsets, has_more: true, shortest, ..self }
    }

    /// Asks for word ids.
    #[must_use]
    pub fn with_word_ids(self, word_ids: &'b mut [u32]) -> Self {
        let shortest = self.shortest.min(word_ids.len());
        Self { word_ids, has_more: true, shortest, ..self }
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
        first(self.ids, self.len)
    }

    /// 0 for `[CLS] A [SEP]`, 1 for `B [SEP]`.
    pub fn token_type_ids(&self) -> &[u8] {
        first(self.token_type_ids, self.len)
    }

    /// 1 for tokens, 0 for padding.
    pub fn attention_mask(&self) -> &[u8] {
        first(self.attention_mask, self.len)
    }

    /// Where the tokens stand in their texts.
    pub fn offsets(&self) -> &[Offsets] {
        first(self.offsets, self.len)
    }

    /// The number of the word that each token belongs to, counted in each text from 0; [`NO_WORD`] for none.
    pub fn word_ids(&self) -> &[u32] {
        first(self.word_ids, self.len)
    }

    /// Counts the offsets in characters (Unicode scalar values) instead of bytes.
    ///
    /// `text` and `pair` are those that were encoded. Call it once: afterwards the offsets are no longer bytes.
    pub fn offsets_to_chars(&mut self, text: &str, pair: Option<&str>) {
        let second = self.first_len + 2;
        offsets_to_chars(text, self.offsets.iter_mut().take(second.min(self.len)));
        if let Some(pair) = pair {
            offsets_to_chars(pair, self.offsets.iter_mut().take(self.len).skip(second));
        }
    }

    /// How many tokens there is room for: as many as the shortest of the lists that were asked for holds.
    pub(super) fn room(&self) -> usize {
        self.ids.len().min(self.shortest)
    }

    /// Forgets what was encoded before.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.first_len = 0;
    }

    /// Writes a token where there is room for it.
    #[inline]
    pub(super) fn set(&mut self, at: usize, token: Token, token_type_id: u8) {
        if let Some(entry) = self.ids.get_mut(at) {
            *entry = token.id;
        }
        if !self.has_more {
            return;
        }
        if let Some(entry) = self.token_type_ids.get_mut(at) {
            *entry = token_type_id;
        }
        if let Some(entry) = self.offsets.get_mut(at) {
            *entry = Offsets { start: token.start, end: token.end };
        }
        if let Some(entry) = self.word_ids.get_mut(at) {
            *entry = token.word;
        }
    }

    /// Copies the tokens `from..from + count` to `to`, which lies before.
    pub(super) fn move_back(&mut self, from: usize, to: usize, count: usize) {
        fn copy<T: Copy>(list: &mut [T], from: usize, to: usize, count: usize) {
            let list = Cell::from_mut(list).as_slice_of_cells();
            list.iter().skip(to).zip(list.iter().skip(from)).take(count).for_each(|(to, from)| to.set(from.get()));
        }
        copy(self.ids, from, to, count);
        copy(self.token_type_ids, from, to, count);
        copy(self.offsets, from, to, count);
        copy(self.word_ids, from, to, count);
    }

    /// Puts the special tokens around texts of `first` and `second` tokens that stand in their places already.
    pub(super) fn finish(&mut self, config: &TokenizerConfig, first: usize, second: Option<usize>) {
        let special = |id| Token { id, start: 0, end: 0, word: NO_WORD, is_special: true };
        self.set(0, special(config.cls_token_id), 0);
        self.set(first + 1, special(config.sep_token_id), 0);
        self.first_len = first;
        self.len = first + 2;
        if let Some(second) = second {
            self.set(self.len + second, special(config.sep_token_id), 1);
            self.len += second + 1;
        }
        self.attention_mask.iter_mut().take(self.len).for_each(|entry| *entry = 1);
    }

    /// Fills the places up to `tokens` with the token for padding.
    pub(super) fn pad(&mut self, pad_token_id: u32, tokens: usize) {
        for at in self.len..tokens {
            self.set(at, Token { id: pad_token_id, start: 0, end: 0, word: NO_WORD, is_special: true }, 0);
            if let Some(entry) = self.attention_mask.get_mut(at) {
                *entry = 0;
            }
        }
        self.len = self.len.max(tokens);
    }
}

/// The first few entries of a list, or all there are.
fn first<T>(list: &[T], count: usize) -> &[T] {
    list.get(..count).unwrap_or(list)
}

/// One pass over the text: tokens come in the order of their starts. Special tokens around it, at 0..0, stay there.
fn offsets_to_chars<'o>(text: &str, offsets: impl Iterator<Item = &'o mut Offsets>) {
    // Nothing is counted in a text that is not the encoded one.
    let chars = |start: u32, end: u32| {
        count_chars(text.as_bytes().get(start as usize..end as usize).unwrap_or_default()) as u32
    };
    let (mut byte, mut char) = (0, 0);
    for offset in offsets.filter(|offset| offset.end > 0) {
        char += chars(byte, offset.start);
        byte = offset.start;
        *offset = Offsets { start: char, end: char + chars(offset.start, offset.end) };
    }
}
