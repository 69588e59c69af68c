//! The UART 16550, which QEMU's RISC-V machine and many others have.
//!
//! Source: National Semiconductor PC16550D data sheet.

use super::{Registers, Uart};

/// Its registers, one byte each, one behind another.
#[derive(Debug)]
pub struct Ns16550 {
    base: usize,
}

impl Ns16550 {
    const DATA: usize = 0;
    const FIFO_CONTROL: usize = 2;
    const LINE_STATUS: usize = 5;

    const FIFO_ENABLED: u8 = 1 << 0;
    const DATA_READY: u8 = 1 << 0;
    const TRANSMITTER_EMPTY: u8 = 1 << 5;

    /// The UART at an address, whose speed has been set.
    ///
    /// # Safety
    ///
    /// Such a UART is there, and nobody else uses it.
    pub unsafe fn line(base: usize) -> Uart<Self> {
        let registers = Self { base };
        registers.write(Self::FIFO_CONTROL, Self::FIFO_ENABLED);
        Uart::new(registers)
    }

    fn read(&self, register: usize) -> u8 {
        // SAFETY: whoever made this promised that the registers are there and ours.
        unsafe { ((self.base + register) as *const u8).read_volatile() }
    }

    fn write(&self, register: usize, value: u8) {
        // SAFETY: as above.
        unsafe { ((self.base + register) as *mut u8).write_volatile(value) }
    }
}

impl Registers for Ns16550 {
    fn has_byte(&self) -> bool {
        self.read(Self::LINE_STATUS) & Self::DATA_READY != 0
    }

    fn take(&self) -> u8 {
        self.read(Self::DATA)
    }

    fn has_room(&self) -> bool {
        self.read(Self::LINE_STATUS) & Self::TRANSMITTER_EMPTY != 0
    }

    fn give(&self, byte: u8) {
        self.write(Self::DATA, byte);
    }
}
