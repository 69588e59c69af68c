//! Serial lines, with the traits of embedded-io. Nothing is buffered beyond what the hardware does: whoever reads sleeps until the next byte
//! comes.

#[cfg(target_arch = "arm")]
mod cmsdk;
mod interrupt;
#[cfg(target_arch = "riscv32")]
mod ns16550;
#[cfg(target_arch = "aarch64")]
mod pl011;

#[cfg(target_arch = "arm")]
pub use cmsdk::Cmsdk;
pub use interrupt::Interrupt;
#[cfg(target_arch = "riscv32")]
pub use ns16550::Ns16550;
#[cfg(target_arch = "aarch64")]
pub use pl011::Pl011;

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The registers of a UART.
pub trait Registers {
    /// Whether a byte has come.
    fn has_byte(&self) -> bool;
    /// Takes it.
    fn take(&self) -> u8;
    /// Sleeps until a byte comes, or for a shorter time.
    fn sleep(&self);
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
        while !bytes.is_empty() && !self.0.has_byte() {
            self.0.sleep();
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
            while !self.0.has_room() {}
            self.0.give(byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while !self.0.has_room() {}
        Ok(())
    }
}
