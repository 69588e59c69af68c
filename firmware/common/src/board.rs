//! What a board brings, and the program that runs on it.

use core::fmt::Write;

use defmt::{debug, error, info};
use mbert_runtime::cost::{forward_bytes, masked_lm_bytes, pooler_bytes};
use mbert_runtime::format::header::Header;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes_in_passes};
use mbert_runtime::storage::Storage;
use static_cell::StaticCell;

use crate::answer::{Room, Runner, features, fill_mask, next_sentence};
#[cfg(feature = "kernel-suite")]
use crate::bench::bench;
use crate::command::{Command, command_line};
use crate::counter::InstructionCounter;
#[cfg(feature = "kernel-suite")]
use crate::counter::{LOOP_INSTRUCTIONS, counted_loop};
#[cfg(feature = "kernel-suite")]
use crate::damage;
use crate::error::Failure;
use crate::memory;
#[cfg(feature = "kernel-suite")]
use crate::questions;
use crate::semihosting::{self, Console};

/// A board: its memory, and its way to count instructions.
pub struct Board {
    /// What stands on the box.
    pub name: &'static str,
    /// The memory that begins with the model, and may be longer.
    pub model: &'static [u8],
    /// Working memory; its size decides how long a text may be.
    pub workspace: &'static mut [u8],
    /// Counts instructions.
    pub counter: &'static dyn InstructionCounter,
}

/// Memory at a fixed address.
///
/// # Safety
///
/// The range is readable memory, and nothing writes to it while the program runs.
pub const unsafe fn region(address: usize, bytes: usize) -> &'static [u8] {
    // SAFETY: the caller's promise; any byte is a valid u8.
    unsafe { core::slice::from_raw_parts(address as *const u8, bytes) }
}

/// Answers the command that came with the start, and stops with its exit status: 0, 1 for kernels that differ, 2 for bad input.
pub fn run(board: Board) -> ! {
    memory::paint_stack();
    let name = board.name;
    end(name, obey(board))
}

/// Stops the program with its exit status, and says what went wrong.
pub fn end(name: &str, result: Result<(), Failure>) -> ! {
    let status = match result {
        Ok(()) => 0,
        Err(failure) => {
            // Without a console there is nobody to tell; the exit status remains.
            let _ = writeln!(Console::err(), "{name}: {failure}");
            error!("{}", failure);
            failure.exit_status()
        }
    };
    semihosting::exit(status)
}

