//! Texts and answers in collections on a heap, around a pipeline that needs none: which texts have the same answer.
//!
//!     cargo run --release --example heap -- "Paris is the [MASK] of France." "Berlin is the [MASK] of Germany."
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

// Its critical sections guard the heap.
use cortex_m as _;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embedded_alloc::LlffHeap;
use mbert_firmware::counter::FpgaIo;
use mbert_firmware::semihosting::Console;
use mbert_firmware::{Failure, SEPARATOR, command_line, end, open_model, region, unexpected_trap};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline, memory_bytes};
use mbert_runtime::tokenizer::CleanUp;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();
const HEAP_BYTES: usize = 512 << 10;
/// The longest text.
const TOKENS: usize = 64;
// SAFETY: the FPGA's system control block lies at this address.
static COUNTER: FpgaIo = unsafe { FpgaIo::new(0x4002_8000, 40) };

#[entry]
fn main() -> ! {
    // SAFETY: once, and before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_BYTES);
    }
    end("heap", answer())
}

fn answer() -> Result<(), Failure> {
    let texts: Vec<&str> = command_line(&COUNTER)?.split(SEPARATOR).collect();

    // SAFETY: the PSRAM, which only the loader writes, before the start.
    let model = open_model(unsafe { region(0x2100_0000, 16 << 20) })?;
    // As much as this model needs, which nobody knew when the program was built.
    let mut workspace = vec![0; memory_bytes(model.config(), TOKENS)];
    let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut workspace)?;
    let mut texts_by_answer: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for text in texts {
        let mut answers = [MaskAnswer::<1>::default(); 1];
        let answer = &pipeline.fill_mask(text, &mut answers)?[0];
        let mut word = String::new();
        for best in answer.best() {
            model.tokenizer().decode(&[best.id], false, CleanUp::Tokens, &mut word)?;
        }
        texts_by_answer.entry(word).or_default().push(text);
    }

    let mut out = Console::out();
    for (answer, texts) in &texts_by_answer {
        writeln!(out, "{answer}")?;
        for text in texts {
            writeln!(out, "  {text}")?;
        }
    }
    writeln!(out, "heap_bytes {}", HEAP.used())?;
    Ok(())
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
