//! The named files of a checkpoint, wherever they are; a file's name is in every error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::built_in::BuiltIn;
use crate::bytes::Bytes;

/// Where the files of a checkpoint are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In a directory, as `save_pretrained` wrote it.
    Directory(PathBuf),
    /// In the program.
    BuiltIn(BuiltIn),
}

impl From<&Path> for Files {
    fn from(dir: &Path) -> Self {
        Self::Directory(dir.to_owned())
    }
}

impl From<BuiltIn> for Files {
    fn from(model: BuiltIn) -> Self {
        Self::BuiltIn(model)
    }
}

/// As arguments name a checkpoint: the name of a built-in model, or else a directory.
impl From<OsString> for Files {
    fn from(argument: OsString) -> Self {
        match BuiltIn::named(&argument) {
            Some(model) => Self::BuiltIn(model),
            None => Self::Directory(argument.into()),
        }
    }
}

impl Files {
    /// What the checkpoint is called: the name of the directory, or of the built-in model.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Directory(dir) => Some(dir.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned()),
            Self::BuiltIn(model) => Some(model.name().to_owned()),
        }
    }

    /// The directory, for messages.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Directory(dir) => dir,
            Self::BuiltIn(model) => Path::new(model.name()),
        }
    }

    /// The path of a file, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(name).exists(),
            Self::BuiltIn(model) => model.file(name).is_some(),
        }
    }

    /// The content of a file, or `None` where there is none.
    ///
    /// # Errors
    ///
    /// If it is there but cannot be read.
    pub fn open(&self, name: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Directory(_) if !self.has(name) => Ok(None),
            Self::Directory(dir) => Bytes::map(&dir.join(name)).map(Some),
            Self::BuiltIn(model) => Ok(model.file(name).map(Bytes::Static)),
        }
    }

    /// The JSON in a file, or `None` where there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not JSON (lone surrogates included), or lacks the fields of `T`; the cause tells line and column.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.open(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).with_context(|| {
            format!("{} is not the JSON that Hugging Face writes; download it again", self.path(name).display())
        })
    }
}
