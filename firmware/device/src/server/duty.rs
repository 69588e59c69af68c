//! What a board does between two steps of its work: it listens, tells how far it is, and stops where nobody wants the answer any more.

use embedded_io::{Read, ReadReady, Write};
use mbert_runtime::encoder::schedule::Progress;

use crate::protocol::link::board::{BoardLink, Watch};
use crate::protocol::messages::DeviceError;

/// A serial line: bytes in and out, and whether one is waiting.
pub trait Line: Read + ReadReady + Write {}

impl<L: Read + ReadReady + Write> Line for L {}

/// So often a board tells unasked, within one part of its work, that it is alive.
const TELLS: u32 = 16;

/// Listens between two steps.
#[derive(Debug)]
pub struct Duty<'l, L: Line> {
    watch: Watch<'l>,
    line: &'l mut L,
    told: u32,
    failed: Option<L::Error>,
}

impl<'l, L: Line> Duty<'l, L> {
    /// For one request.
    pub fn new(watch: Watch<'l>, line: &'l mut L) -> Self {
        Self { watch, line, told: 0, failed: None }
    }

    /// Takes what has come from the host since the last step.
    ///
    /// # Errors
    ///
    /// If the work is to be stopped: the answer is not wanted any more, or the line has failed.
    pub fn attend(&mut self, progress: Progress) -> Result<(), DeviceError> {
        if let Err(error) = self.listen((progress.done, progress.total)) {
            self.failed = Some(error);
        }
        if self.failed.is_some() || self.watch.is_stopped() { Err(DeviceError::Cancelled) } else { Ok(()) }
    }

    fn listen(&mut self, (done, total): (u32, u32)) -> Result<(), L::Error> {
        while self.line.read_ready()? {
            let mut byte = [0];
            if self.line.read(&mut byte)? == 1 {
                self.watch.push(byte[0], (done, total), self.line)?;
            }
        }
        let due = (u64::from(done) * u64::from(TELLS)).checked_div(total.into()).unwrap_or(0) as u32;
        if due != self.told {
            self.told = due;
            self.watch.tell((done, total), self.line)?;
        }
        Ok(())
    }

    /// Ends the work.
    ///
    /// # Errors
    ///
    /// If the line has failed meanwhile.
    pub fn end(self) -> Result<(), L::Error> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// Waits for the next request.
///
/// # Errors
///
/// If the line fails.
pub fn wait<L: Line>(link: &mut BoardLink<'_>, line: &mut L) -> Result<(), L::Error> {
    let mut bytes = [0; 64];
    while !link.has_request() {
        // Of a line that has nothing, one byte is awaited; what lies ready is taken with it.
        let count = line.read(&mut bytes)?;
        for &byte in &bytes[..count] {
            link.push(byte, line)?;
        }
    }
    Ok(())
}
