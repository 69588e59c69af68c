//! Converts, inspects, runs and compares multilingual BERT models.

pub mod cli;
pub mod built_in;
pub mod convert;
pub mod inspect;
pub mod fill_mask;
pub mod features;
pub mod next_sentence;
pub mod tokenize;
pub mod demo;
pub mod sd_image;
pub mod device;
pub mod sign;
pub mod compare;
pub mod eval;
pub mod plan;
pub mod boards;
pub mod bench;
pub mod flash;
pub mod reference;
pub mod hidden_states;
pub mod text;
pub mod golden;
pub mod model_file;
pub mod bytes;
pub mod atomic_file;
