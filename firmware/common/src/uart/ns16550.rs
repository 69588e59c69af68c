//! The UART 16550, which QEMU's RISC-V machine and many others have.
//!
//! Source: National Semiconductor PC16550D data sheet.

use super::{Interrupt, Registers, Uart};
use crate::mmio::Mmio;

/// Its registers, one byte each, one behind another.
#[derive(Debug)]
pub struct Ns16550 {
    registers: Mmio<u8>,
    interrupt: Interrupt,
}

impl Ns16550 {
    const DATA: usize = 0;
    const INTERRUPT_ENABLE: usize = 1;
    const FIFO_CONTROL: usize = 2;
    const LINE_STATUS: usize = 5;

    const RECEIVED: u8 = 1 << 0;
    const FIFO_ENABLED: u8 = 1 << 0;
    const DATA_READY: u8 = 1 << 0;
    const TRANSMITTER_EMPTY: u8 = 1 << 5;

    /// The UART at an address, whose speed has been set, with its interrupt.
    ///
    /// # Safety
    ///
    /// Such a UART is there, and nobody else uses it.
    pub unsafe fn line(base: usize, interrupt: Interrupt) -> Uart<Self> {
        // SAFETY: the caller's promise; the offsets are those of this UART.
        let registers = unsafe { Mmio::new(base) };
        registers.write(Self::FIFO_CONTROL, Self::FIFO_ENABLED);
        registers.write(Self::INTERRUPT_ENABLE, Self::RECEIVED);
        Uart::new(Self { registers, interrupt })
    }
}

impl Registers for Ns16550 {
    fn has_byte(&self) -> bool {
        self.registers.read(Self::LINE_STATUS) & Self::DATA_READY != 0
    }

    fn take(&self) -> u8 {
        self.registers.read(Self::DATA)
    }

    fn sleep(&self) {
        self.interrupt.wait();
        self.interrupt.clear();
    }

    fn has_room(&self) -> bool {
        self.registers.read(Self::LINE_STATUS) & Self::TRANSMITTER_EMPTY != 0
    }

    fn give(&self, byte: u8) {
        self.registers.write(Self::DATA, byte);
    }
}
