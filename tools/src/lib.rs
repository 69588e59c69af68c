//! Converts, inspects, runs and compares multilingual BERT models.

pub mod convert;
