//! Maps the safetensors files into memory and finds tensors in them by canonical name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::json::read_json_if_present;
use super::module::{Module, canonical_name};
use super::tensor::{Element, Tensor};

/// The tensors of a checkpoint, left in their files until they are read.
pub struct Weights {
    files: Vec<MappedFile>,
    /// By the name in the file.
    tensors: BTreeMap<String, Entry>,
    /// From canonical name to the name in the file.
    canonical: BTreeMap<String, String>,
}

struct MappedFile {
    path: PathBuf,
    map: Mmap,
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
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// If there is neither, a file is cut or malformed, a tensor that the index names is missing, or two tensors are one.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), tensors: BTreeMap::new(), canonical: BTreeMap::new() };
        let whole = dir.join("model.safetensors");
        let index_path = dir.join("model.safetensors.index.json");
        if whole.exists() {
            weights.map(whole)?;
        } else if let Some(index) = read_json_if_present::<ShardIndex>(&index_path)? {
            weights.map_shards(dir, &index_path, &index)?;
        } else if ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| dir.join(name).exists()) {
            bail!(
                "{} has its weights in pytorch_model.bin only, a pickle that is not read here; convert it once, in Python: \
                 transformers.AutoModelForPreTraining.from_pretrained({:?}).save_pretrained(OUT, safe_serialization=True)",
                dir.display(),
                dir.display(),
            );
        } else {
            bail!("{} has neither model.safetensors nor model.safetensors.index.json", dir.display());
        }
        weights.index_canonical_names()?;
        Ok(weights)
    }

    /// The files that the tensors lie in.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
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
            let files: Vec<String> = self.paths().map(|path| path.display().to_string()).collect();
            format!("the tensor {name} is missing from {}", files.join(", "))
        })?;
        let file = &self.files[entry.file];
        let element = match entry.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => bail!("the tensor {found} in {} is {other}; supported are F32, F16, BF16", file.path.display()),
        };
        let bytes = &file.map[entry.offset_bytes..][..entry.len_bytes];
        Ok(Tensor { name: found, path: &file.path, element, shape: &entry.shape, bytes })
    }

    fn map_shards(&mut self, dir: &Path, index_path: &Path, index: &ShardIndex) -> Result<()> {
        let malformed = || format!("{} is malformed", index_path.display());
        for shard in BTreeSet::from_iter(index.weight_map.values()) {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
            ensure!(plain, "{}: the shard {shard:?} is not the name of a file beside it", malformed());
            self.map(dir.join(shard))?;
        }
        for (name, shard) in &index.weight_map {
            let entry = self.tensors.get(name);
            let found = entry.map(|entry| &self.files[entry.file].path);
            ensure!(
                found == Some(&dir.join(shard)),
                "{}: it says that {shard} holds the tensor {name}, but it does not",
                malformed()
            );
        }
        Ok(())
    }

    fn map(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the map is only read, and as bytes, for which every value is valid. Should another program cut the file
        // meanwhile, the system ends this process; nothing is written through the map.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {} into memory", path.display()))?;
        let parsed = SafeTensors::deserialize(&map).with_context(|| {
            format!("{} is not a whole safetensors file ({} bytes); download it again", path.display(), map.len())
        })?;
        for (name, view) in parsed.iter() {
            let entry = Entry {
                file: self.files.len(),
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                offset_bytes: view.data().as_ptr().addr() - map.as_ptr().addr(),
                len_bytes: view.data().len(),
            };
            if let Some(other) = self.tensors.insert(name.to_owned(), entry) {
                let other = self.files[other.file].path.display();
                bail!("the tensor {name} is both in {other} and in {}", path.display());
            }
        }
        self.files.push(MappedFile { path, map });
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
