//! The UART of Arm's Cortex-M System Design Kit, which the MPS2 and MPS3 boards have.
//!
//! Source: Arm Cortex-M System Design Kit Technical Reference Manual, APB UART.

use super::{Interrupt, Registers, Uart};

/// Its registers.
#[derive(Debug)]
pub struct Cmsdk {
    base: usize,
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
        let registers = Self { base, received };
        registers.write(Self::BAUD_DIVIDER, (clock_hz / baud).max(Self::MIN_DIVIDER));
        registers.write(Self::CONTROL, Self::ENABLED);
        Uart::new(registers)
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: whoever made this promised that the registers are there and ours.
        unsafe { ((self.base + register) as *const u32).read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as above.
        unsafe { ((self.base + register) as *mut u32).write_volatile(value) }
    }
}

impl Registers for Cmsdk {
    fn has_byte(&self) -> bool {
        self.read(Self::STATE) & Self::RECEIVER_FULL != 0
    }

    fn take(&self) -> u8 {
        self.read(Self::DATA) as u8
    }

    fn sleep(&self) {
        self.received.wait();
        self.write(Self::INTERRUPT_CLEAR, Self::RECEIVED);
        self.received.clear();
    }

    fn has_room(&self) -> bool {
        self.read(Self::STATE) & Self::TRANSMITTER_FULL == 0
    }

    fn give(&self, byte: u8) {
        self.write(Self::DATA, byte.into());
    }
}
