//! Multilingual BERT in integers only, without an operating system, without a heap, with the same bits on every CPU.
//!
//! ```no_run
//! # fn main_job(bytes: &[u8], memory: &mut [u8]) -> Result<(), Box<dyn core::error::Error>> {
//! use mbert_runtime::{kernels::Kernels, model::Model, pipeline::{MaskAnswer, Pipeline}};
//!
//! let model = Model::open(bytes)?;
//! let mut pipeline = Pipeline::new(&model, Kernels::native(), memory)?;
//! let mut answers = [MaskAnswer::<5>::default(); 1];
//! let answer = &pipeline.fill_mask("Paris is the [MASK] of France.", &mut answers)?[0];
//! let best: Option<&[u8]> = model.tokenizer().vocab().token(answer.best()[0].id);
//! # Ok(())
//! # }
//! ```
//!
//! `bytes` is the blob that the `mbert` program writes, in flash, in memory or memory-mapped; it is read in place.
//! [`memory_bytes`](pipeline::memory_bytes) tells how much `memory` a sequence needs, and a model is shared between threads,
//! each with a pipeline of its own.
//!
//! # The path from text to answer
//!
//! [`pipeline`] → [`tokenizer`] → [`encoder`] → [`heads`], over the blob of [`format`](mod@format) that a [`model`] has opened. [`ops`] says
//! what is computed, [`kernels`] how the inner loops run on each CPU, [`trace`] watches.
//!
//! # Numbers
//!
//! Weights are int8 with one scale per output channel, activations int8 with one scale per token (and per 256 channels into
//! `output.dense`), the residual stream is int16. All sums are exact; every rounding is one of the two operations in
//! [`ops::fixed_point`]. No float takes part, so a result depends on the model and the text alone: not on the CPU, the build, the
//! number of threads or the memory given. [`trace::TraceHash`] is the number by which that is checked.
#![no_std]
#![deny(unsafe_code)]

pub mod pipeline;
pub mod tokenizer;
pub mod storage;
pub mod format;
pub mod model;
pub mod encoder;
pub mod heads;
pub mod ops;
pub mod kernels;
pub mod trace;
pub mod cost;
pub mod config;
pub mod error;

#[cfg(test)]
mod tests {
    #[test]
    fn a_model_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<crate::model::Model<&[u8]>>();
        shared::<crate::kernels::Kernels>();
    }
}
