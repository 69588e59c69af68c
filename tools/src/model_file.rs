//! A blob on the host: memory-mapped, every hash verified, repacked where it was packed for another CPU.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memmap2::Mmap;
use mbert_runtime::format::layout::{WeightLayout, repack};
use mbert_runtime::format::section::Element;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;

use crate::convert::blob::BlobBuilder;

/// The bytes of a blob that has been verified.
pub struct ModelFile {
    bytes: Bytes,
    path: PathBuf,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl ModelFile {
    /// Opens a blob and verifies every byte of it.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the mapping is read-only; a model file that another program shortens while it is in use is outside
        // what this program can guard against, as for every memory-mapped file.
        let bytes = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot read {}", path.display()))?;
        let this = Self { bytes: Bytes::Mapped(bytes), path: path.to_owned() };
        let model = this.model()?;
        model.verify().with_context(|| path.display().to_string())?;
        Ok(this)
    }

    /// The model.
    ///
    /// # Errors
    ///
    /// If it is not one.
    pub fn model(&self) -> Result<Model<'_>> {
        Model::open(&self.bytes).with_context(|| self.path.display().to_string())
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
        eprintln!("{}: packed for another CPU; repacking for {}", self.path.display(), kernels.name);
        let bytes = Bytes::Owned(repacked(&model));
        Ok(Self { bytes, path: self.path })
    }
}

/// The same model with row-major weights.
pub(crate) fn repacked(model: &Model<'_>) -> Vec<u8> {
    let mut blob = BlobBuilder::default();
    for section in model.sections() {
        let mut bytes = model.section_bytes(&section).to_vec();
        if section.element == Element::I8 && section.layout != WeightLayout::RowMajor {
            let packed = bytemuck::cast_slice(model.section_bytes(&section));
            let out = bytemuck::cast_slice_mut(&mut bytes);
            repack(section.layout, packed, WeightLayout::RowMajor, out, section.columns as usize);
        }
        blob.section(section, bytes);
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
pub fn memory(model: &Model<'_>, tokens: usize) -> Vec<u8> {
    let config = &model.manifest().config;
    let tokens = tokens.clamp(1, usize::from(config.max_position_embeddings));
    vec![0; Pipeline::bytes(config, tokens)]
}
