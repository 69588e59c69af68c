//! Arguments that a command on this machine shares with its namesake of `mbert device`.

use clap::{Args, ValueEnum};

/// How the lines of standard input are shown.
#[derive(Debug, Args)]
pub struct LineArgs {
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Run each line through the encoder, and print the SHA-256 over its hidden states.
    #[arg(long)]
    pub trace_hash: bool,
}

/// A text with masks, and how their answers are shown.
#[derive(Debug, Args)]
pub struct MaskArgs {
    /// Show sequences with `[CLS]` and `[SEP]`.
    #[arg(long)]
    pub special_tokens: bool,
    /// Print JSON, as the Hugging Face pipeline returns it.
    #[arg(long)]
    pub json: bool,
    /// Print the SHA-256 over hidden states and logits that every target must agree on.
    #[arg(long)]
    pub trace_hash: bool,
    /// Text with one or more `[MASK]`.
    pub text: String,
}

/// Two texts, and how the answer is shown.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// First text.
    pub text: String,
    /// Second text.
    pub pair: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print the SHA-256 over hidden states and logits that every target must agree on.
    #[arg(long)]
    pub trace_hash: bool,
}

/// How hidden states become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Pool {
    /// All tokens.
    #[default]
    None,
    /// The first token.
    Cls,
    /// Mean over the tokens.
    Mean,
    /// The model's pooler (the first token through a linear layer and tanh).
    Pooler,
}
