//! Serial lines, with the traits of embedded-io. Nothing is buffered beyond what the hardware does, and no interrupt takes part: whoever
//! reads waits for the next byte.

mod cmsdk;
mod ns16550;

pub use cmsdk::Cmsdk;
pub use ns16550::Ns16550;

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The registers of a UART.
pub trait Registers {
    /// Whether a byte has come.
    fn has_byte(&self) -> bool;
    /// Takes it.
    fn take(&self) -> u8;
    /// Whether a byte can be given.
    fn has_room(&self) -> bool;
    /// Gives it.
    fn give(&self, byte: u8);
}

/// A serial line over the registers of a UART.
#[derive(Debug)]
pub struct Uart<R>(R);

impl<R> Uart<R> {
    /// A line that is ready to be used.
    pub const fn new(registers: R) -> Self {
        Self(registers)
    }
}

impl<R> ErrorType for Uart<R> {
    type Error = Infallible;
}

/// Rounds of the longest pause: at 25 MHz still less than a byte takes at 115,200 bits a second.
const LONGEST_PAUSE: u32 = 512;

/// Waits until something is so. It asks more and more seldom: an emulator comes to nothing else while its registers are read.
fn wait_until(is_so: impl Fn() -> bool) {
    let mut pause = 1;
    while !is_so() {
        (0..pause).for_each(|round| _ = core::hint::black_box(round));
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

impl<R: Registers> Read for Uart<R> {
    /// Waits for a byte, and takes those that are there then.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let mut count = 0;
        if !bytes.is_empty() {
            wait_until(|| self.0.has_byte());
        }
        while count < bytes.len() && self.0.has_byte() {
            bytes[count] = self.0.take();
            count += 1;
        }
        Ok(count)
    }
}

impl<R: Registers> ReadReady for Uart<R> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.has_byte())
    }
}

impl<R: Registers> Write for Uart<R> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            wait_until(|| self.0.has_room());
            self.0.give(byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        wait_until(|| self.0.has_room());
        Ok(())
    }
}
