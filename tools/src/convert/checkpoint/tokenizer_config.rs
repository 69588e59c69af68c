//! Reads how text becomes ids: the tokenizer's flags, and the ids of its special tokens.
//!
//! Each flag is taken from `tokenizer_config.json`, else from the normalizer of `tokenizer.json`, else it is the default
//! of transformers' `BertTokenizer`; each special token from `tokenizer_config.json`, else from `special_tokens_map.json`,
//! else it is the default. Every default is noted. Ids are looked up in the vocabulary, never assumed.

use anyhow::{Context, Result, bail};
use mbert_runtime::config::TokenizerConfig;
use serde_json::{Map, Value};

use super::files::Files;
use super::vocabulary::TokenizerJson;

type Object = Map<String, Value>;

/// Reads flags and special tokens of a checkpoint.
///
/// # Errors
///
/// If a file is malformed, or a special token is not in the vocabulary.
pub fn read_tokenizer_config(
    files: &Files,
    tokenizer_json: Option<&TokenizerJson>,
    vocabulary: &[String],
    notes: &mut Vec<String>,
) -> Result<TokenizerConfig> {
    let config: Option<Object> = files.json("tokenizer_config.json")?;
    let special_tokens: Option<Object> = files.json("special_tokens_map.json")?;
    if config.is_none() {
        let flags = if tokenizer_json.is_some() { ": flags are those of tokenizer.json" } else { "" };
        notes.push(format!("tokenizer_config.json is absent{flags}"));
    }
    let config = config.unwrap_or_default();
    note_what_differs(&config, notes);

    let mut sources = Sources {
        config: &config,
        normalizer: tokenizer_json.and_then(|tokenizer| bert_normalizer(&tokenizer.normalizer)),
        special_tokens: &special_tokens.unwrap_or_default(),
        vocabulary,
        defaults: Vec::new(),
    };
    let tokenizer = TokenizerConfig {
        do_lower_case: sources.flag("do_lower_case", "lowercase", Some(true))?.unwrap_or(true),
        strip_accents: sources.flag("strip_accents", "strip_accents", None)?,
        tokenize_chinese_chars: sources
            .flag("tokenize_chinese_chars", "handle_chinese_chars", Some(true))?
            .unwrap_or(true),
        pad_token_id: sources.special_id("pad_token", "[PAD]")?,
        unk_token_id: sources.special_id("unk_token", "[UNK]")?,
        cls_token_id: sources.special_id("cls_token", "[CLS]")?,
        sep_token_id: sources.special_id("sep_token", "[SEP]")?,
        mask_token_id: sources.special_id("mask_token", "[MASK]")?,
    };
    if let Some(tokenizer_json) = tokenizer_json {
        note_what_tokenizer_json_adds(tokenizer_json, &tokenizer, vocabulary, notes);
    }
    if !sources.defaults.is_empty() {
        notes.push(format!("not given, so transformers' defaults: {}", sources.defaults.join(", ")));
    }
    Ok(tokenizer)
}

/// Settings under which the reference would give other ids than BERT's tokenizer.
fn note_what_differs(config: &Object, notes: &mut Vec<String>) {
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str)
        && !["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"].contains(&class)
    {
        notes.push(format!("tokenizer_class is {class}: text is tokenized as by BertTokenizer nevertheless"));
    }
    if config.get("do_basic_tokenize").and_then(Value::as_bool) == Some(false) {
        notes.push("do_basic_tokenize is false: text is cleaned and split at punctuation nevertheless".into());
    }
    if config.get("never_split").and_then(Value::as_array).is_some_and(|tokens| !tokens.is_empty()) {
        notes.push("never_split is ignored: its tokens are split like others".into());
    }
}

/// The same for what only `tokenizer.json` can say.
fn note_what_tokenizer_json_adds(
    tokenizer_json: &TokenizerJson,
    tokenizer: &TokenizerConfig,
    vocabulary: &[String],
    notes: &mut Vec<String>,
) {
    let special = [
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.mask_token_id,
    ];
    let is_special = |token: &str| special.iter().any(|&id| vocabulary[id as usize] == token);
    let added: Vec<&str> = tokenizer_json.added_tokens().filter(|token| !is_special(token)).collect();
    if !added.is_empty() {
        notes.push(format!("added tokens are found as ordinary words only: {}", added.join(", ")));
    }
    let normalizer = bert_normalizer(&tokenizer_json.normalizer);
    if normalizer.and_then(|normalizer| normalizer.get("clean_text")).and_then(Value::as_bool) == Some(false) {
        notes.push("clean_text is false: control characters are dropped nevertheless".into());
    }
    if let Some(chars) = tokenizer_json.max_input_chars_per_word().filter(|&chars| chars != 100) {
        notes.push(format!("max_input_chars_per_word is {chars}: words of more than 100 characters are unknown"));
    }
}

/// The `BertNormalizer`, alone or in a `Sequence`.
fn bert_normalizer(normalizer: &Value) -> Option<&Object> {
    match normalizer.get("type").and_then(Value::as_str)? {
        "BertNormalizer" => normalizer.as_object(),
        "Sequence" => normalizer.get("normalizers")?.as_array()?.iter().find_map(bert_normalizer),
        _ => None,
    }
}

struct Sources<'a> {
    config: &'a Object,
    normalizer: Option<&'a Object>,
    special_tokens: &'a Object,
    vocabulary: &'a [String],
    /// What was taken from the defaults, for example `do_lower_case true`.
    defaults: Vec<String>,
}

impl Sources<'_> {
    /// A flag under its name in `tokenizer_config.json` and in the normalizer. An explicit `null` counts as given.
    fn flag(&mut self, name: &str, normalizer_name: &str, default: Option<bool>) -> Result<Option<bool>> {
        let (value, file) = if let Some(value) = self.config.get(name) {
            (value, "tokenizer_config.json")
        } else if let Some(value) = self.normalizer.and_then(|normalizer| normalizer.get(normalizer_name)) {
            (value, "tokenizer.json")
        } else {
            let shown = default.map_or("null".into(), |flag| flag.to_string());
            self.defaults.push(format!("{name} {shown}"));
            return Ok(default);
        };
        match value {
            Value::Bool(flag) => Ok(Some(*flag)),
            Value::Null => Ok(default),
            other => bail!("{name} in {file} is {other}; expected is true, false or null"),
        }
    }

    fn special_id(&mut self, name: &str, default: &str) -> Result<u32> {
        let (content, file) = match (self.config.get(name), self.special_tokens.get(name)) {
            (Some(value), _) if !value.is_null() => (content(name, value)?, "tokenizer_config.json"),
            (_, Some(value)) if !value.is_null() => (content(name, value)?, "special_tokens_map.json"),
            _ => {
                self.defaults.push(format!("{name} {default}"));
                (default, "transformers' defaults")
            }
        };
        let id = self.vocabulary.iter().position(|token| token == content).with_context(|| {
            format!("the vocabulary has no {content}, which is the {name} of {file}; give the tokenizer's own files")
        })?;
        Ok(id as u32)
    }
}

/// A special token is written as a string, or as a map with `content`.
fn content<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .with_context(|| format!("{name} is {value}; expected is a string, or a map with \"content\""))
}
