//! Arm's PrimeCell UART PL011, which Raspberry Pis have.
//!
//! Source: PrimeCell UART (PL011) Technical Reference Manual, Arm DDI 0183.

use super::{Interrupt, Registers, Uart};
use crate::mmio::Mmio;

/// Its registers.
#[derive(Debug)]
pub struct Pl011 {
    registers: Mmio<u32>,
    received: Interrupt,
}

impl Pl011 {
    const DATA: usize = 0x00;
    const FLAGS: usize = 0x18;
    const DIVIDER: usize = 0x24;
    const DIVIDER_64THS: usize = 0x28;
    const LINE_CONTROL: usize = 0x2c;
    const CONTROL: usize = 0x30;
    const INTERRUPT_MASK: usize = 0x38;
    const INTERRUPT_CLEAR: usize = 0x44;

    const RECEIVER_EMPTY: u32 = 1 << 4;
    const TRANSMITTER_FULL: u32 = 1 << 5;
    /// Eight bits, with buffers of 16 bytes.
    const BUFFERED: u32 = 0x70;
    /// The UART, its transmitter and its receiver.
    const ENABLED: u32 = 0x301;
    /// Some bytes have come, or one a while ago.
    const RECEIVED: u32 = 1 << 4 | 1 << 6;

    /// The UART at an address, of a clock of so many hertz, with so many bits a second; it has this interrupt.
    ///
    /// # Safety
    ///
    /// Such a UART is there, and nobody else uses it.
    pub unsafe fn line(base: usize, received: Interrupt, clock_hz: u32, baud: u32) -> Uart<Self> {
        // SAFETY: the caller's promise; the offsets are those of this UART.
        let registers = unsafe { Mmio::new(base) };
        // A bit is sixteen clocks.
        let divider_64ths = (4 * clock_hz + baud / 2) / baud;
        registers.write(Self::CONTROL, 0);
        registers.write(Self::DIVIDER, divider_64ths / 64);
        registers.write(Self::DIVIDER_64THS, divider_64ths % 64);
        registers.write(Self::LINE_CONTROL, Self::BUFFERED);
        registers.write(Self::INTERRUPT_MASK, Self::RECEIVED);
        registers.write(Self::CONTROL, Self::ENABLED);
        Uart::new(Self { registers, received })
    }
}

impl Registers for Pl011 {
    fn has_byte(&self) -> bool {
        self.registers.read(Self::FLAGS) & Self::RECEIVER_EMPTY == 0
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
        self.registers.read(Self::FLAGS) & Self::TRANSMITTER_FULL == 0
    }

    fn give(&self, byte: u8) {
        self.registers.write(Self::DATA, byte.into());
    }
}
