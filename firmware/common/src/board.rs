//! What a board brings, and the program that runs on it.

use core::fmt::Write;

use defmt::{debug, error, info};
use mbert_runtime::format::header::Header;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes};

use crate::answer::{Runner, features, fill_mask, next_sentence};
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

fn obey(board: Board) -> Result<(), Failure> {
    let line = command_line(board.counter)?;
    let kernels = Kernels::native();
    info!("{=str} starts, kernels {=str}", board.name, kernels.name);
    let command = Command::parse(line)?;
    debug!("{}", command);
    let out = Console::out();
    let (region, workspace) = match command {
        #[cfg(feature = "kernel-suite")]
        Command::KernelSuite => return kernel_suite(out, board.counter, board.workspace),
        #[cfg(feature = "kernel-suite")]
        Command::KernelBench => return bench(out, board.counter, board.workspace),
        #[cfg(feature = "kernel-suite")]
        Command::DamageSweep { .. } => damage::sweep(board.model, board.workspace)?,
        #[cfg(feature = "kernel-suite")]
        Command::Panic => panic!("as the command asks"),
        _ => (board.model, board.workspace),
    };
    let model = open_model(region)?;
    let pipeline = Pipeline::new(&model, kernels, workspace)?;
    info!("texts of up to {=usize} tokens", pipeline.max_tokens());
    let mut runner = Runner { model: &model, pipeline, counter: board.counter, out };
    let cost = match command {
        Command::FillMask { text } => fill_mask(&mut runner, text)?,
        Command::NextSentence { text, pair } => next_sentence(&mut runner, text, pair)?,
        Command::Features { text } => features(&mut runner, text)?,
        #[cfg(feature = "kernel-suite")]
        Command::DamageSweep { text } => {
            questions::ask(&mut runner)?;
            fill_mask(&mut runner, text)?
        }
        #[cfg(feature = "kernel-suite")]
        Command::KernelSuite | Command::KernelBench | Command::Panic => return Ok(()),
    };
    let out = &mut runner.out;
    writeln!(out, "kernels {}", kernels.name)?;
    writeln!(out, "tokens {}", cost.tokens)?;
    writeln!(out, "instructions {}", cost.instructions)?;
    writeln!(out, "workspace_bytes {}", memory_bytes(model.config(), cost.tokens))?;
    writeln!(out, "stack_bytes {}", cost.stack_bytes)?;
    writeln!(out, "code_bytes {}", memory::code_bytes())?;
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
    info!("model opened: {=usize} bytes, {}", blob.len(), model.config());
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

#[cfg(feature = "kernel-suite")]
fn kernel_suite(mut out: Console, counter: &dyn InstructionCounter, memory: &mut [u8]) -> Result<(), Failure> {
    for kernels in mbert_runtime::kernels::available() {
        let compared = mbert_runtime::kernels::suite::run(kernels, memory)?;
        writeln!(out, "kernels {}: {compared} calls, all equal to scalar", kernels.name)?;
    }
    let counted = counted_loop(counter);
    writeln!(out, "counter: {counted} instructions for a loop of {LOOP_INSTRUCTIONS}")?;
    Ok(())
}
