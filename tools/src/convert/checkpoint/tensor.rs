//! One tensor of a checkpoint, decoded to float32 row by row.

use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Values handled at a time: small enough for a buffer on the stack, large enough for vector instructions.
const CHUNK: usize = 256;

/// How a value is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Element {
    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A tensor that still lies in its file. Values are row-major; a row is one index of the first dimension.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) element: Element,
    pub(super) shape: &'a [usize],
    pub(super) bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Its name in the file.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The file that it lies in.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// How its values are stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Its dimensions.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number of rows: the first dimension, or 1 of a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values of one row.
    pub fn row_len(&self) -> usize {
        self.len() / self.rows().max(1)
    }

    /// Decodes one row.
    ///
    /// # Panics
    ///
    /// If there is no such row, or `out` is not one row long.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.row_len(), "the row length of {}", self.name);
        self.decode(index * out.len(), out);
    }

    /// Decodes all values.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.decode(0, &mut values);
        values
    }

    /// Whether both have the same shape and decode to the same values.
    pub(super) fn same_values(&self, other: &Self) -> bool {
        if self.shape != other.shape {
            return false;
        }
        if self.element == other.element && self.bytes == other.bytes {
            return true;
        }
        let (mut ours, mut theirs) = ([0.0; CHUNK], [0.0; CHUNK]);
        (0..self.len()).step_by(CHUNK).all(|first| {
            let count = CHUNK.min(self.len() - first);
            self.decode(first, &mut ours[..count]);
            other.decode(first, &mut theirs[..count]);
            ours[..count] == theirs[..count]
        })
    }

    /// Index of the first value that is NaN or infinite.
    pub(super) fn first_not_finite(&self) -> Option<usize> {
        match self.element {
            Element::F32 => first_that(self.bytes, |value| !f32::from_le_bytes(value).is_finite()),
            Element::F16 => first_that(self.bytes, |value| !f16::from_le_bytes(value).is_finite()),
            Element::Bf16 => first_that(self.bytes, |value| !bf16::from_le_bytes(value).is_finite()),
        }
    }

    /// Decodes `out.len()` values from value number `first` on.
    fn decode(&self, first: usize, out: &mut [f32]) {
        let bytes = &self.bytes[first * self.element.bytes()..][..out.len() * self.element.bytes()];
        match self.element {
            Element::F32 => {
                for (value, &four) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(four);
                }
            }
            Element::F16 => {
                let mut halves = [f16::ZERO; CHUNK];
                for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.chunks(CHUNK * 2)) {
                    let halves = &mut halves[..out.len()];
                    for (half, &two) in halves.iter_mut().zip(bytes.as_chunks().0) {
                        *half = f16::from_le_bytes(two);
                    }
                    halves.convert_to_f32_slice(out);
                }
            }
            Element::Bf16 => {
                for (value, &two) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *value = bf16::from_le_bytes(two).to_f32();
                }
            }
        }
    }
}

/// Index of the first value for which `bad` holds. Whole chunks are judged without a branch on each value.
fn first_that<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    let (values, _) = bytes.as_chunks::<N>();
    let (number, chunk) =
        values.chunks(CHUNK).enumerate().find(|(_, chunk)| chunk.iter().fold(false, |any, &value| any | bad(value)))?;
    let within = chunk.iter().position(|&value| bad(value))?;
    Some(number * CHUNK + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<'a>(element: Element, shape: &'a [usize], bytes: &'a [u8]) -> Tensor<'a> {
        Tensor { name: "test", path: Path::new("test"), element, shape, bytes }
    }

    #[test]
    fn every_element_decodes_to_the_same_values_row_by_row() {
        let values: Vec<f32> = (0..600).map(|index| (index as f32 - 300.0) * 0.25).collect();
        let f32s: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let bf16s: Vec<u8> = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        let reference = tensor(Element::F32, &[2, 300], &f32s);
        for (element, bytes) in [(Element::F32, &f32s), (Element::F16, &f16s), (Element::Bf16, &bf16s)] {
            let tensor = tensor(element, &[2, 300], bytes);
            // Of the 600 values, bfloat16 holds those with at most eight significant bits.
            if element != Element::Bf16 {
                assert_eq!(tensor.to_vec(), values);
                assert!(tensor.same_values(&reference));
            }
            let mut row = vec![0.0; 300];
            tensor.row(1, &mut row);
            assert_eq!(row, tensor.to_vec()[300..]);
            assert_eq!((row[0], row[4]), (0.0, 1.0));
        }
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        for (element, nan) in [
            (Element::F32, f32::NAN.to_le_bytes().to_vec()),
            (Element::F16, f16::NEG_INFINITY.to_le_bytes().to_vec()),
            (Element::Bf16, bf16::NAN.to_le_bytes().to_vec()),
        ] {
            let mut bytes = vec![0; 1000 * element.bytes()];
            assert_eq!(tensor(element, &[1000], &bytes).first_not_finite(), None);
            for index in [777, 999] {
                bytes[index * element.bytes()..][..element.bytes()].copy_from_slice(&nan);
            }
            assert_eq!(tensor(element, &[1000], &bytes).first_not_finite(), Some(777));
        }
    }
}
