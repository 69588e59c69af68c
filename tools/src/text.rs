//! UTF-8 text files, and their lines as sequences.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use mbert_runtime::model::Model;
use mbert_runtime::tokenizer::{Encoding, Truncation};

use crate::golden::Ids;

/// Characters of a line by which it is named.
const LONGEST_NAME: usize = 100;

/// Reads a text file that is not blank.
///
/// # Errors
///
/// If it cannot be read, is not UTF-8, or has no text.
pub fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("{} is not UTF-8 at byte {at}: convert it to UTF-8 first", path.display())
    })?;
    ensure!(!text.trim().is_empty(), "{} has no text", path.display());
    Ok(text)
}

/// One sequence for each line that is not blank, cut to the model's positions.
///
/// # Errors
///
/// A model with fewer positions than special tokens.
pub fn sequences(model: &Model<&[u8]>, text: &str) -> Result<Vec<Ids>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| sequence(model, line, None)).collect()
}

/// A text, or two as a pair, cut to the model's positions and named by its first characters.
///
/// # Errors
///
/// A model with fewer positions than special tokens.
pub fn sequence(model: &Model<&[u8]>, text: &str, pair: Option<&str>) -> Result<Ids> {
    let max = usize::from(model.manifest().config.max_position_embeddings);
    let (mut input_ids, mut token_type_ids) = (vec![0; max], vec![0; max]);
    let mut encoding = Encoding::new(&mut input_ids).with_token_type_ids(&mut token_type_ids);
    model.tokenizer().encode(text, pair, Truncation::LongestFirst, &mut encoding)?;
    let len = encoding.len();
    input_ids.truncate(len);
    token_type_ids.truncate(len);
    Ok(Ids { name: text.chars().take(LONGEST_NAME).collect(), input_ids, token_type_ids })
}
