//! Stellaris LM3S6965 evaluation board: Cortex-M3, 64 KiB of RAM, the model on its SD card.
#![no_std]
#![no_main]

mod card;
mod pins;

use cortex_m_rt::{ExceptionFrame, entry, exception};
#[cfg(feature = "kernel-suite")]
use mbert_firmware::Command;
use mbert_firmware::counter::SysTick;
use mbert_firmware::sd_card::BLOCK_BYTES;
#[cfg(feature = "kernel-suite")]
use mbert_firmware::semihosting::Console;
use mbert_firmware::{ConstStaticCell, Failure, answer, begin, end, memory, unexpected_trap};
use mbert_runtime::model::Model;
use mbert_runtime::storage::{BlockCache, Blocks};

const NAME: &str = "lm3s6965evb";
/// Six tokens of the whole mBERT in one pass over the weights, eight in two. The kernel suite needs a little more.
const WORKSPACE_BYTES: usize = if cfg!(feature = "kernel-suite") { 41 } else { 35 } * 1024;
/// The window through which weights are read: 10 blocks of the card, and what lies over at both ends.
const CACHE_BLOCKS: usize = 11;

// SAFETY: nobody else uses the timer.
static COUNTER: SysTick = unsafe { SysTick::new(80) };
static WORKSPACE: ConstStaticCell<[u8; WORKSPACE_BYTES]> = ConstStaticCell::new([0; WORKSPACE_BYTES]);
static WINDOW: ConstStaticCell<Blocks<CACHE_BLOCKS, BLOCK_BYTES>> = ConstStaticCell::new(Blocks::new());

#[entry]
fn main() -> ! {
    memory::paint_stack();
    COUNTER.start();
    end(NAME, obey())
}

fn obey() -> Result<(), Failure> {
    let command = begin(NAME, &COUNTER)?;
    let (workspace, window) = (WORKSPACE.take(), WINDOW.take());
    #[cfg(feature = "kernel-suite")]
    match command {
        Command::KernelSuite => return mbert_firmware::kernel_suite(Console::out(), &COUNTER, workspace),
        Command::Panic => panic!("as the command asks"),
        _ => {}
    }
    // SAFETY: this is the board, nobody else uses its ports, and this runs once.
    #[cfg_attr(not(feature = "kernel-suite"), expect(unused_mut, reason = "only damage needs it"))]
    let mut file = unsafe { card::open_model() }?;
    let (bytes, device_bytes) = (file.bytes(), file.device_bytes());
    #[cfg(feature = "kernel-suite")]
    if let Command::DamageSweep { .. } = command {
        mbert_firmware::damage_on_device::sweep(&mut file, bytes, device_bytes, window)?;
    }
    let cache = BlockCache::new(file, device_bytes, window);
    let blob = cache.section(0, bytes);
    let answered = match Model::open(blob) {
        // The whole card is not read before each answer: `verify` is a command of its own.
        Ok(model) => answer(&model, command, workspace, &COUNTER, Some(&|| cache.bytes_read())),
        Err(error) => Err(error.into()),
    };
    // What the card said is nearer to the cause than what came of it.
    cache.take_error().map_or(answered, |error| Err(error.into()))
}

#[exception]
fn SysTick() {
    COUNTER.period_ended();
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
