//! What one thread does of a forward pass: everything for some tokens, and attention for some heads.

use crate::config::BertConfig;

/// The tokens and heads of one thread: all of them where there is one.
///
/// Linear layers, activations and layer norms take each token for itself; a head takes all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Tokens of the whole sequence.
    pub seq_len: usize,
    /// The first of its own.
    pub first_token: usize,
    pub tokens: usize,
    pub first_head: usize,
    pub heads: usize,
}

impl Share {
    /// All of a sequence.
    pub fn whole(config: &BertConfig, seq_len: usize) -> Self {
        let heads = config.num_attention_heads.into();
        Self { seq_len, first_token: 0, tokens: seq_len, first_head: 0, heads }
    }

    /// One of `count` shares, which differ by one token and one head at most.
    #[cfg(feature = "threads")]
    pub fn part(self, index: usize, count: usize) -> Self {
        let begin = |of: usize, index: usize| of * index / count;
        let (first_token, first_head) = (begin(self.tokens, index), begin(self.heads, index));
        Self {
            seq_len: self.seq_len,
            first_token,
            tokens: begin(self.tokens, index + 1) - first_token,
            first_head,
            heads: begin(self.heads, index + 1) - first_head,
        }
    }
}
