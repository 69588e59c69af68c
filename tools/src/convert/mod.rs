//! From a Hugging Face checkpoint to a blob, one step a file.

pub mod checkpoint;
