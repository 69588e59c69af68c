//! Builds the vocabulary section that [`mbert_runtime::tokenizer::vocab`] describes and reads.
//!
//! The trie is laid out depth first, so that the nodes below a prefix lie near each other, and each node takes the
//! first base at which all its children find free units. Nodes far behind are not looked at again: a search for free
//! units covers the last `OPEN_BLOCKS` blocks of 256, which fills the array to more than 99 % all the same.

use std::collections::HashMap;

use mbert_runtime::tokenizer::vocab::{
    CONTINUATION_PREFIX, HEADER_BYTES, MAGIC, MAX_TOKEN_BYTES, MAX_TOKENS, Parts, TOKENS_PER_ANCHOR, Unit, field,
};

/// Blocks of 256 units in which free ones are searched.
const OPEN_BLOCKS: usize = 64;

/// Why no section can be built from a list of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildVocabularyError {
    /// There are none, or more than ids.
    TokenCount {
        /// The number given.
        found: usize,
    },
    /// No word is that long: the file is probably not a vocabulary.
    TokenTooLong {
        /// The token's id.
        id: usize,
        /// Its length.
        bytes: usize,
    },
    /// The strings or the trie outgrow the section's numbers.
    TooLarge,
}

impl std::fmt::Display for BuildVocabularyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TokenCount { found } => write!(f, "{found} tokens; a vocabulary has 1 to {MAX_TOKENS}"),
            Self::TokenTooLong { id, bytes } => {
                write!(
                    f,
                    "token {id} has {bytes} bytes; the longest possible has {MAX_TOKEN_BYTES}: is this a vocab.txt?"
                )
            }
            Self::TooLarge => write!(f, "the vocabulary is too large for its section"),
        }
    }
}

impl std::error::Error for BuildVocabularyError {}

/// The lines of a `vocab.txt` in the order of their ids, without the whitespace at their ends, as the reference reads
/// them.
pub fn parse_vocab_txt(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

/// Builds the section from the tokens in the order of their ids.
///
/// A token given twice belongs to the later id, as in the reference; the earlier id stays, is never produced, and
/// decodes as nothing. The same holds for an empty token. Tokens with a byte 0 can be decoded but not found: cleaned
/// text has none.
///
/// # Errors
///
/// If there are too many tokens, or one is too long.
pub fn build_vocabulary(tokens: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, BuildVocabularyError> {
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        return Err(BuildVocabularyError::TokenCount { found: tokens.len() });
    }
    let mut owner: HashMap<&[u8], usize> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let token = token.as_ref();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(BuildVocabularyError::TokenTooLong { id, bytes: token.len() });
        }
        owner.insert(token, id);
    }

    let mut strings = Vec::new();
    let mut anchors = Vec::new();
    let mut distances = Vec::new();
    for id in 0..=tokens.len() {
        if id % TOKENS_PER_ANCHOR == 0 {
            anchors.push(strings.len());
        }
        distances.push(strings.len() - anchors[anchors.len() - 1]);
        if let Some(token) = tokens.get(id).map(AsRef::as_ref)
            && owner[token] == id
        {
            strings.extend_from_slice(token);
        }
    }

    let mut searched: Vec<(&[u8], u32)> = owner
        .into_iter()
        .filter(|(token, _)| !token.is_empty() && !token.contains(&0))
        .map(|(token, id)| (token, id as u32))
        .collect();
    searched.sort_unstable();
    let units = DoubleArray::build(&searched)?;

    let too_large = |_| BuildVocabularyError::TooLarge;
    let counts = [tokens.len(), units.len(), strings.len()].map(u32::try_from);
    let [token_count, unit_count, string_bytes] = counts;
    let (token_count, unit_count, string_bytes) =
        (token_count.map_err(too_large)?, unit_count.map_err(too_large)?, string_bytes.map_err(too_large)?);
    let parts = Parts::new(token_count, unit_count, string_bytes);

    let mut section = vec![0; HEADER_BYTES];
    section[field::MAGIC].copy_from_slice(&MAGIC);
    section[field::TOKENS].copy_from_slice(&token_count.to_le_bytes());
    section[field::UNITS].copy_from_slice(&unit_count.to_le_bytes());
    section[field::STRING_BYTES].copy_from_slice(&string_bytes.to_le_bytes());
    section.extend(units.iter().flat_map(|unit| unit.0.to_le_bytes()));
    // Both fit: `string_bytes` does, and 64 tokens of at most 1023 bytes stay below 2¹⁶.
    section.extend(anchors.iter().flat_map(|&anchor| (anchor as u32).to_le_bytes()));
    section.extend(distances.iter().flat_map(|&distance| (distance as u16).to_le_bytes()));
    section.resize(parts.strings as usize, 0);
    section.extend_from_slice(&strings);
    Ok(section)
}

