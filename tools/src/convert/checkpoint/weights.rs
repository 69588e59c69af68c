//! Opens the safetensors files and finds tensors in them by canonical name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::files::Files;
use super::module::{Module, canonical_name};
use super::tensor::{Element, Tensor};
use crate::bytes::Bytes;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a checkpoint, left in their files until they are read.
pub struct Weights {
    files: Vec<OpenFile>,
    /// By the name in the file.
    tensors: BTreeMap<String, Entry>,
    /// From canonical name to the name in the file.
    canonical: BTreeMap<String, String>,
}

struct OpenFile {
    name: String,
    path: PathBuf,
    bytes: Bytes,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset_bytes: usize,
    len_bytes: usize,
}

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// If there is neither, a file is cut or malformed, a tensor that the index names is missing, or two tensors are one.
    pub fn open(files: &Files) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), tensors: BTreeMap::new(), canonical: BTreeMap::new() };
        let dir = files.directory();
        if files.has(WHOLE) {
            weights.open_file(files, WHOLE)?;
        } else if let Some(index) = files.json::<ShardIndex>(INDEX)? {
            weights.open_shards(files, &index)?;
        } else if ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| files.has(name)) {
            bail!(
                "{} has its weights in pytorch_model.bin only, a pickle that is not read here; convert it once, in Python: \
                 transformers.AutoModelForPreTraining.from_pretrained({:?}).save_pretrained(OUT, safe_serialization=True)",
                dir.display(),
                dir.display(),
            );
        } else {
            bail!("{} has neither {WHOLE} nor {INDEX}", dir.display());
        }
        weights.index_canonical_names()?;
        Ok(weights)
    }

    /// Names of the files that the tensors lie in.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Names as they are in the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor has a canonical name that starts so.
    pub fn has(&self, prefix: &str) -> bool {
        self.canonical.keys().any(|name| name.starts_with(prefix))
    }

    /// The tensor of a canonical name, or of a name as it is in the file.
    ///
    /// # Errors
    ///
    /// If there is none, or it does not hold floats.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        let found = self.canonical.get(name).map_or(name, String::as_str);
        let (found, entry) = self.tensors.get_key_value(found).with_context(|| {
            let files: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
            format!("the tensor {name} is missing from {}", files.join(", "))
        })?;
        let file = &self.files[entry.file];
        let element = match entry.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => bail!("the tensor {found} in {} is {other}; supported are F32, F16, BF16", file.path.display()),
        };
        let bytes = &file.bytes[entry.offset_bytes..][..entry.len_bytes];
        Ok(Tensor { name: found, path: &file.path, element, shape: &entry.shape, bytes })
    }

    fn open_shards(&mut self, files: &Files, index: &ShardIndex) -> Result<()> {
        let malformed = || format!("{} is malformed", files.path(INDEX).display());
        for shard in BTreeSet::from_iter(index.weight_map.values()) {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
            ensure!(plain, "{}: the shard {shard:?} is not the name of a file beside it", malformed());
            self.open_file(files, shard)?;
        }
        for (name, shard) in &index.weight_map {
            let entry = self.tensors.get(name);
            let found = entry.map(|entry| &self.files[entry.file].name);
            ensure!(
                found == Some(shard),
                "{}: it says that {shard} holds the tensor {name}, but it does not",
                malformed()
            );
        }
        Ok(())
    }

    fn open_file(&mut self, files: &Files, name: &str) -> Result<()> {
        let path = files.path(name);
        let bytes = files
            .open(name)?
            .with_context(|| format!("cannot open {}: it is absent; download it again", path.display()))?;
        let parsed = SafeTensors::deserialize(&bytes).with_context(|| {
            format!("{} is not a whole safetensors file ({} bytes); download it again", path.display(), bytes.len())
        })?;
        for (name, view) in parsed.iter() {
            let entry = Entry {
                file: self.files.len(),
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                offset_bytes: view.data().as_ptr().addr() - bytes.as_ptr().addr(),
                len_bytes: view.data().len(),
            };
            if let Some(other) = self.tensors.insert(name.to_owned(), entry) {
                let other = self.files[other.file].path.display();
                bail!("the tensor {name} is both in {other} and in {}", path.display());
            }
        }
        self.files.push(OpenFile { name: name.to_owned(), path, bytes });
        Ok(())
    }

    fn index_canonical_names(&mut self) -> Result<()> {
        for found in self.tensors.keys() {
            let name = canonical_name(found);
            let Some(other) = self.canonical.insert(name.clone(), found.clone()) else { continue };
            // transformers writes the bias of the decoder under both its names.
            let twin = name == Module::Decoder.bias() && self.tensor(found)?.same_values(&self.tensor(&other)?);
            ensure!(twin, "the tensors {other} and {found} are both {name}; remove the one that is not meant");
        }
        Ok(())
    }
}
