//! Arguments of the commands that plan for boards and write to them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::count;
use crate::model_file::ModelName;

/// `mbert sd-image`.
#[derive(Debug, Args)]
pub struct SdImageArgs {
    /// Model file, or a built-in model: small or tiny.
    #[arg(value_name = "MODEL")]
    pub model: ModelName,
    /// File to write; its size is a power of two.
    #[arg(short, long, value_name = "CARD.img")]
    pub output: PathBuf,
}

/// `mbert flash`.
#[derive(Debug, Args)]
pub struct FlashArgs {
    /// Model file, or a built-in model: small (the default) or tiny.
    #[arg(value_name = "MODEL")]
    pub model: Option<ModelName>,
    /// The board: `mbert boards` lists them.
    #[arg(long, value_name = "NAME")]
    pub board: String,
    /// File to write, for boards in QEMU and those that take UF2 files; for the latter also the folder of the drive that they show.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Serial port, for boards that are written to through one.
    #[arg(long, value_name = "PORT")]
    pub port: Option<OsString>,
}

/// `mbert plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Model file, built-in model (small, the default, or tiny), directory of a checkpoint with or without weights, or its config.json alone.
    #[arg(value_name = "MODEL")]
    pub model: Option<ModelName>,
    /// The board: `mbert boards` lists them.
    #[arg(long, value_name = "NAME")]
    pub board: String,
    /// Length of the sequence, `[CLS]` and `[SEP]` included; the longest that fits where it is not given.
    #[arg(long, value_name = "N", value_parser = count)]
    pub tokens: Option<usize>,
    /// Masks to be filled in.
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = count)]
    pub masks: usize,
    /// RAM, instead of the board's: what your own program leaves.
    #[arg(long, value_name = "BYTES")]
    pub ram: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mbert boards`.
#[derive(Debug, Args)]
pub struct BoardsArgs {
    /// The model that is to fit, as `mbert plan` takes it: small where none is named.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<ModelName>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
