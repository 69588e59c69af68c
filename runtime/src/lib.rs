//! Multilingual BERT in integers only, without an operating system, without a heap, with the same bits on every CPU.
#![no_std]
#![deny(unsafe_code)]

pub mod pipeline;
pub mod tokenizer;
pub mod format;
pub mod model;
pub mod encoder;
pub mod heads;
pub mod ops;
pub mod kernels;
pub mod trace;
pub mod config;
pub mod error;
