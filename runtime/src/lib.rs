//! Multilingual BERT in integers only, without an operating system, without a heap, with the same bits on every CPU.
#![no_std]
#![deny(unsafe_code)]

pub mod config;
pub mod tokenizer;
