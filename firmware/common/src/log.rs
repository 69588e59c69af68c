//! The log: defmt's frames, in a file that the debugger opens under the name that the command gives. Answers go elsewhere, so that the
//! two never mix.
//!
//! `defmt-print -e PROGRAM` reads the frames. What goes into the log is chosen when the program is built, by `$DEFMT_LOG`. A frame is with
//! the debugger as soon as it is complete, and no interrupt takes part. Its time is the board's counter: in QEMU virtual microseconds,
//! a thousand instructions each.

use core::cell::UnsafeCell;

use defmt::Encoder;

use crate::counter::InstructionCounter;
use crate::error::Failure;
use crate::semihosting::Console;

/// Most frames fit, so that each is one call of the debugger.
const BUFFER_BYTES: usize = 128;

struct State {
    encoder: Encoder,
    sink: Sink,
    counter: Option<&'static dyn InstructionCounter>,
    in_frame: bool,
}

/// What the encoder writes to.
struct Sink {
    file: Option<Console>,
    buffer: [u8; BUFFER_BYTES],
    filled: usize,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.filled == BUFFER_BYTES {
                self.flush();
            }
            self.buffer[self.filled] = byte;
            self.filled += 1;
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &self.file {
            // A log that is not taken must not stop the program.
            let _ = file.write(&self.buffer[..self.filled]);
        }
        self.filled = 0;
    }
}

struct Shared(UnsafeCell<State>);

// SAFETY: the boards run on one core, and no interrupt of theirs logs; `with` is the only access.
unsafe impl Sync for Shared {}

static LOG: Shared = Shared(UnsafeCell::new(State {
    encoder: Encoder::new(),
    sink: Sink { file: None, buffer: [0; BUFFER_BYTES], filled: 0 },
    counter: None,
    in_frame: false,
}));

fn with<R>(access: impl FnOnce(&mut State) -> R) -> R {
    // SAFETY: nothing else runs meanwhile, and no `access` below logs or calls back.
    access(unsafe { &mut *LOG.0.get() })
}

/// Opens the log. Without it, what is logged goes nowhere.
///
/// # Errors
///
/// If the debugger cannot open the file.
pub fn start(path: &str, counter: &'static dyn InstructionCounter) -> Result<(), Failure> {
    let file = Console::file(path).ok_or(Failure::LogNotOpened)?;
    with(|state| {
        state.sink.file = Some(file);
        state.counter = Some(counter);
    });
    Ok(())
}

defmt::timestamp!("{=u64:us}", with(|state| state.counter.map_or(0, |counter| counter.instructions() / 1000)));

#[defmt::global_logger]
struct Logger;

// SAFETY: frames are written one after another, see `Shared`.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        with(|State { encoder, sink, in_frame, .. }| {
            if *in_frame {
                // A panic within a frame: the decoder skips what there is of it.
                encoder.end_frame(|bytes| sink.write(bytes));
            }
            *in_frame = true;
            encoder.start_frame(|bytes| sink.write(bytes));
        });
    }

    unsafe fn flush() {
        with(|state| state.sink.flush());
    }

    unsafe fn release() {
        with(|State { encoder, sink, in_frame, .. }| {
            encoder.end_frame(|bytes| sink.write(bytes));
            *in_frame = false;
            sink.flush();
        });
    }

    unsafe fn write(bytes: &[u8]) {
        with(|State { encoder, sink, .. }| encoder.write(bytes, |bytes| sink.write(bytes)));
    }
}
