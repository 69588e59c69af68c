//! Arguments of the `mbert` program, one struct a command.

pub mod boards;
pub mod device;
pub mod questions;
pub mod target;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mbert_runtime::encoder::threads::Threads;
use mbert_runtime::kernels::Kernels;

use self::boards::{BoardsArgs, FlashArgs, PlanArgs, SdImageArgs};
use self::device::DeviceArgs;
use self::questions::{LineArgs, MaskArgs, PairArgs, Pool};
use self::target::Target;
use crate::convert::checkpoint::{Checkpoint, Files};
use crate::convert::progress_bar;
use crate::model_file::{self, ModelFile, ModelName, Verification};

/// Multilingual BERT in integers: convert, inspect, run and compare models.
#[derive(Debug, Parser)]
#[command(name = "mbert", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert a Hugging Face checkpoint to one flat int8 file.
    Convert(ConvertArgs),
    /// Show what a model file holds, verify every hash, and tell the RAM that sequences need.
    Inspect(InspectArgs),
    /// Fill in the `[MASK]` of a text.
    FillMask(FillMaskArgs),
    /// Write hidden states (and logits, for given ids) to a safetensors file.
    Features(FeaturesArgs),
    /// Tell whether the second text follows the first.
    NextSentence(NextSentenceArgs),
    /// Tokenize lines from standard input.
    Tokenize(TokenizeArgs),
    /// Fill in and judge sentences in many languages.
    Demo(DemoArgs),
    /// Ask a board over its serial line, or give it another model.
    Device(DeviceArgs),
    /// Write the image of an SD card that holds a model, for a board that reads it from there.
    SdImage(SdImageArgs),
    /// Write a model to a board's flash, if it can run there.
    Flash(FlashArgs),
    /// Compare a model with its float checkpoint on the same inputs.
    Compare(CompareArgs),
    /// Measure how well a model predicts text, beside its float checkpoint.
    Eval(EvalArgs),
    /// Tell whether a model fits a board, what it leaves there, and what an answer takes.
    Plan(PlanArgs),
    /// List the boards, and which of them a model fits.
    Boards(BoardsArgs),
    /// Measure how long a model takes on this machine, beside what the machine can do.
    Bench(BenchArgs),
    /// Make a key that models are signed with, and its public half for the firmware.
    Keygen(KeygenArgs),
    /// Sign a model, for devices that take signed ones only.
    Sign(SignArgs),
}

/// A model and how it is run.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model file, as `mbert convert` writes it, or a built-in model: small (the default) or tiny.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<ModelName>,
    /// Use the kernels of this name instead of the best this CPU can run (avx512vnni, avx2, scalar). The answer is the same.
    #[arg(long, value_name = "NAME")]
    pub kernels: Option<String>,
}

impl ModelArgs {
    /// The model, ready for the kernels that it is to be run with.
    ///
    /// # Errors
    ///
    /// If there are no such kernels, or the model cannot be read.
    pub fn open(&self) -> Result<(ModelFile, &'static Kernels)> {
        let kernels = model_file::kernels(self.kernels.as_deref())?;
        let name = self.model.clone().unwrap_or_default();
        Ok((ModelFile::named(&name, kernels.weight_layout)?.for_kernels(kernels)?, kernels))
    }

    /// The same for a command that says one thing in the end: the file may still be at its verification.
    ///
    /// # Errors
    ///
    /// If there are no such kernels, or the model cannot be read.
    pub fn open_verifying(&self) -> Result<(ModelFile, Verification, &'static Kernels)> {
        let kernels = model_file::kernels(self.kernels.as_deref())?;
        let (file, verification) =
            ModelFile::verifying(&self.model.clone().unwrap_or_default(), kernels.weight_layout)?;
        Ok((file.for_kernels(kernels)?, verification, kernels))
    }

    /// The model; where none is named, the checkpoint converted in memory.
    ///
    /// # Errors
    ///
    /// If there are no such kernels, or the model cannot be read or converted.
    pub fn open_or_convert(&self, checkpoint: &Checkpoint) -> Result<(ModelFile, &'static Kernels)> {
        if self.model.is_some() {
            return self.open();
        }
        let kernels = model_file::kernels(self.kernels.as_deref())?;
        let progress = progress_bar();
        let file = ModelFile::from_checkpoint(checkpoint, kernels.weight_layout, &progress);
        Ok((file.inspect_err(|_| progress.finish_and_clear())?, kernels))
    }
}

/// A model, and how many threads run a sequence.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
    /// Run each sequence on so many threads. The answer is the same.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, value_parser = up_to::<256>)]
    pub threads: NonZeroUsize,
}

impl RunArgs {
    /// The threads.
    pub fn threads(&self) -> Threads {
        Threads::new(self.threads)
    }
}

