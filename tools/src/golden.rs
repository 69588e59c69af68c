//! Safetensors files that hold sequences and what a model answers for them.
//!
//! | tensor                        | type        | shape                    |
//! |-------------------------------|-------------|--------------------------|
//! | `N.input_ids`                 | I32 or I64  | `[seq_len]`              |
//! | `N.token_type_ids`            | I32 or I64  | `[seq_len]`; absent: zeros |
//! | `N.hidden.L`                  | F32         | `[seq_len, hidden_size]` |
//! | `N.prediction_logits`         | F32         | `[seq_len, vocab_size]`  |
//! | `N.seq_relationship_logits`   | F32         | `[2]`                    |
//!
//! N numbers the sequences; L is 0 behind the embeddings, then one a layer.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::atomic_file::write_atomically;

/// One sequence, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// N in the names of its tensors.
    pub name: String,
    /// Token ids. Whether the model knows them is for the model to check.
    pub input_ids: Vec<u32>,
    /// Token types, as many.
    pub token_type_ids: Vec<u8>,
}

/// Reads the sequences of a file, ordered by their number. Other tensors in it are ignored.
///
/// # Errors
///
/// If the file cannot be read, holds no sequence, or holds ids that are not such.
pub fn read_ids(path: &Path) -> Result<Vec<Ids>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_ids(&bytes).with_context(|| format!("{} is not a file of token ids", path.display()))
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<Ids>> {
    let file = SafeTensors::deserialize(bytes).context("it is not a whole safetensors file")?;
    let mut sequences = Vec::new();
    for (tensor, view) in file.iter() {
        let Some(name) = tensor.strip_suffix(".input_ids") else { continue };
        let number: u64 = name.parse().ok().with_context(|| format!("{tensor}: {name:?} is not a number"))?;
        let input_ids: Vec<u32> = integers(tensor, &view)?;
        ensure!(!input_ids.is_empty(), "{tensor} is empty");
        let types_name = format!("{name}.token_type_ids");
        let token_type_ids = match file.tensor(&types_name) {
            Ok(view) => integers(&types_name, &view)?,
            Err(_) => vec![0; input_ids.len()],
        };
        ensure!(
            token_type_ids.len() == input_ids.len(),
            "{tensor} has {} ids, but {types_name} has {}",
            input_ids.len(),
            token_type_ids.len()
        );
        sequences.push((number, Ids { name: name.to_owned(), input_ids, token_type_ids }));
    }
    ensure!(!sequences.is_empty(), "it has no tensor named 0.input_ids, 1.input_ids and so on");
    sequences.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(&other.name)));
    Ok(sequences.into_iter().map(|(_, ids)| ids).collect())
}

/// The values of an I32 or I64 tensor `[n]` or `[1, n]`.
fn integers<T: TryFrom<i64>>(name: &str, view: &TensorView<'_>) -> Result<Vec<T>> {
    ensure!(
        matches!(view.shape(), [_] | [1, _]),
        "{name} has shape {:?}; expected is one sequence, [seq_len]",
        view.shape()
    );
    let values: Vec<i64> = match view.dtype() {
        Dtype::I32 => view.data().as_chunks().0.iter().map(|&four| i32::from_le_bytes(four).into()).collect(),
        Dtype::I64 => view.data().as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight)).collect(),
        other => anyhow::bail!("{name} is {other}; supported are I32 and I64"),
    };
    let convert = |(index, &value): (usize, &i64)| {
        T::try_from(value).ok().with_context(|| format!("{name} is {value} at index {index}, which is no id"))
    };
    values.iter().enumerate().map(convert).collect()
}

/// Collects named tensors, then writes them as one safetensors file.
#[derive(Default)]
pub struct OutputFile {
    tensors: BTreeMap<String, OutputTensor>,
}

struct OutputTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl OutputFile {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a float32 tensor; one of the same name is replaced.
    ///
    /// # Panics
    ///
    /// If the shape does not hold that many values.
    pub fn insert_f32(&mut self, name: impl Into<String>, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.insert(name.into(), Dtype::F32, shape, values.len(), bytes);
    }

