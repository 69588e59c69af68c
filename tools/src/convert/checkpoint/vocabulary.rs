//! Reads the vocabulary, in id order, from `vocab.txt` or `tokenizer.json`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::files::Files;

/// The parts of `tokenizer.json` that say how text becomes ids.
#[derive(Deserialize)]
pub struct TokenizerJson {
    /// Where lower-casing, accents and CJK are decided.
    #[serde(default)]
    pub normalizer: Value,
    model: Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

impl TokenizerJson {
    /// Tokens that the reference cuts out of the text before it is split into words.
    pub fn added_tokens(&self) -> impl Iterator<Item = &str> {
        self.added_tokens.iter().map(|token| token.content.as_str())
    }

    /// Longest word in characters, if that is given.
    pub fn max_input_chars_per_word(&self) -> Option<u64> {
        self.model.get("max_input_chars_per_word")?.as_u64()
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u64,
    content: String,
}

/// The vocabulary in id order.
///
/// `vocab.txt` comes first; `tokenizer.json` is taken where that is absent, or where only it has `vocab_size` tokens
/// because tokens were added to the model.
///
/// # Errors
///
/// If neither file is there, one is malformed, a token has two ids, or their number is not `vocab_size`.
pub fn read_vocabulary(
    files: &Files,
    tokenizer_json: Option<&TokenizerJson>,
    vocab_size: usize,
) -> Result<Vec<String>> {
    let from_json = |tokenizer: &TokenizerJson| {
        tokens_of(tokenizer).with_context(|| format!("{} is malformed", files.path("tokenizer.json").display()))
    };
    let (vocabulary, file) = match (files.open("vocab.txt")?, tokenizer_json) {
        (Some(bytes), tokenizer) => {
            let lines =
                parse_lines(&bytes).with_context(|| format!("{} is malformed", files.path("vocab.txt").display()))?;
            match tokenizer {
                Some(tokenizer) if lines.len() < vocab_size => {
                    let with_added = from_json(tokenizer)?;
                    if with_added.len() == vocab_size { (with_added, "tokenizer.json") } else { (lines, "vocab.txt") }
                }
                _ => (lines, "vocab.txt"),
            }
        }
        (None, Some(tokenizer)) => (from_json(tokenizer)?, "tokenizer.json"),
        (None, None) => bail!(
            "{} has neither vocab.txt nor tokenizer.json; copy the one that the model was trained with",
            files.directory().display()
        ),
    };
    ensure!(
        vocabulary.len() == vocab_size,
        "{} has {} tokens, but vocab_size in config.json is {vocab_size}: copy the vocabulary that the model was trained \
         with; where the embeddings were padded, cut them (`resize_token_embeddings({})`) and save the model again",
        files.path(file).display(),
        vocabulary.len(),
        vocabulary.len(),
    );
    let mut ids = HashMap::with_capacity(vocabulary.len());
    for (id, token) in vocabulary.iter().enumerate() {
        if let Some(first) = ids.insert(token.as_str(), id) {
            bail!(
                "{} lists the token {token:?} twice, as id {first} and as id {id}; only one id of a token can be right",
                files.path(file).display()
            );
        }
    }
    Ok(vocabulary)
}

/// One token a line, as the reference reads it: only the line end is stripped, and the last one is no token.
fn parse_lines(bytes: &[u8]) -> Result<Vec<String>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let token = |(index, line): (usize, &[u8])| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = str::from_utf8(line).with_context(|| format!("line {} is not UTF-8", index + 1))?;
        Ok(text.to_owned())
    };
    bytes.split(|&byte| byte == b'\n').enumerate().map(token).collect()
}

/// Tokens in id order from the map of `model.vocab` and from `added_tokens`.
fn tokens_of(tokenizer: &TokenizerJson) -> Result<Vec<String>> {
    let model = &tokenizer.model;
    if let Some(kind) = model.get("type").and_then(Value::as_str) {
        ensure!(kind == "WordPiece", "its model is {kind}; BERT's is WordPiece");
    }
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("##");
    ensure!(prefix == "##", "its continuing_subword_prefix is {prefix:?}; supported is \"##\"");
    let map = model.get("vocab").and_then(Value::as_object).context("model.vocab is not a map from token to id")?;

    let mut by_id: HashMap<u64, &str> = HashMap::with_capacity(map.len());
    for (token, id) in map {
        let id = id.as_u64().with_context(|| format!("the id of {token:?} is {id}, not a number from 0 up"))?;
        if let Some(other) = by_id.insert(id, token) {
            bail!("{other:?} and {token:?} share the id {id}");
        }
    }
    for added in &tokenizer.added_tokens {
        let other = by_id.insert(added.id, &added.content);
        if let Some(other) = other.filter(|other| *other != added.content) {
            bail!("{other:?} and the added token {:?} share the id {}", added.content, added.id);
        }
    }
    (0..by_id.len() as u64)
        .map(|id| {
            let token = by_id.get(&id).with_context(|| {
                format!(
                    "no token has the id {id}, although there are {} tokens; ids run from 0 without gaps",
                    by_id.len()
                )
            })?;
            Ok((*token).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_everything_but_their_end() {
        let tokens = parse_lines("[PAD]\r\n a\u{a0}\n\n##b".as_bytes()).unwrap();
        assert_eq!(tokens, ["[PAD]", " a\u{a0}", "", "##b"]);
        assert_eq!(parse_lines(b"x\n").unwrap(), ["x"]);
        assert!(parse_lines(b"").unwrap().is_empty());
    }

    #[test]
    fn invalid_utf8_is_refused_with_its_line() {
        let error = parse_lines(b"[PAD]\n\xff\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
