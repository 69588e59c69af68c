//! Whether a model fits a board, and what is left then.

use std::fmt;

use mbert_runtime::config::BertConfig;
use mbert_runtime::format::contents;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::pipeline::{max_tokens, memory_bytes, memory_bytes_in_passes};

use super::Subject;
use crate::boards::{Board, Core, room};
use crate::cli::target::Target;
use crate::inspect::grouped;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Length of the sequence; the longest that fits where it is not given.
    pub tokens: Option<usize>,
    /// RAM, where it is not the board's.
    pub ram_bytes: Option<u64>,
}

/// What flash and RAM hold.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Machine code and constants.
    pub code_bytes: u64,
    /// What is left of the program's flash; `None` where the program is loaded into RAM.
    pub flash_left_bytes: Option<u64>,
    /// Room for a model.
    pub model_room_bytes: u64,
    /// RAM there is.
    pub ram_bytes: u64,
    /// The program, where it runs from RAM.
    pub program_bytes: u64,
    /// Variables, and the cache of a model that is read in blocks.
    pub static_bytes: u64,
    /// The deepest stack.
    pub stack_bytes: u64,
    /// Ids and workspace.
    pub workspace_bytes: u64,
    /// Length of the sequence.
    pub tokens: usize,
    /// Passes over the feed-forward weights.
    pub passes: usize,
    /// The longest sequences.
    pub longest: Longest,
}

/// The longest sequences that a board's RAM and the model allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longest {
    /// In as many passes as it takes.
    pub tokens: usize,
    /// In one pass.
    pub in_one_pass: usize,
}

impl Fit {
    /// RAM that nothing uses.
    pub fn ram_left_bytes(&self) -> u64 {
        self.ram_bytes - self.program_bytes - self.static_bytes - self.stack_bytes - self.workspace_bytes
    }
}

/// Why a model does not fit a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The weights are packed for another CPU.
    Layout {
        /// How.
        found: WeightLayout,
        /// The packing that the core reads.
        read: WeightLayout,
    },
    /// The program is larger than its flash.
    Program {
        /// The program.
        needed_bytes: u64,
        /// The flash.
        given_bytes: u64,
    },
    /// The model is larger than its place.
    Model {
        /// The model.
        needed_bytes: u64,
        /// Its place.
        given_bytes: u64,
        /// What that is.
        place: String,
    },
    /// A piece of the model must lie in the cache at once.
    Window {
        /// Its length.
        needed_bytes: u64,
        /// The window.
        given_bytes: u64,
    },
    /// The model has no positions for so many tokens.
    Positions {
        /// Those asked for.
        tokens: usize,
        /// Those of the model.
        max: usize,
    },
    /// Too little RAM.
    Ram {
        /// Length of the sequence.
        tokens: usize,
        /// What it needs at least, stack and variables included.
        needed_bytes: u64,
        /// What there is.
        given_bytes: u64,
        /// The longest sequence that fits; 0 if none does.
        longest: usize,
    },
}

impl Misfit {
    /// What is missing, without advice.
    pub fn what(&self) -> String {
        let (what, needed, given) = match self {
            Self::Layout { found, .. } => {
                return format!("its weights are packed for another CPU, as {}", found.name());
            }
            Self::Program { needed_bytes, given_bytes } => {
                ("of flash for the program".into(), *needed_bytes, *given_bytes)
            }
            Self::Model { needed_bytes, given_bytes, place } => {
                (format!("of {place} for the model"), *needed_bytes, *given_bytes)
            }
            Self::Window { needed_bytes, given_bytes } => ("of window".into(), *needed_bytes, *given_bytes),
            Self::Positions { tokens, max } => return format!("{tokens} tokens, but the model has {max} positions"),
            Self::Ram { tokens, needed_bytes, given_bytes, .. } => {
                (format!("of RAM for {}", tokens_of(*tokens)), *needed_bytes, *given_bytes)
            }
        };
        format!("needs {} bytes {what}, there are {}", grouped(needed), grouped(given))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self {
            Self::Layout { read, .. } => format!("convert it again with --target {}", Target::of(*read).name),
            Self::Program { .. } => "take another board".to_owned(),
            Self::Model { .. } => "take a smaller model, for example tiny".to_owned(),
            Self::Window { .. } => {
                "give the model's cache more blocks in firmware/boards.toml and in the firmware".to_owned()
            }
            Self::Positions { max, .. } => format!("shorten to {max} tokens"),
            Self::Ram { longest: 0, .. } => "take a smaller model, for example tiny".to_owned(),
            Self::Ram { longest, .. } => format!("shorten to {}", tokens_of(*longest)),
        };
        write!(f, "{}; {advice}", self.what())
    }
}