/// The command that came with the start, of which the log tells.
///
/// # Errors
///
/// As [`command_line`] and [`Command::parse`].
///
/// # Panics
///
/// If it is called twice.
pub fn begin(name: &str, counter: &'static dyn InstructionCounter) -> Result<Command<'static>, Failure> {
    let line = command_line(counter)?;
    info!("{=str} starts, kernels {=str}", name, Kernels::native().name);
    let command = Command::parse(line)?;
    debug!("{}", command);
    Ok(command)
}

fn obey(board: Board) -> Result<(), Failure> {
    let command = begin(board.name, board.counter)?;
    let (region, workspace) = match command {
        #[cfg(feature = "kernel-suite")]
        Command::KernelSuite => return kernel_suite(Console::out(), board.counter, board.workspace),
        #[cfg(feature = "kernel-suite")]
        Command::KernelBench { kernels } => {
            let kernels = kernels.map_or(Some(Kernels::native()), Kernels::named).ok_or(Failure::UnknownCommand)?;
            return bench(kernels, Console::out(), board.counter, board.workspace);
        }
        #[cfg(feature = "kernel-suite")]
        Command::DamageSweep { .. } => damage::sweep(board.model, board.workspace)?,
        #[cfg(feature = "kernel-suite")]
        Command::Panic => panic!("as the command asks"),
        _ => (board.model, board.workspace),
    };
    answer(lasting_model(region)?, command, workspace, board.counter, None)
}

/// [`open_model`], in memory of its own: neither the model nor what it was moved from takes stack below an answer.
#[inline(never)]
fn lasting_model(region: &'static [u8]) -> Result<&'static Model<&'static [u8]>, Failure> {
    static MODEL: StaticCell<Model<&'static [u8]>> = StaticCell::new();
    Ok(MODEL.init(open_model(region)?))
}

/// Answers a command with a model, and says what it took. `bytes_read` counts what is read of a device; of a model in memory it is
/// computed.
///
/// # Errors
///
/// Weights packed for another CPU, or a question without an answer.
///
/// # Panics
///
/// If it is called twice.
pub fn answer<S: Storage>(
    model: &Model<S>,
    command: Command<'_>,
    workspace: &mut [u8],
    counter: &'static dyn InstructionCounter,
    bytes_read: Option<&dyn Fn() -> u64>,
) -> Result<(), Failure> {
    let room = Room::lasting();
    let kernels = Kernels::native();
    #[cfg(feature = "profile")]
    let workspace_bytes = workspace.len();
    let pipeline = Pipeline::new(model, kernels, workspace)?;
    info!("model opened: {=u64} bytes, {}", model.blob().bytes(), model.config());
    info!("texts of up to {=usize} tokens", pipeline.max_tokens());
    let read_so_far = || bytes_read.map_or(0, |bytes_read| bytes_read());
    let mut runner = Runner { model, pipeline, counter, bytes_read: &read_so_far, out: Console::out() };
    let cost = match command {
        Command::FillMask { text } => fill_mask(&mut runner, room, text)?,
        Command::NextSentence { text, pair } => next_sentence(&mut runner, text, pair)?,
        Command::Features { text } => features(&mut runner, text)?,
        #[cfg(feature = "profile")]
        Command::Profile { text } => {
            writeln!(runner.out, "static_bytes {}", memory::static_bytes() - workspace_bytes)?;
            return crate::profile::profile(&mut runner, text);
        }
        #[cfg(feature = "kernel-suite")]
        Command::DamageSweep { text } => {
            questions::ask(&mut runner)?;
            fill_mask(&mut runner, room, text)?
        }
        #[cfg(feature = "kernel-suite")]
        Command::KernelSuite | Command::KernelBench { .. } | Command::Panic => return Ok(()),
    };
    let out = &mut runner.out;
    writeln!(out, "kernels {}", kernels.name)?;
    writeln!(out, "tokens {}", cost.tokens)?;
    writeln!(out, "passes {}", cost.passes)?;
    writeln!(out, "instructions {}", cost.instructions)?;
    writeln!(out, "longest_step_instructions {}", cost.longest_step)?;
    writeln!(out, "workspace_bytes {}", memory_bytes_in_passes(model.config(), cost.tokens, cost.passes))?;
    writeln!(out, "stack_bytes {}", cost.stack_bytes)?;
    writeln!(out, "static_bytes {}", memory::static_bytes())?;
    writeln!(out, "code_bytes {}", memory::code_bytes())?;
    let config = model.config();
    let of_head = match command {
        Command::NextSentence { .. } => pooler_bytes(config, true),
        Command::Features { .. } => 0,
        _ => masked_lm_bytes(config),
    };
    let computed = forward_bytes(config, cost.tokens, cost.passes) + of_head;
    writeln!(out, "model_bytes_read {}", bytes_read.map_or(computed, |_| cost.model_bytes_read))?;
    Ok(())
}

/// Opens and verifies the model at the start of a region.
///
/// # Errors
///
/// A model that is damaged, incomplete or of another version.
pub fn open_model(region: &'static [u8]) -> Result<Model<&'static [u8]>, Failure> {
    let blob = blob_in(region);
    let model = Model::open(blob)?;
    // The flash may have been written badly, or worn since: nothing is answered from a damaged model.
    model.verify()?;
    info!("model verified");
    Ok(model)
}

/// The model at the start of a region: as long as its header says. Whether that is true is found out when it is opened.
pub fn blob_in(region: &[u8]) -> &[u8] {
    Header::total_bytes_of(region)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .and_then(|bytes| region.get(..bytes))
        .unwrap_or(region)
}

/// Compares every table of kernels that this CPU runs with the scalar one, and checks that the counter counts instructions.
///
/// # Errors
///
/// Kernels that differ, or too little memory for the comparison.
#[cfg(feature = "kernel-suite")]
pub fn kernel_suite(mut out: Console, counter: &dyn InstructionCounter, memory: &mut [u8]) -> Result<(), Failure> {
    for kernels in mbert_runtime::kernels::available() {
        let compared = mbert_runtime::kernels::suite::run(kernels, memory)?;
        writeln!(out, "kernels {}: {compared} calls, all equal to scalar", kernels.name)?;
    }
    let counted = counted_loop(counter);
    writeln!(out, "counter: {counted} instructions for a loop of {LOOP_INSTRUCTIONS}")?;
    Ok(())
}
