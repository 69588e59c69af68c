//! `mbert boards`, and what is known of each board: `firmware/boards.toml`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use mbert_runtime::format::layout::WeightLayout;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::cli::boards::BoardsArgs;
use crate::flash::Way;
use crate::inspect::grouped;
use crate::plan::Subject;
use crate::plan::fit::{Fit, Request, fit};
use crate::plan::work::Unit;

/// The facts, as they were when the program was built.
const BOARDS: &str = include_str!("../../firmware/boards.toml");

/// All boards and their cores.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boards {
    /// By name.
    pub core: BTreeMap<String, Core>,
    /// In the order of the file.
    pub board: Vec<Board>,
}

/// A core, with what the program takes on it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// As its maker writes it.
    pub title: String,
    /// The packing that its kernels read, beside row-major weights.
    #[serde(default, deserialize_with = "layout")]
    pub layout: WeightLayout,
    /// What times are told by: 1 where nobody has timed a board.
    pub cycles_per_instruction: f64,
    /// Measured on a board, whose firmware stands for every other of this core.
    pub measured: Measured,
}

impl Core {
    /// Whether its kernels read weights in this layout.
    pub fn reads(&self, layout: WeightLayout) -> bool {
        layout == WeightLayout::RowMajor || layout == self.layout
    }
}

/// A layout by its name.
fn layout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WeightLayout, D::Error> {
    let name = String::deserialize(deserializer)?;
    let named = WeightLayout::ALL.into_iter().find(|layout| layout.name() == name);
    named.ok_or_else(|| D::Error::custom(format!("no layout is named {name}")))
}

/// What was measured on a board.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The board.
    pub on: String,
    /// The program's memory.
    pub footprint: Footprint,
    /// Instructions for one of each unit.
    pub rates: BTreeMap<Unit, f64>,
}

/// What the program takes of a board's memory.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footprint {
    /// Machine code and constants.
    pub code_bytes: u64,
    /// The deepest stack.
    pub stack_bytes: u64,
    /// Variables beside the workspace and a model's cache.
    pub static_bytes: u64,
}

/// A board.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What stands on the box.
    pub name: String,
    /// A key of [`Boards::core`].
    pub core: String,
    /// Rust's name of the target.
    pub target: String,
    /// How far it has got.
    pub status: Status,
    /// Its clock; QEMU's `virt` has none.
    pub clock_hz: Option<u64>,
    /// Flash that the program lies in; none where it is loaded into RAM.
    pub flash_bytes: Option<u64>,
    /// RAM for program data, and for the program where it runs from there.
    pub ram_bytes: u64,
    /// Whether the program is copied or loaded into RAM.
    #[serde(default)]
    pub runs_from_ram: bool,
    /// Where the model lies.
    pub model: ModelPlace,
    /// How it gets there.
    pub flash: Option<Way>,
    /// What the program takes here, where it is not what it takes on other boards of this core.
    pub footprint: Option<Footprint>,
}

impl Board {
    /// What the program takes here.
    pub fn footprint(&self, core: &Core) -> Footprint {
        self.footprint.unwrap_or(core.measured.footprint)
    }
}

/// How far a board has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Its firmware runs in QEMU.
    Qemu,
    /// Its firmware is built, and nobody has run it.
    Built,
    /// The figures are those of data sheets.
    NotBuilt,
}

impl Status {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Qemu => "runs in QEMU",
            Self::Built => "built, not run",
            Self::NotBuilt => "not built here",
        }
    }
}

/// Where a model lies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlace {
    /// For people.
    pub place: String,
    /// Room for the model; where absent, what the program leaves of its flash.
    pub bytes: Option<u64>,
    /// How fast it is read; as fast as the core computes where absent.
    pub bytes_per_second: Option<u64>,
    /// Memory-mapped: the cache between it and the core. A tile of weights that does not fit is read anew for each row.
    #[serde(default)]
    pub cache_bytes: u64,
    /// Where it is read in blocks.
    pub stream: Option<Stream>,
}

