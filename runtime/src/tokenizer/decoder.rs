//! Token ids back to text.
//!
//! Tokens are joined by spaces, `##` glues a token to the one before. What the first token is called does not matter:
//! its `##` stays. Cleaning up takes the space before `. , ? !` and English contractions, within one token and the
//! space before it, exactly as the reference's decoder does.

use core::fmt;

use super::Tokenizer;
use super::vocab::{CONTINUATION_PREFIX, MAX_TOKEN_BYTES};

/// What cleaning up replaces, in this order.
const REPLACEMENTS: [(&[u8], &[u8]); 11] = [
    (b" .", b"."),
    (b" ?", b"?"),
    (b" !", b"!"),
    (b" ,", b","),
    (b" ' ", b"'"),
    (b" n't", b"n't"),
    (b" 'm", b"'m"),
    (b" do not", b" don't"),
    (b" 's", b"'s"),
    (b" 've", b"'ve"),
    (b" 're", b"'re"),
];

impl Tokenizer<'_> {
    /// Writes the text of `ids`, which it leaves out where the vocabulary has no such token.
    ///
    /// # Errors
    ///
    /// If `out` gives one.
    pub fn decode(
        &self,
        ids: &[u32],
        skip_special_tokens: bool,
        clean_up: bool,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let mut first = true;
        for token in ids.iter().filter_map(|&id| self.vocab.token(id)) {
            if token.is_empty() || skip_special_tokens && self.special_tokens.contains(token) {
                continue;
            }
            let mut piece = Piece { bytes: [0; MAX_TOKEN_BYTES + 1], len: 0 };
            match token.strip_prefix(CONTINUATION_PREFIX).filter(|_| !first) {
                Some(continuation) => piece.extend(continuation),
                None if first => piece.extend(token),
                None => {
                    piece.extend(b" ");
                    piece.extend(token);
                }
            }
            if clean_up {
                REPLACEMENTS.iter().for_each(|(from, to)| piece.replace(from, to));
            }
            piece.bytes[..piece.len].utf8_chunks().try_for_each(|chunk| out.write_str(chunk.valid()))?;
            first = false;
        }
        Ok(())
    }
}

/// A token and the space before it.
struct Piece {
    bytes: [u8; MAX_TOKEN_BYTES + 1],
    len: usize,
}

impl Piece {
    /// Cuts off what finds no room, which only a damaged vocabulary asks for.
    fn extend(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.bytes.len() - self.len)];
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Replaces every `from` by `to`, which is not longer, from left to right.
    fn replace(&mut self, from: &[u8], to: &[u8]) {
        let (mut read, mut written) = (0, 0);
        while read < self.len {
            if self.bytes[read..self.len].starts_with(from) {
                self.bytes[written..][..to.len()].copy_from_slice(to);
                read += from.len();
                written += to.len();
            } else {
                self.bytes[written] = self.bytes[read];
                read += 1;
                written += 1;
            }
        }
        self.len = written;
    }
}
