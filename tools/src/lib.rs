//! Converts, inspects, runs and compares multilingual BERT models.

pub mod convert;
pub mod golden;
pub mod model_file;
pub mod output;
pub mod cli;