impl std::error::Error for Misfit {}

/// So many tokens, in words.
fn tokens_of(tokens: usize) -> String {
    if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") }
}

/// Divides a board's memory.
///
/// # Errors
///
/// The first thing that does not fit.
pub fn fit(subject: &Subject, board: &Board, core: &Core, request: Request) -> Result<Fit, Misfit> {
    let (config, footprint) = (&subject.config, board.footprint(core));
    let (code, model_room_bytes) = (footprint.code_bytes, room(board, core));
    if !core.reads(subject.layout) {
        return Err(Misfit::Layout { found: subject.layout, read: core.layout });
    }
    if let Some(given_bytes) = board.flash_bytes.filter(|&flash| flash < code) {
        return Err(Misfit::Program { needed_bytes: code, given_bytes });
    }
    if subject.bytes > model_room_bytes {
        let place = board.model.place.clone();
        return Err(Misfit::Model { needed_bytes: subject.bytes, given_bytes: model_room_bytes, place });
    }
    let (needed, given) = (contents::window_bytes(config), board.model.window_bytes());
    if needed > given {
        return Err(Misfit::Window { needed_bytes: needed as u64, given_bytes: given as u64 });
    }
    // Where model and program share a flash, both are taken from it.
    let in_program_flash = if board.model.bytes.is_none() { subject.bytes } else { 0 };
    let flash_left_bytes = board.flash_bytes.map(|flash| flash - code - in_program_flash);

    let ram_bytes = request.ram_bytes.unwrap_or(board.ram_bytes);
    let program_bytes = if board.runs_from_ram { code } else { 0 };
    let static_bytes = footprint.static_bytes + board.model.stream.map_or(0, |stream| stream.cache_bytes());
    let taken = program_bytes + static_bytes + footprint.stack_bytes;
    let free = ram_bytes.saturating_sub(taken) as usize;
    let longest = Longest { tokens: max_tokens(config, free), in_one_pass: longest_in_one_pass(config, free) };

    let max = usize::from(config.max_position_embeddings);
    let tokens = request.tokens.unwrap_or(longest.tokens.max(1));
    if tokens > max {
        return Err(Misfit::Positions { tokens, max });
    }
    let in_passes = |&passes: &usize| memory_bytes_in_passes(config, tokens, passes);
    let Some(passes) = (1..=tokens).find(|passes| in_passes(passes) <= free) else {
        let needed_bytes = taken + in_passes(&tokens) as u64;
        return Err(Misfit::Ram { tokens, needed_bytes, given_bytes: ram_bytes, longest: longest.tokens });
    };
    Ok(Fit {
        code_bytes: code,
        flash_left_bytes,
        model_room_bytes,
        ram_bytes,
        program_bytes,
        static_bytes,
        stack_bytes: footprint.stack_bytes,
        workspace_bytes: in_passes(&passes) as u64,
        tokens,
        passes,
        longest,
    })
}

fn longest_in_one_pass(config: &BertConfig, bytes: usize) -> usize {
    let max = usize::from(config.max_position_embeddings);
    (1..=max).rev().find(|&tokens| memory_bytes(config, tokens) <= bytes).unwrap_or(0)
}