/// `mbert convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Directory with config.json, vocab.txt or tokenizer.json, and model.safetensors; or a built-in model: small or tiny.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: Files,
    /// File to write.
    #[arg(short, long, value_name = "MODEL.mbert")]
    pub output: PathBuf,
    /// Calibrate on the lines of this UTF-8 text instead of the built-in one.
    #[arg(long, value_name = "TEXT.txt", conflicts_with = "calibrate_ids")]
    pub calibrate: Option<PathBuf>,
    /// Calibrate on token ids: `N.input_ids` and `N.token_type_ids` of a safetensors file.
    #[arg(long, value_name = "IDS.safetensors")]
    pub calibrate_ids: Option<PathBuf>,
    /// Pack the weights for this CPU.
    #[arg(long, value_enum, default_value_t)]
    pub target: Target,
    /// Begin every section on a multiple of this many bytes: the block size of a device that is read in blocks, 512 for an SD card.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = alignment)]
    pub align: usize,
    /// Counter against roll-back: a device may refuse a model with a lower one.
    #[arg(long, default_value_t = 0)]
    pub rollback_counter: u32,
}

/// `mbert inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Model file, or a built-in model: small (the default) or tiny.
    #[arg(value_name = "MODEL")]
    pub model: Option<ModelName>,
    /// Refuse a model that is not signed with the private half of this key.
    #[arg(long, value_name = "KEY.pub")]
    pub public_key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mbert fill-mask`.
#[derive(Debug, Args)]
pub struct FillMaskArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    /// Answers for each mask.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Choose among these tokens only, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub targets: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mask: MaskArgs,
}

/// Which hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layers {
    /// Embeddings and every layer.
    All,
    /// The last layer.
    #[default]
    Last,
}

/// `mbert features`.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    /// Pool the tokens of each text into one vector.
    #[arg(long, value_enum, default_value_t)]
    pub pool: Pool,
    /// Which hidden states to write.
    #[arg(long, value_enum, default_value_t)]
    pub layers: Layers,
    /// Read `N.input_ids` and `N.token_type_ids` from this file, and write logits too.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "text")]
    pub ids: Option<PathBuf>,
    /// Texts, each one sequence.
    #[arg(required_unless_present = "ids")]
    pub text: Vec<String>,
    /// File to write: `N.hidden.L`, L = 0 for the embeddings.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Print the SHA-256 over hidden states and logits that every target must agree on, one line per sequence.
    #[arg(long)]
    pub trace_hash: bool,
}

/// `mbert next-sentence`.
#[derive(Debug, Args)]
pub struct NextSentenceArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pair: PairArgs,
}

/// `mbert tokenize`.
#[derive(Debug, Args)]
pub struct TokenizeArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub line: LineArgs,
}

/// `mbert compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
    /// The checkpoint that the model was converted from: a directory, or small or tiny. Without a model, it is converted in memory.
    #[arg(long, value_name = "CHECKPOINT")]
    pub checkpoint: Files,
    /// Compare on the lines of this UTF-8 text.
    #[arg(long, value_name = "FILE", required_unless_present = "ids")]
    pub text: Option<PathBuf>,
    /// Compare on `N.input_ids` and `N.token_type_ids` of this safetensors file.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "text")]
    pub ids: Option<PathBuf>,
    /// Exit with 1 if the mean cosine of the last hidden states is lower.
    #[arg(long, value_name = "COSINE", value_parser = finite)]
    pub min_cosine: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mbert demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvalTask {
    /// Masked tokens: of each line 15 %, of which 80 % become mask tokens, 10 % another token, and 10 % stay.
    Mlm,
    /// Whether a line follows another: half of the pairs do, half are from two documents, which blank lines separate.
    NextSentence,
}

/// `mbert eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What is predicted.
    #[arg(value_enum)]
    pub task: EvalTask,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
    /// UTF-8 text, one sentence a line; a row of the table for each file.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Measure this float checkpoint too: a directory, or small or tiny. Without a model, it is converted in memory.
    #[arg(long, value_name = "CHECKPOINT")]
    pub checkpoint: Option<Files>,
    /// What is masked or paired; the same seed chooses the same whatever the model.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON: a list with one object for each file.
    #[arg(long)]
    pub json: bool,
}

/// `mbert bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    /// Lengths to measure, separated by commas: 16, 64, 128 and 512 where none is given.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = count)]
    pub tokens: Vec<usize>,
    /// Run so many sequences together.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, value_parser = up_to::<1024>)]
    pub batch: NonZeroUsize,
    /// Tell where the time goes, stage by stage.
    #[arg(long, conflicts_with = "batch")]
    pub profile: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mbert keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File to write the private key to; the public key goes to the same name with .pub behind it.
    #[arg(short, long, value_name = "KEY")]
    pub output: PathBuf,
}

/// `mbert sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// Model file, or a built-in model: small or tiny.
    #[arg(value_name = "MODEL")]
    pub model: ModelName,
    /// Private key, as `mbert keygen` writes it.
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
    /// File to write, instead of the model's own.
    #[arg(short, long, value_name = "SIGNED.mbert")]
    pub output: Option<PathBuf>,
}

/// One or more.
fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "not a number from 1 on".to_owned())
}

/// From one to a number that no machine has too little memory for.
fn up_to<const MOST: usize>(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|count: &NonZeroUsize| count.get() <= MOST)
        .ok_or_else(|| format!("not a number from 1 to {MOST}"))
}

/// A limit that can be missed: no comparison with what is no number holds.
fn finite(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| "not a number".to_owned())
}

/// A power of two of at least 64.
fn alignment(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 64..=1_048_576) if usize::is_power_of_two(bytes) => Ok(bytes),
        _ => Err("not a power of two from 64 to 1048576".to_owned()),
    }
}
