//! Splits words into the tokens of the vocabulary, longest match first.
//!
//! A word is all or nothing: if some rest of it starts with no token, or if it has more than 100 characters, the whole
//! word becomes `[UNK]`.

use core::hint::select_unpredictable;

use super::vocab::{LinkWord, Unit, Vocab};
use super::word_buffer::MAX_WORD_CHARS;
use crate::storage::{Storage, Unreadable};

/// The tokens of one word.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// Each with the bytes of the normalized word that it covers.
    tokens: [LinkWord; MAX_WORD_CHARS],
    len: usize,
    /// Where the last token ends.
    end: usize,
}

impl Pieces {
    pub const fn new() -> Self {
        Self { tokens: [LinkWord(0); MAX_WORD_CHARS], len: 0, end: 0 }
    }

    /// The tokens and where they end.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize)> {
        let mut end = 0;
        self.tokens.get(..self.len).unwrap_or_default().iter().map(move |token| {
            end += token.count();
            (token.number(), end)
        })
    }

    /// Takes a token that covers some bytes. `false` in a damaged vocabulary alone: there is room for a token per character.
    #[inline]
    fn push(&mut self, token: LinkWord) -> bool {
        let Some(place) = self.tokens.get_mut(self.len) else { return false };
        *place = token;
        self.len += 1;
        self.end += token.count();
        true
    }

    /// Splits a word of at most [`MAX_WORD_CHARS`] characters without a byte 0; `false` if it is unknown.
    #[inline]
    pub fn split<S: Storage>(&mut self, vocab: &Vocab<S>, word: &[u8]) -> Result<bool, Unreadable> {
        (self.len, self.end) = (0, 0);
        let mut unit = vocab.root();
        let mut at = 0;
        let mut last = LastToken::NONE;
        loop {
            // Down the trie, up to a leaf or until there is no child.
            let mut leaf = None;
            while let Some(&byte) = word.get(at) {
                let child = vocab.unit(unit.payload() ^ u32::from(byte))?;
                if child.label() != byte {
                    break;
                }
                if child.is_leaf() {
                    leaf = Some(child);
                    break;
                }
                at += 1;
                unit = child;
                // Whether a token ends at a byte cannot be foreseen.
                last.leaf = select_unpredictable(unit.ends_token(), unit.payload(), last.leaf);
                last.end = select_unpredictable(unit.ends_token(), at, last.end);
            }
            let (id, end) = if let Some(leaf) = leaf {
                (leaf.payload(), at + 1)
            } else if unit.has_link() {
                match self.follow_link(vocab, unit, at)? {
                    Some(next) => (unit, last) = next,
                    None => return Ok(false),
                }
                continue;
            } else if last.end > 0 {
                (vocab.unit(last.leaf)?.payload(), last.end)
            } else {
                return Ok(false);
            };
            if id as usize >= vocab.len() || !self.push(LinkWord::new(id, (end - self.end) as u32)) {
                return Ok(false);
            }
            if end == word.len() {
                return Ok(true);
            }
            match vocab.continuation_root() {
                Some(root) => unit = root,
                None => return Ok(false),
            }
            at = end;
            last = LastToken::NONE;
        }
    }

    /// Takes the tokens that `unit`, reached at `at`, comes to. Returns the unit from which to go on there, with the
    /// last token on the way to that; `None` if the word is unknown.
    #[inline(never)]
    fn follow_link<S: Storage>(
        &mut self,
        vocab: &Vocab<S>,
        unit: Unit,
        at: usize,
    ) -> Result<Option<(Unit, LastToken)>, Unreadable> {
        let link = vocab.unit(unit.payload())?.payload();
        let target = vocab.link_word(link)?;
        let last = vocab.link_word(link + 1)?;
        if target.count() == 0 {
            return Ok(None);
        }
        for i in 0..target.count() as u32 {
            let token = vocab.link_word(link + 2 + i)?;
            // Each covers a byte that was read, or the vocabulary is damaged.
            let covers = (1..=at - self.end).contains(&token.count());
            if token.number() as usize >= vocab.len() || !covers || !self.push(token) {
                return Ok(None);
            }
        }
        let end_of_last = at.saturating_sub(last.count());
        let has_last = last.number() > 0 && end_of_last > self.end;
        let last = if has_last { LastToken { leaf: last.number(), end: end_of_last } } else { LastToken::NONE };
        Ok(Some((vocab.unit(target.number())?, last)))
    }
}

/// The last token on the way from a root: the leaf that holds its id, and where it ends; at 0 there is none.
#[derive(Clone, Copy, Debug)]
struct LastToken {
    leaf: u32,
    end: usize,
}

impl LastToken {
    const NONE: Self = Self { leaf: 0, end: 0 };
}
