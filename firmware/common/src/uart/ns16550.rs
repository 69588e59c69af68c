//! The UART 16550, which QEMU's RISC-V machine and many others have.
//!
//! Source: National Semiconductor PC16550D data sheet.

use super::{Interrupt, Registers, Uart};

/// Its registers, one byte each, one behind another.
#[derive(Debug)]
pub struct Ns16550 {
    base: usize,
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
        let registers = Self { base, interrupt };
        registers.write(Self::FIFO_CONTROL, Self::FIFO_ENABLED);
        registers.write(Self::INTERRUPT_ENABLE, Self::RECEIVED);
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

    fn sleep(&self) {
        self.interrupt.wait();
        self.interrupt.clear();
    }

    fn has_room(&self) -> bool {
        self.read(Self::LINE_STATUS) & Self::TRANSMITTER_EMPTY != 0
    }

    fn give(&self, byte: u8) {
        self.write(Self::DATA, byte);
    }
}
