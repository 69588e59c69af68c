//! Text to token ids.
use crate::config::TokenizerConfig;
/// Vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Vocab<'a>(&'a [u8]);
impl<'a> Vocab<'a> {
    /// Opens.
    pub fn open(b: &'a [u8]) -> Result<Self, ()> {
        Ok(Self(b))
    }
    /// Len.
    pub fn len(&self) -> u32 {
        u32::from_le_bytes(self.0[..4].try_into().unwrap())
    }
}
/// Tokenizer.
pub struct Tokenizer<'a>(Vocab<'a>, TokenizerConfig);
impl<'a> Tokenizer<'a> {
    /// New.
    pub fn new(v: Vocab<'a>, c: TokenizerConfig) -> Self {
        Self(v, c)
    }
}
