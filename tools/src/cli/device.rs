//! Arguments of `mbert device`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::questions::{LineArgs, MaskArgs, PairArgs, Pool};
use crate::model_file::ModelName;

/// Seconds of the longest wait.
const DAY: u64 = 24 * 60 * 60;

/// `mbert device`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Serial device of the board, such as /dev/ttyACM0, or tcp:HOST:PORT.
    #[arg(long, value_name = "PORT")]
    pub port: String,
    /// Bits a second of a serial device.
    #[arg(long, value_name = "BAUD", default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(1..))]
    pub baud: u32,
    /// Give the board up after so many seconds without a word from it.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=DAY))]
    pub timeout: u64,
    /// Let the board stop the work on an answer that takes longer.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=DAY))]
    pub cancel_after: Option<u64>,
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// The commands of `mbert device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Tell who is there: board, firmware, kernels, model, limits.
    Info {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tokenize lines from standard input.
    Tokenize(LineArgs),
    /// Fill in the `[MASK]` of a text.
    FillMask(DeviceFillMaskArgs),
    /// Tell whether the second text follows the first.
    NextSentence(PairArgs),
    /// Write hidden states to a safetensors file.
    Features(DeviceFeaturesArgs),
    /// Tell what a sequence takes on the board.
    Bench {
        /// Its length, special tokens included.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
        tokens: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare the board's kernels with the scalar ones, and its answers with those that its model carries.
    SelfTest {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace the board's model; a broken upload goes on where it stopped.
    Upload {
        /// Model file, or a built-in model: small or tiny.
        #[arg(value_name = "MODEL")]
        model: ModelName,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `mbert device fill-mask`.
#[derive(Debug, Args)]
pub struct DeviceFillMaskArgs {
    /// Answers for each mask.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    pub top_k: u8,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mask: MaskArgs,
}

/// `mbert device features`.
#[derive(Debug, Args)]
pub struct DeviceFeaturesArgs {
    /// Pool the tokens of each text into one vector.
    #[arg(long, value_enum, default_value_t)]
    pub pool: Pool,
    /// Texts, each one sequence.
    #[arg(required = true)]
    pub text: Vec<String>,
    /// File to write: `N.hidden.L` of the last layer.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Print the SHA-256 over hidden states that every target must agree on, one line per sequence.
    #[arg(long)]
    pub trace_hash: bool,
}
