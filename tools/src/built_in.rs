//! The models that the program carries: float checkpoints, converted when they are asked for.
//!
//! No blob is stored: it would have to be made again with every change of the format or of the arithmetic. A conversion takes
//! a fraction of a second and gives the same bytes on every machine.

use std::ffi::OsStr;

use anyhow::Result;
use indicatif::ProgressBar;
use mbert_runtime::format::layout::WeightLayout;

use crate::convert::checkpoint::Checkpoint;
use crate::convert::{Options, convert};

/// A model that the program carries. Both are cased, and were trained on thirteen languages for both heads: masked LM
/// and next sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuiltIn {
    /// 4 layers of 256 channels: what answers where no model is named.
    #[default]
    Small,
    /// 2 layers of 96 channels, for small boards.
    Tiny,
}

/// A file's name and content.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($model:literal: $($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../models/", $model, "/", $name)))),*]
    };
}

static SMALL: [File; 5] =
    files!("small": "config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "README.md");
static TINY: [File; 5] =
    files!("tiny": "config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "README.md");

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Small, Self::Tiny];

    /// Its name in arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Tiny => "tiny",
        }
    }

    /// The model of that name.
    pub fn named(name: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|model| name == model.name())
    }

    /// The content of a file of its checkpoint.
    pub fn file(self, name: &str) -> Option<&'static [u8]> {
        let files = match self {
            Self::Small => &SMALL,
            Self::Tiny => &TINY,
        };
        files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| *bytes)
    }

    /// Converts it, with the built-in calibration.
    ///
    /// # Errors
    ///
    /// None, unless the program was built with files that are no checkpoint.
    pub fn blob(self, layout: WeightLayout) -> Result<Vec<u8>> {
        let options = Options { layout, ..Options::default() };
        Ok(convert(&Checkpoint::open(self)?, &options, &ProgressBar::hidden())?.blob)
    }
}
