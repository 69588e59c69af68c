//! A blob on the host: opened and verified, or converted in memory; repacked where it was packed for another CPU.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use mbert_runtime::format::contents;
use mbert_runtime::format::layout::{TILE_CHANNELS, WeightLayout, repack};
use mbert_runtime::format::section::Section;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::memory_bytes;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::built_in::BuiltIn;
use crate::bytes::Bytes;
use crate::convert::blob::BlobBuilder;
use crate::convert::checkpoint::Checkpoint;
use crate::convert::{Options, convert};

/// As arguments name a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// By its name alone, even where a file has that name too: the file is then `./small`.
    BuiltIn(BuiltIn),
    /// Any other argument.
    File(PathBuf),
}

impl From<OsString> for ModelName {
    fn from(argument: OsString) -> Self {
        match BuiltIn::named(&argument) {
            Some(model) => Self::BuiltIn(model),
            None => Self::File(argument.into()),
        }
    }
}

impl Default for ModelName {
    fn default() -> Self {
        Self::BuiltIn(BuiltIn::default())
    }
}

/// The bytes of a blob that has been verified, or is being verified.
pub struct ModelFile {
    bytes: Arc<Bytes>,
    /// What it is called in errors.
    name: String,
}

/// A blob that is being verified.
#[must_use = "an answer from a damaged file would leave"]
pub struct Verification(Option<JoinHandle<Result<()>>>);

impl Verification {
    /// Waits until every byte has been verified.
    ///
    /// # Errors
    ///
    /// The first byte range that is damaged.
    pub fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

/// Verifies every byte, on all processors.
fn verify(bytes: &[u8], name: &str) -> Result<()> {
    let model = Model::open(bytes).with_context(|| name.to_owned())?;
    let damage = (0..model.header().sections).into_par_iter().find_map_first(|index| model.verify_section(index).err());
    damage.map_or(Ok(()), Err).with_context(|| name.to_owned())
}

impl ModelFile {
    /// Opens a blob and verifies every byte of it.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let this = Self::map(path)?;
        verify(&this.bytes, &this.name)?;
        Ok(this)
    }

    fn map(path: &Path) -> Result<Self> {
        Ok(Self { bytes: Arc::new(Bytes::map(path)?), name: path.display().to_string() })
    }

    /// Opens what an argument names; the weights of a built-in model are put in the given order.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn named(name: &ModelName, layout: WeightLayout) -> Result<Self> {
        match name {
            ModelName::File(path) => Self::open(path),
            ModelName::BuiltIn(model) => {
                let bytes = Arc::new(Bytes::Owned(model.blob(layout)?));
                Ok(Self { bytes, name: format!("the built-in model {}", model.name()) })
            }
        }
    }

    /// Opens what an argument names, and verifies a file on a thread of its own meanwhile: the model may be run, but nothing that it
    /// answers may leave before [`Verification::finish`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but for damage that the other thread finds.
    pub fn verifying(name: &ModelName, layout: WeightLayout) -> Result<(Self, Verification)> {
        let ModelName::File(path) = name else { return Ok((Self::named(name, layout)?, Verification(None))) };
        let this = Self::map(path)?;
        let (bytes, name) = (Arc::clone(&this.bytes), this.name.clone());
        let thread = std::thread::spawn(move || verify(&bytes, &name));
        Ok((this, Verification(Some(thread))))
    }

    /// Converts a checkpoint in memory, with the built-in calibration and weights in the given order. What the user should know
    /// goes to stderr.
    ///
    /// # Errors
    ///
    /// If its weights cannot be converted.
    pub fn from_checkpoint(checkpoint: &Checkpoint, layout: WeightLayout, progress: &ProgressBar) -> Result<Self> {
        let options = Options { layout, ..Options::default() };
        let converted = convert(checkpoint, &options, progress)?;
        for note in converted.notes {
            eprintln!("note: {note}");
        }
        Ok(Self { bytes: Arc::new(Bytes::Owned(converted.blob)), name: checkpoint.model_name.clone() })
    }

    /// The whole blob.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The model.
    ///
    /// # Errors
    ///
    /// If it is not one.
    pub fn model(&self) -> Result<Model<&[u8]>> {
        Model::open(&self.bytes[..]).with_context(|| self.name.clone())
    }

    /// Makes the weights readable for these kernels: a blob packed for another CPU is repacked in memory, with a word on stderr.
    ///
    /// # Errors
    ///
    /// If it is not a model.
    pub fn for_kernels(self, kernels: &Kernels) -> Result<Self> {
        let model = self.model()?;
        if model.check_layout(kernels).is_ok() {
            return Ok(self);
        }
        eprintln!("{}: packed for another CPU; repacking for {}", self.name, kernels.name);
        let bytes = Arc::new(Bytes::Owned(repacked(&model, kernels.weight_layout)));
        Ok(Self { bytes, name: self.name })
    }
}

/// The same model with its packed weights in another order.
pub(crate) fn repacked(model: &Model<&[u8]>, layout: WeightLayout) -> Vec<u8> {
    let mut blob = BlobBuilder::new(model.header().alignment_bytes as usize);
    for section in model.sections() {
        let mut bytes = model.section_bytes(&section).to_vec();
        if section.layout == WeightLayout::RowMajor {
            blob.section(section, bytes);
            continue;
        }
        // What was packed is whole tiles.
        let tiles = contents::tiles(section.kind, model.config(), 0, section.layout);
        let layout = if layout.fits(TILE_CHANNELS, tiles.inputs) { layout } else { WeightLayout::RowMajor };
        let mut row_major = vec![0; TILE_CHANNELS * tiles.inputs];
        for part in 0..section.rows as usize / tiles.channels {
            for tile in (0..tiles.count()).map(|index| tiles.tile(part, index)) {
                let weights = bytemuck::cast_slice_mut(&mut bytes[tile.weights as usize..][..row_major.len()]);
                repack(section.layout, weights, WeightLayout::RowMajor, &mut row_major, tiles.inputs);
                repack(WeightLayout::RowMajor, &row_major, layout, weights, tiles.inputs);
            }
        }
        blob.section(Section { layout, ..section }, bytes);
    }
    blob.finish()
}

/// The kernels that a command uses: the best there are, or those of a name.
///
/// # Errors
///
/// If this CPU cannot run kernels of that name.
pub fn kernels(name: Option<&str>) -> Result<&'static Kernels> {
    match name {
        None => Ok(Kernels::native()),
        Some(name) => Kernels::named(name).with_context(|| {
            let available: Vec<_> = mbert_runtime::kernels::available().map(|kernels| kernels.name).collect();
            format!("this CPU cannot run kernels named {name}; it can run {}", available.join(", "))
        }),
    }
}

/// Memory for sequences of up to `tokens` tokens, at most the model's positions.
pub fn memory(model: &Model<&[u8]>, tokens: usize) -> Vec<u8> {
    let config = &model.manifest().config;
    let tokens = tokens.clamp(1, usize::from(config.max_position_embeddings));
    vec![0; memory_bytes(config, tokens)]
}