/// A model that is read in blocks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Blocks of its cache, in RAM.
    pub blocks: u64,
    /// Whether the next blocks are fetched while the core computes.
    pub prefetch: bool,
}

impl Stream {
    /// The cache.
    pub fn cache_bytes(&self) -> u64 {
        self.block_bytes * self.blocks
    }

    /// What can be seen of the model at once.
    pub fn window_bytes(&self) -> usize {
        self.block_bytes.saturating_mul(self.blocks.saturating_sub(1)) as usize
    }
}

impl ModelPlace {
    /// The storage's window.
    pub fn window_bytes(&self) -> usize {
        self.stream.map_or(usize::MAX, |stream| stream.window_bytes())
    }
}

impl Boards {
    /// Those that the program knows.
    ///
    /// # Errors
    ///
    /// None, unless the program was built with a file that is none.
    pub fn known() -> Result<Self> {
        toml::from_str(BOARDS).context("firmware/boards.toml is malformed: a bug")
    }

    /// A board and its core.
    ///
    /// # Errors
    ///
    /// If there is no board of that name.
    pub fn find(&self, name: &str) -> Result<(&Board, &Core)> {
        let board = self.board.iter().find(|board| board.name == name).with_context(|| {
            let names: Vec<_> = self.board.iter().map(|board| board.name.as_str()).collect();
            format!("no board is named {name}; there are {}. Add yours to firmware/boards.toml", names.join(", "))
        })?;
        Ok((board, self.core_of(board)?))
    }

    fn core_of(&self, board: &Board) -> Result<&Core> {
        self.core.get(&board.core).with_context(|| format!("firmware/boards.toml has no core {}: a bug", board.core))
    }
}

/// Runs the command.
///
/// # Errors
///
/// If the model cannot be read.
pub fn run(args: &BoardsArgs, out: &mut impl Write) -> Result<ExitCode> {
    let boards = Boards::known()?;
    let subject = Subject::read(args.model.clone().unwrap_or_default())?;
    let mut rows = Vec::new();
    for board in &boards.board {
        let core = boards.core_of(board)?;
        rows.push((board, core, fit(&subject, board, core, Request::default())));
    }
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|(board, core, fit)| to_json(board, core, fit)).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<27} {:<11} {:>5} {:>11} {:>14}  {:<16} {:<15} {}, {} bytes",
        "board",
        "core",
        "MHz",
        "RAM",
        "for a model",
        "which lies in",
        "",
        subject.name,
        grouped(subject.bytes)
    )?;
    for (board, core, fit) in rows {
        let verdict = match fit {
            Ok(fit) => format!("up to {} tokens", fit.longest.tokens),
            Err(misfit) => format!("does not fit: {}", misfit.what()),
        };
        writeln!(
            out,
            "{:<27} {:<11} {:>5} {:>11} {:>14}  {:<16} {:<15} {verdict}",
            board.name,
            core.title,
            board.clock_hz.map_or_else(|| "–".to_owned(), |hz| (hz / 1_000_000).to_string()),
            grouped(board.ram_bytes),
            grouped(room(board, core)),
            board.model.place,
            board.status.title(),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Room for a model.
pub fn room(board: &Board, core: &Core) -> u64 {
    let beside_program = board.flash_bytes.unwrap_or(0).saturating_sub(board.footprint(core).code_bytes);
    board.model.bytes.unwrap_or(beside_program)
}

fn to_json(board: &Board, core: &Core, fit: &Result<Fit, crate::plan::fit::Misfit>) -> Value {
    json!({
        "name": board.name,
        "core": board.core,
        "target": board.target,
        "status": board.status,
        "clock_hz": board.clock_hz,
        "flash_bytes": board.flash_bytes,
        "ram_bytes": board.ram_bytes,
        "model_place": board.model.place,
        "model_room_bytes": room(board, core),
        "fits": fit.is_ok(),
        "longest_tokens": fit.as_ref().ok().map(|fit| fit.longest.tokens),
        "misfit": fit.as_ref().err().map(ToString::to_string),
    })
}
