//! What follows the encoder: hidden states to answers.

pub mod masked_lm;
pub mod pooler;
pub mod top_k;