    /// Adds an int32 tensor; one of the same name is replaced.
    ///
    /// # Panics
    ///
    /// If the shape does not hold that many values.
    pub fn insert_i32(&mut self, name: impl Into<String>, shape: &[usize], values: &[i32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.insert(name.into(), Dtype::I32, shape, values.len(), bytes);
    }

    /// Writes the file; the same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written; see [`write_atomically`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let views: Vec<(&str, TensorView<'_>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                Ok((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?))
            })
            .collect::<Result<_>>()?;
        let bytes = safetensors::serialize(views, None)?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    fn insert(&mut self, name: String, dtype: Dtype, shape: &[usize], count: usize, bytes: Vec<u8>) {
        assert_eq!(shape.iter().product::<usize>(), count, "{name}: values and shape {shape:?}");
        self.tensors.insert(name, OutputTensor { dtype, shape: shape.to_vec(), bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    fn refusal(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> String {
        format!("{:#}", parse_ids(&file(tensors)).unwrap_err())
    }

    #[test]
    fn what_is_written_is_read_in_numeric_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.safetensors");
        let mut output = OutputFile::new();
        for number in [10, 9] {
            output.insert_i32(format!("{number}.input_ids"), &[2], &[number, 3]);
        }
        output.insert_i32("9.token_type_ids", &[2], &[0, 1]);
        output.insert_f32("9.hidden.0", &[2, 1], &[0.5, -0.5]);
        output.write(&path).unwrap();
        let ids = |name: &str, input_ids: [u32; 2], token_type_ids: [u8; 2]| Ids {
            name: name.into(),
            input_ids: input_ids.into(),
            token_type_ids: token_type_ids.into(),
        };
        assert_eq!(read_ids(&path).unwrap(), [ids("9", [9, 3], [0, 1]), ids("10", [10, 3], [0, 0])]);
    }

    #[test]
    fn i64_ids_in_a_batch_of_one_are_read() {
        let bytes: Vec<u8> = [7i64, 8].iter().flat_map(|id| id.to_le_bytes()).collect();
        let ids = parse_ids(&file(&[("0.input_ids", Dtype::I64, &[1, 2], &bytes)])).unwrap();
        assert_eq!(ids[0].input_ids, [7, 8]);
    }

    #[test]
    fn negative_id_is_refused_with_its_place() {
        let error = refusal(&[("0.input_ids", Dtype::I32, &[2], &[1, 0, 0, 0, 255, 255, 255, 255])]);
        assert!(error.contains("0.input_ids is -1 at index 1"), "{error}");
    }

    #[test]
    fn tensors_that_are_no_ids_are_refused() {
        let one = [0; 4];
        for (expected, tensors) in [
            ("F32", &[("0.input_ids", Dtype::F32, &[1][..], &one[..])][..]),
            ("shape [1, 1, 1]", &[("0.input_ids", Dtype::I32, &[1, 1, 1], &one)]),
            ("empty", &[("0.input_ids", Dtype::I32, &[0], &[])]),
            ("not a number", &[("a.input_ids", Dtype::I32, &[1], &one)]),
            ("no tensor named", &[("input_ids", Dtype::I32, &[1], &one)]),
            ("has 2", &[("0.input_ids", Dtype::I32, &[1], &one), ("0.token_type_ids", Dtype::I32, &[2], &[0; 8])]),
            (
                "is 256",
                &[("0.input_ids", Dtype::I32, &[1], &one), ("0.token_type_ids", Dtype::I32, &[1], &[0, 1, 0, 0])],
            ),
        ] {
            let error = refusal(tensors);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn cut_file_is_refused() {
        let whole = file(&[("0.input_ids", Dtype::I32, &[2], &[0; 8])]);
        for len in 0..whole.len() {
            assert!(parse_ids(&whole[..len]).is_err());
        }
    }
}
