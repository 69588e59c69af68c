//! Builds the vocabulary section that [`mbert_runtime::tokenizer::vocab`] describes and reads.
//!
//! The trie is laid out depth first, so that the nodes below a prefix lie near each other, and each node takes the
//! first base at which all its children find free units. Nodes far behind are not looked at again: a search for free
//! units covers the last `OPEN_BLOCKS` blocks of 256, which fills the array to more than 99 % all the same.
//!
//! A node at which a failure would mean reading more than `MAX_REREAD_BYTES` again gets a link, which is worked out here by
//! splitting the node's own bytes.

use std::collections::{BTreeMap, HashMap};

use mbert_runtime::tokenizer::vocab::{
    CONTINUATION_PREFIX, HEADER_BYTES, LinkWord, MAGIC, MAX_REREAD_BYTES, MAX_TOKEN_BYTES, MAX_TOKENS, Parts,
    TOKENS_PER_ANCHOR, Unit, field,
};

/// Blocks of 256 units in which free ones are searched.
const OPEN_BLOCKS: usize = 64;

/// Why no section can be built from a list of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildVocabularyError {
    /// There are none, or more than [`MAX_TOKENS`].
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
/// decodes as nothing. An empty token decodes as nothing, too, where the reference puts a space. Tokens with a byte 0 can be decoded but not found: cleaned
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
    let (units, link_words) = DoubleArray::build(&searched)?;

    let too_large = |_| BuildVocabularyError::TooLarge;
    let counts = [tokens.len(), units.len(), link_words.len(), strings.len()].map(u32::try_from);
    let [token_count, unit_count, link_count, string_bytes] = counts;
    let (token_count, unit_count, link_count, string_bytes) = (
        token_count.map_err(too_large)?,
        unit_count.map_err(too_large)?,
        link_count.map_err(too_large)?,
        string_bytes.map_err(too_large)?,
    );
    let parts = Parts::new(token_count, unit_count, link_count, string_bytes);

    let mut section = vec![0; HEADER_BYTES];
    section[field::MAGIC].copy_from_slice(&MAGIC);
    section[field::TOKENS].copy_from_slice(&token_count.to_le_bytes());
    section[field::UNITS].copy_from_slice(&unit_count.to_le_bytes());
    section[field::STRING_BYTES].copy_from_slice(&string_bytes.to_le_bytes());
    section[field::LINK_WORDS].copy_from_slice(&link_count.to_le_bytes());
    section.extend(units.iter().flat_map(|unit| unit.0.to_le_bytes()));
    section.extend(link_words.iter().flat_map(|word| word.0.to_le_bytes()));
    // Both fit: `string_bytes` does, and 64 tokens of at most 1023 bytes stay below 2¹⁶.
    section.extend(anchors.iter().flat_map(|&anchor| (anchor as u32).to_le_bytes()));
    section.extend(distances.iter().flat_map(|&distance| (distance as u16).to_le_bytes()));
    section.resize(parts.strings as usize, 0);
    section.extend_from_slice(&strings);
    Ok(section)
}

/// What a node comes to where reading on fails.
struct Link<'a> {
    /// The tokens to take, with the bytes of the text that they cover; none if the word is unknown.
    tokens: Vec<(u32, usize)>,
    /// The node to go on from, and the bytes behind the last token on the way to it; `None` if there is no such token.
    target: &'a [u8],
    rest: Option<usize>,
}

/// The tokens, sorted, as a set of prefixes.
struct Prefixes<'a> {
    sorted: &'a [(&'a [u8], u32)],
    ids: HashMap<&'a [u8], u32>,
}

impl<'a> Prefixes<'a> {
    /// A token that starts with `prefix`.
    fn any_with(&self, prefix: &[u8]) -> Option<&'a [u8]> {
        let start = self.sorted.partition_point(|(token, _)| *token < prefix);
        self.sorted.get(start).map(|(token, _)| *token).filter(|token| token.starts_with(prefix))
    }

    /// The longest token that is a prefix of `node`, longer than what precedes a continuation, and its length.
    fn last_token(&self, node: &[u8]) -> Option<(u32, usize)> {
        let shortest = continuation_bytes(node) + 1;
        (shortest..=node.len()).rev().find_map(|len| Some((*self.ids.get(&node[..len])?, len)))
    }

    /// The links of the nodes on the way to `token` that need one.
    fn links(&self, token: &'a [u8], known: &mut BTreeMap<&'a [u8], Link<'a>>) {
        let mut end_of_last = None;
        for len in 1..token.len() {
            let node = &token[..len];
            if len > continuation_bytes(node) && self.ids.contains_key(node) {
                end_of_last = Some(len);
            }
            if let Some(end) = end_of_last
                && len - end > MAX_REREAD_BYTES
                && !known.contains_key(node)
            {
                known.insert(node, self.link(node));
            }
        }
    }

    /// Splits the bytes of `node` until what is left is itself a node.
    fn link(&self, node: &[u8]) -> Link<'a> {
        let mut tokens = Vec::new();
        let mut rest = node.to_vec();
        while let Some((id, end)) = self.last_token(&rest) {
            tokens.push((id, end - continuation_bytes(&rest)));
            rest = [CONTINUATION_PREFIX, &rest[end..]].concat();
            if let Some(token) = self.any_with(&rest) {
                let target = &token[..rest.len()];
                let rest = self.last_token(target).map(|(_, end)| target.len() - end);
                return Link { tokens, target, rest };
            }
        }
        Link { tokens: Vec::new(), target: &[], rest: None }
    }
}

