//! Splits words into the tokens of the vocabulary, longest match first.
//!
//! A word is all or nothing: if some rest of it starts with no token, or if it has more than 100 characters, the whole
//! word becomes `[UNK]`.

use super::vocab::Vocab;
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

    /// Takes a token up to `end`. `false` in a damaged vocabulary alone: there is room for a token per character, and
    /// each has a byte.
    #[inline]
    fn push(&mut self, id: u32, end: usize, at: usize) -> bool {
        let fits = self.len < MAX_WORD_CHARS && (self.end + 1..=at).contains(&end);
        if fits {
            self.ids[self.len] = id;
            self.ends[(end - 1) / 64] |= 1 << ((end - 1) % 64);
            self.len += 1;
            self.end = end;
        }
        fits
    }

    /// Splits a word of at most [`MAX_WORD_CHARS`] characters without a byte 0; `false` if it is unknown.
    #[inline]
    pub fn split<S: Storage>(&mut self, vocab: &Vocab<S>, word: &[u8]) -> Result<bool, Unreadable> {
        self.clear();
        let mut unit = vocab.root();
        let mut at = 0;
        // The leaf of the last token on the way, and where that ends.
        let mut last: Option<(u32, usize)> = None;
        loop {
            let mut matched = None;
            while let Some(&byte) = word.get(at) {
                let Some(child) = vocab.child(unit, byte)? else { break };
                at += 1;
                if child.is_leaf() {
                    let start = self.end;
                    let depth = at - start + if start > 0 { 2 } else { 0 };
                    matched = vocab.end_of_match(child, depth, word, at)?.map(|end| (child.payload(), end));
                    if matched.is_none() {
                        at -= 1;
                    }
                    break;
                }
                unit = child;
                if unit.ends_token() {
                    last = Some((unit.payload(), at));
                }
            }
            if matched.is_none() && unit.has_link() {
                match self.follow_link(vocab, unit, at)? {
                    Some(next) => (unit, last) = next,
                    None => return Ok(false),
                }
                continue;
            }
            let (id, end) = match (matched, last) {
                (Some(matched), _) => matched,
                (None, Some((leaf, end))) => (vocab.unit(leaf)?.payload(), end),
                (None, None) => return Ok(false),
            };
            if id as usize >= vocab.len() || !self.push(id, end, word.len()) {
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
            last = None;
        }
    }

    /// Takes the tokens that `unit`, reached at `at`, comes to. Returns the unit from which to go on there, with the
    /// last token on the way to that; `None` if the word is unknown.
    #[cold]
    fn follow_link<S: Storage>(
        &mut self,
        vocab: &Vocab<S>,
        unit: super::vocab::Unit,
        at: usize,
    ) -> Result<Option<(super::vocab::Unit, Option<(u32, usize)>)>, Unreadable> {
        let link = vocab.unit(unit.payload())?.payload();
        let target = vocab.link_word(link)?;
        let last = vocab.link_word(link + 1)?;
        if target.count() == 0 {
            return Ok(None);
        }
        for i in 0..target.count() as u32 {
            let token = vocab.link_word(link + 2 + i)?;
            let end = self.end + token.count();
            if token.number() as usize >= vocab.len() || !self.push(token.number(), end, at) {
                return Ok(None);
            }
        }
        let last = (last.number() > 0).then(|| (last.number(), at.saturating_sub(last.count())));
        Ok(Some((vocab.unit(target.number())?, last)))
    }
}
