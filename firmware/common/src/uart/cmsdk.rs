//! The UART of Arm's Cortex-M System Design Kit, which the MPS2 and MPS3 boards have.
//!
//! Source: Arm Cortex-M System Design Kit Technical Reference Manual, APB UART.

use super::{Interrupt, Registers, Uart};
use crate::mmio::Mmio;

/// Its registers.
#[derive(Debug)]
pub struct Cmsdk {
    registers: Mmio<u32>,
    received: Interrupt,
}

impl Cmsdk {
    const DATA: usize = 0x0;
    const STATE: usize = 0x4;
    const CONTROL: usize = 0x8;
    const INTERRUPT_CLEAR: usize = 0xc;
    const BAUD_DIVIDER: usize = 0x10;

    const TRANSMITTER_FULL: u32 = 1 << 0;
    const RECEIVER_FULL: u32 = 1 << 1;
    /// Transmitter, receiver, and the receiver's interrupt.
    const ENABLED: u32 = 0b1011;
    const RECEIVED: u32 = 1 << 1;
    const MIN_DIVIDER: u32 = 16;

    /// The UART at an address, of a clock of so many hertz, with so many bits a second; it has this interrupt for what it receives.
    ///
    /// # Safety
    ///
    /// Such a UART is there, and nobody else uses it.
    pub unsafe fn line(base: usize, received: Interrupt, clock_hz: u32, baud: u32) -> Uart<Self> {
        // SAFETY: the caller's promise; the offsets are those of this UART.
        let registers = unsafe { Mmio::new(base) };
        registers.write(Self::BAUD_DIVIDER, (clock_hz / baud).max(Self::MIN_DIVIDER));
        registers.write(Self::CONTROL, Self::ENABLED);
        Uart::new(Self { registers, received })
    }
}

impl Registers for Cmsdk {
    fn has_byte(&self) -> bool {
        self.registers.read(Self::STATE) & Self::RECEIVER_FULL != 0
    }

    fn take(&self) -> u8 {
        self.registers.read(Self::DATA) as u8
    }

    fn sleep(&self) {
        self.received.wait();
        self.registers.write(Self::INTERRUPT_CLEAR, Self::RECEIVED);
        self.received.clear();
    }

    fn has_room(&self) -> bool {
        self.registers.read(Self::STATE) & Self::TRANSMITTER_FULL == 0
    }

    fn give(&self, byte: u8) {
        self.registers.write(Self::DATA, byte.into());
    }
}