/// A double array under construction.
struct DoubleArray {
    units: Vec<Unit>,
    used: Vec<bool>,
    /// Bases that a node has: two nodes with one base would adopt each other's children.
    based: Vec<bool>,
    /// No unit before this one is free, as far as the search goes.
    first_free: usize,
}

impl DoubleArray {
    fn build(sorted: &[(&[u8], u32)]) -> Result<Vec<Unit>, BuildVocabularyError> {
        let mut array = Self { units: Vec::new(), used: Vec::new(), based: Vec::new(), first_free: 1 };
        array.grow();
        array.used[0] = true;
        if !sorted.is_empty() {
            array.place(sorted, 0, 0, 0)?;
        }
        let end = array.used.iter().rposition(|&used| used).map_or(0, |last| last + 1);
        array.units.truncate(end);
        Ok(array.units)
    }

    fn grow(&mut self) {
        let size = self.units.len() + 256;
        self.units.resize(size, Unit::default());
        self.used.resize(size, false);
        self.based.resize(size, false);
    }

    /// Writes the node at `index`, whose tokens share their first `depth` bytes, and all below it.
    ///
    /// The recursion is as deep as the longest token.
    fn place(
        &mut self,
        tokens: &[(&[u8], u32)],
        depth: usize,
        index: usize,
        label: u8,
    ) -> Result<(), BuildVocabularyError> {
        // The path to the continuation root stays inner, so that a search can start from it.
        let first = tokens[0].0;
        if tokens.len() == 1
            && depth > 0
            && !(depth <= CONTINUATION_PREFIX.len() && CONTINUATION_PREFIX.starts_with(&first[..depth]))
        {
            self.units[index] = Unit::leaf(label, tokens[0].1, first.len() == depth);
            return Ok(());
        }
        // Sorted: the token that ends here comes first.
        let (own, below) = if first.len() == depth { tokens.split_at(1) } else { tokens.split_at(0) };
        let children: Vec<&[(&[u8], u32)]> = below.chunk_by(|a, b| a.0[depth] == b.0[depth]).collect();
        let mut labels: Vec<u8> = own.iter().map(|_| 0).collect();
        labels.extend(children.iter().map(|child| child[0].0[depth]));
        let base = self.free_base(&labels);
        if base >= 1 << 22 {
            return Err(BuildVocabularyError::TooLarge);
        }
        self.units[index] = Unit::inner(label, base as u32, !own.is_empty());
        self.based[base] = true;
        for &label in &labels {
            self.used[base ^ usize::from(label)] = true;
        }
        while self.first_free < self.used.len() && self.used[self.first_free] {
            self.first_free += 1;
        }
        if let [(_, id)] = own {
            self.units[base] = Unit::leaf(0, *id, true);
        }
        for child in children {
            let label = child[0].0[depth];
            self.place(child, depth + 1, base ^ usize::from(label), label)?;
        }
        Ok(())
    }

    /// The first base, in the blocks that are still open, at which all `labels` find free units.
    fn free_base(&mut self, labels: &[u8]) -> usize {
        let label = usize::from(labels.first().copied().unwrap_or(0));
        let open = self.units.len().saturating_sub(256 * OPEN_BLOCKS);
        let mut at = self.first_free.max(open);
        loop {
            if at >= self.units.len() {
                self.grow();
            }
            let base = at ^ label;
            // A base and all its children lie in one block of 256, which exists.
            if !self.used[at] && !self.based[base] && labels.iter().all(|&l| !self.used[base ^ usize::from(l)]) {
                return base;
            }
            at += 1;
        }
    }
}
