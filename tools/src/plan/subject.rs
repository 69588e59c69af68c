//! The model that is planned for: a blob, a built-in model, a checkpoint, or as little of one as its `config.json`.

use std::path::Path;

use anyhow::Result;
use mbert_runtime::config::{BertConfig, TokenizerConfig};
use mbert_runtime::format::contents;
use mbert_runtime::format::header::HEADER_BYTES;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::manifest::{Heads, Manifest, Quantization};
use mbert_runtime::format::section::{ENTRY_BYTES, Section, SectionKind};
use mbert_runtime::model::GROUP_SIZE;

use crate::convert::blob::ALIGNMENT_BYTES;
use crate::convert::checkpoint::Outline;
use crate::convert::vocab::build_vocabulary;
use crate::model_file::{ModelFile, ModelName};

/// A manifest: names and licence make the difference.
const MANIFEST_BYTES: u64 = 200;
/// The four questions of a self-test.
const SELF_TEST_BYTES: u64 = 700;
/// The vocabulary section of a vocabulary that is not at hand, for each token: 20.9 in multilingual BERT's, 18.5 in English BERT's, 12.3 in
/// that of `tiny`.
const VOCABULARY_BYTES_PER_TOKEN: u64 = 21;

/// A model, as far as a plan needs to know it.
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Geometry.
    pub config: BertConfig,
    /// Its heads.
    pub heads: Heads,
    /// How its weights lie: packed, where any of them are.
    pub layout: WeightLayout,
    /// Length of the blob.
    pub bytes: u64,
    /// Where the length comes from.
    pub size: Size,
}

/// Where the length of a blob comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The blob is there.
    Exact,
    /// Reckoned from the geometry and the vocabulary: right to a kilobyte.
    FromVocabulary,
    /// The vocabulary is not there either, and counted with so many bytes.
    FromConfig {
        /// Those of the vocabulary section.
        vocabulary_bytes: u64,
    },
}

impl Subject {
    /// Finds out what a name stands for: a built-in model, a directory with a checkpoint, a `config.json`, or a blob.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or describes a model that cannot be converted.
    pub fn read(name: ModelName) -> Result<Self> {
        match &name {
            ModelName::File(path) if path.is_dir() || is_json(path) => Self::of_outline(&Outline::read(path)?),
            ModelName::File(path) => Self::of_blob(path.display().to_string(), &ModelFile::open(path)?),
            ModelName::BuiltIn(model) => {
                Self::of_blob(model.name().to_owned(), &ModelFile::named(&name, WeightLayout::RowMajor)?)
            }
        }
    }

    fn of_blob(name: String, file: &ModelFile) -> Result<Self> {
        let model = file.model()?;
        let (config, heads, bytes) = (*model.config(), model.manifest().heads, model.header().total_bytes);
        let packed = model.sections().map(|section| section.layout).find(|&layout| layout != WeightLayout::RowMajor);
        Ok(Self { name, config, heads, layout: packed.unwrap_or_default(), bytes, size: Size::Exact })
    }

    fn of_outline(outline: &Outline) -> Result<Self> {
        let (vocabulary_bytes, size) = match &outline.vocabulary {
            Some(tokens) => (build_vocabulary(tokens)?.len() as u64, Size::FromVocabulary),
            None => {
                let vocabulary_bytes = VOCABULARY_BYTES_PER_TOKEN * u64::from(outline.config.vocab_size);
                (vocabulary_bytes, Size::FromConfig { vocabulary_bytes })
            }
        };
        let (name, config, heads) = (outline.name.clone(), outline.config, outline.heads);
        let bytes = blob_bytes(config, heads, vocabulary_bytes);
        Ok(Self { name, config, heads, layout: WeightLayout::RowMajor, bytes, size })
    }
}

/// A `config.json` of any name begins with a brace, and a blob does not.
fn is_json(path: &Path) -> bool {
    use std::io::Read;
    let mut first = [0];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    path.extension().is_some_and(|extension| extension == "json") || (read.is_ok() && first == *b"{")
}

/// Length of the blob that a model of this geometry becomes.
fn blob_bytes(config: BertConfig, heads: Heads, vocabulary_bytes: u64) -> u64 {
    let tokenizer = TokenizerConfig {
        do_lower_case: false,
        strip_accents: None,
        tokenize_chinese_chars: true,
        pad_token_id: 0,
        unk_token_id: 0,
        cls_token_id: 0,
        sep_token_id: 0,
        mask_token_id: 0,
    };
    let quantization = Quantization { smoothed: true, calibration_tokens: 0, group_size: GROUP_SIZE as u16 };
    let manifest = Manifest { config, tokenizer, quantization, heads };
    let align = |bytes: u64| bytes.next_multiple_of(ALIGNMENT_BYTES as u64);
    let table = (HEADER_BYTES + ENTRY_BYTES * contents::sections(&manifest).count()) as u64;
    let sections = contents::sections(&manifest).map(|(kind, _)| match kind {
        SectionKind::Manifest => MANIFEST_BYTES,
        SectionKind::SelfTest => SELF_TEST_BYTES,
        SectionKind::Vocabulary => vocabulary_bytes,
        _ => contents::shape(kind, &config)
            .map_or(0, |(element, rows, columns)| Section::expected_bytes(kind, element, rows, columns)),
    });
    sections.fold(align(table), |end, bytes| align(end + bytes))
}
