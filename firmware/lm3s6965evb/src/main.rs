//! Stellaris LM3S6965 evaluation board: Cortex-M3, 64 KiB of RAM, the model on its SD card.
#![no_std]
#![no_main]

mod card;
mod pins;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::SysTick;
use mbert_firmware::sd_card::BLOCK_BYTES;
use mbert_firmware::{
    Board, Command, ConstStaticCell, Failure, answer, command_line, end, memory, run, unexpected_trap,
};
use mbert_runtime::model::Model;
use mbert_runtime::storage::{BlockCache, Blocks};

const NAME: &str = "lm3s6965evb";
/// Six tokens of the whole mBERT in one pass over the weights, eight in two.
const WORKSPACE_BYTES: usize = 35 * 1024;
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
    if cfg!(feature = "kernel-suite") {
        run(Board { name: NAME, model: &[], workspace: WORKSPACE.take(), counter: &COUNTER });
    }
    end(NAME, obey())
}

fn obey() -> Result<(), Failure> {
    let command = Command::parse(command_line(&COUNTER)?)?;
    // SAFETY: this is the board, nobody else uses its ports, and this runs once.
    let file = unsafe { card::open_model() }?;
    let (bytes, device_bytes) = (file.bytes(), file.device_bytes());
    let cache = BlockCache::new(file, device_bytes, WINDOW.take());
    let blob = cache.section(0, bytes);
    let answered = match Model::open(blob) {
        // The whole card is not read before each answer: `verify` is a command of its own.
        Ok(model) => answer(&model, command, WORKSPACE.take(), &COUNTER, &|| cache.bytes_read()),
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
