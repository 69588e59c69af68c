//! Converts, inspects, runs and compares multilingual BERT models.

pub mod convert;
pub mod reference;
pub mod golden;
pub mod atomic_file;