/// Bytes of the prefix of a node that continues a word.
fn continuation_bytes(node: &[u8]) -> usize {
    let continues =
        node.len() > CONTINUATION_PREFIX.len() && node.starts_with(CONTINUATION_PREFIX) || node == CONTINUATION_PREFIX;
    if continues { CONTINUATION_PREFIX.len() } else { 0 }
}

/// A double array under construction.
struct DoubleArray<'a> {
    units: Vec<Unit>,
    used: Vec<bool>,
    /// Bases that a node has: two nodes with one base would adopt each other's children.
    based: Vec<bool>,
    /// No unit before this one is free, as far as the search goes.
    first_free: usize,
    links: BTreeMap<&'a [u8], Link<'a>>,
    /// Where the nodes that have a link, or that one leads to, and their last tokens, were placed.
    placed: HashMap<&'a [u8], usize>,
}

impl<'a> DoubleArray<'a> {
    fn build(sorted: &'a [(&'a [u8], u32)]) -> Result<(Vec<Unit>, Vec<LinkWord>), BuildVocabularyError> {
        let prefixes = Prefixes { sorted, ids: sorted.iter().copied().collect() };
        let mut links = BTreeMap::new();
        sorted.iter().for_each(|(token, _)| prefixes.links(token, &mut links));
        let targets = links.values().filter(|link| !link.tokens.is_empty()).map(|link| link.target);
        let last_tokens = links.values().filter_map(|link| Some(&link.target[..link.target.len() - link.rest?]));
        let placed = targets.chain(links.keys().copied()).chain(last_tokens).map(|node| (node, 0)).collect();
        let mut array = Self { units: Vec::new(), used: Vec::new(), based: Vec::new(), first_free: 1, links, placed };
        array.grow();
        array.used[0] = true;
        if !sorted.is_empty() {
            array.place(sorted, 0, 0, 0)?;
        }
        let words = array.write_links()?;
        // Free units at the end stay: a child that is looked for lies in the block of its base, whether it is there or not.
        Ok((array.units, words))
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
        tokens: &'a [(&'a [u8], u32)],
        depth: usize,
        index: usize,
        label: u8,
    ) -> Result<(), BuildVocabularyError> {
        // Sorted: the token that ends here comes first. A node at which one ends has no link.
        let first = tokens[0].0;
        let (node, own) = (&first[..depth], usize::from(first.len() == depth));
        let children: Vec<&[(&[u8], u32)]> = tokens[own..].chunk_by(|a, b| a.0[depth] == b.0[depth]).collect();
        let is_known = self.placed.get_mut(node).map(|place| *place = index).is_some();
        // What a link leads to stays inner, and so does the continuation root: a search goes on from there.
        if children.is_empty() && !is_known && node != CONTINUATION_PREFIX {
            self.units[index] = Unit::leaf(label, tokens[0].1);
            return Ok(());
        }
        let has_link = self.links.contains_key(node);
        let mut labels: Vec<u8> = Vec::new();
        labels.extend((own > 0 || has_link).then_some(0));
        labels.extend(children.iter().map(|child| child[0].0[depth]));
        let base = self.free_base(&labels);
        if base >= MAX_TOKENS {
            return Err(BuildVocabularyError::TooLarge);
        }
        self.units[index] = Unit::inner(label, base as u32, own > 0, has_link);
        self.based[base] = true;
        for &label in &labels {
            self.used[base ^ usize::from(label)] = true;
        }
        while self.first_free < self.used.len() && self.used[self.first_free] {
            self.first_free += 1;
        }
        if own > 0 {
            self.units[base] = Unit::leaf(0, tokens[0].1);
        }
        for child in children {
            let label = child[0].0[depth];
            self.place(child, depth + 1, base ^ usize::from(label), label)?;
        }
        Ok(())
    }

    /// Writes the links, now that all nodes have their places, and where each starts into the leaf of its node.
    fn write_links(&mut self) -> Result<Vec<LinkWord>, BuildVocabularyError> {
        let base_of = |units: &[Unit], index: usize| units[index].0 >> 11;
        let mut words = Vec::new();
        for (node, link) in &self.links {
            let leaf = base_of(&self.units, self.placed[node]) as usize;
            if words.len() >= MAX_TOKENS {
                return Err(BuildVocabularyError::TooLarge);
            }
            self.units[leaf] = Unit::leaf(0, words.len() as u32);
            let target = if link.tokens.is_empty() { 0 } else { self.placed[link.target] };
            words.push(LinkWord::new(target as u32, link.tokens.len() as u32));
            words.push(link.rest.map_or(LinkWord::new(0, 0), |rest| {
                let last = self.placed[&link.target[..link.target.len() - rest]];
                LinkWord::new(base_of(&self.units, last), rest as u32)
            }));
            words.extend(link.tokens.iter().map(|&(id, bytes)| LinkWord::new(id, bytes as u32)));
        }
        Ok(words)
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
