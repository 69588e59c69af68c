//! Reads the small files of a checkpoint, with the file's name in every error.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// The content of a file, or `None` where there is none.
///
/// # Errors
///
/// If it is there but cannot be read.
pub fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The JSON in a file, or `None` where there is none.
///
/// # Errors
///
/// If the file cannot be read, is not JSON (lone surrogates included), or lacks the fields of `T`; the cause tells line and column.
pub fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_if_present(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .with_context(|| format!("{} is not the JSON that Hugging Face writes; download it again", path.display()))
}
