//! Splits words into the tokens of the vocabulary, longest match first.
//!
//! A word is all or nothing: if some rest of it starts with no token, or if it has more than 100 characters, the whole
//! word becomes `[UNK]`.

use core::hint::select_unpredictable;

use super::vocab::{Unit, Vocab};
use super::word_buffer::MAX_WORD_CHARS;
use crate::storage::{Storage, Unreadable};

/// The tokens of one word: ids, and a bit for each byte of the normalized word that ends one.
#[derive(Clone, Debug)]
pub struct Pieces {
    ids: [u32; MAX_WORD_CHARS],
    ends: [u64; (4 * MAX_WORD_CHARS).div_ceil(64)],
    len: usize,
    /// Where the last token ends.
    end: usize,
}

impl Pieces {
    pub const fn new() -> Self {
        Self { ids: [0; MAX_WORD_CHARS], ends: [0; _], len: 0, end: 0 }
    }

    /// The tokens and where they end.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize)> {
        let (mut word, mut bits) = (0, self.ends[0]);
        self.ids[..self.len].iter().map(move |&id| {
            while bits == 0 {
                // There are as many bits as tokens.
                word += 1;
                bits = self.ends[word];
            }
            let end = 64 * word + bits.trailing_zeros() as usize + 1;
            bits &= bits - 1;
            (id, end)
        })
    }

    #[inline]
    fn clear(&mut self) {
        self.ends = [0; _];
        (self.len, self.end) = (0, 0);
    }

    /// Takes a token up to `end`, which lies behind the last one's. `false` in a damaged vocabulary alone: there is room
    /// for a token per character.
    #[inline]
    fn push(&mut self, id: u32, end: usize) -> bool {
        let (Some(place), Some(ends)) = (self.ids.get_mut(self.len), self.ends.get_mut((end - 1) / 64)) else {
            return false;
        };
        *place = id;
        *ends |= 1 << ((end - 1) % 64);
        self.len += 1;
        self.end = end;
        true
    }

    /// Splits a word of at most [`MAX_WORD_CHARS`] characters without a byte 0; `false` if it is unknown.
    #[inline]
    pub fn split<S: Storage>(&mut self, vocab: &Vocab<S>, word: &[u8]) -> Result<bool, Unreadable> {
        self.clear();
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
            if id as usize >= vocab.len() || !self.push(id, end) {
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
            let (id, end) = (token.number(), self.end + token.count());
            // Each covers a byte that was read, or the vocabulary is damaged.
            if id as usize >= vocab.len() || !(self.end + 1..=at).contains(&end) || !self.push(id, end) {
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
