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

impl<R: Registers> Read for Uart<R> {
    /// Waits for a byte, and takes those that are there then.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let mut count = 0;
        while count < bytes.len() && (count == 0 || self.0.has_byte()) {
            if self.0.has_byte() {
                bytes[count] = self.0.take();
                count += 1;
            } else {
                core::hint::spin_loop();
            }
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
            while !self.0.has_room() {
                core::hint::spin_loop();
            }
            self.0.give(byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while !self.0.has_room() {
            core::hint::spin_loop();
        }
        Ok(())
    }
}
