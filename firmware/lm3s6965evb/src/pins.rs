//! The pins of the card's socket: SSI0, and port D pin 0 as chip select.

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, OutputPin};

/// Address of SSI0, a PL022.
pub const SSI0: usize = 0x4000_8000;

/// Which parts have a clock, in the system control.
const CLOCK_GATES_1: *mut u32 = 0x400f_e104 as *mut u32;
const CLOCK_GATES_2: *mut u32 = 0x400f_e108 as *mut u32;
const GATE_1_SSI0: u32 = 1 << 4;
const GATE_2_PORTS_A_AND_D: u32 = 1 << 0 | 1 << 3;

/// Addresses of the ports.
const PORT_A: usize = 0x4000_4000;
const PORT_D: usize = 0x4000_7000;
/// Offsets of their registers.
const DIRECTION: usize = 0x400;
const ALTERNATE_FUNCTION: usize = 0x420;
const DIGITAL_ENABLE: usize = 0x51c;

/// Clock, answers and commands of SSI0.
const SSI0_PINS: u32 = 1 << 2 | 1 << 4 | 1 << 5;
/// Chip select of the display on the same bus, port A.
const DISPLAY_SELECT: u32 = 1 << 3;
/// Chip select of the card, port D.
const CARD_SELECT: u32 = 1 << 0;

/// The card's chip select.
pub struct CardSelect(());

impl CardSelect {
    /// Gives SSI0 its clock and its pins. Neither the card nor the display is selected.
    ///
    /// # Safety
    ///
    /// Called once, on this board, and nobody else uses the ports A and D or SSI0 before it returns, or these pins later.
    pub unsafe fn connect() -> Self {
        // SAFETY: the caller's promise; every address is that of a register, and the reading between gives a part the cycles that
        // its clock takes to start.
        unsafe {
            set(CLOCK_GATES_1, GATE_1_SSI0);
            set(CLOCK_GATES_2, GATE_2_PORTS_A_AND_D);
            write_pins(PORT_A, DISPLAY_SELECT, true);
            write_pins(PORT_D, CARD_SELECT, true);
            set((PORT_A + DIRECTION) as *mut u32, DISPLAY_SELECT);
            set((PORT_D + DIRECTION) as *mut u32, CARD_SELECT);
            set((PORT_A + ALTERNATE_FUNCTION) as *mut u32, SSI0_PINS);
            set((PORT_A + DIGITAL_ENABLE) as *mut u32, SSI0_PINS | DISPLAY_SELECT);
            set((PORT_D + DIGITAL_ENABLE) as *mut u32, CARD_SELECT);
            // An output holds its level only once it is one.
            write_pins(PORT_A, DISPLAY_SELECT, true);
            write_pins(PORT_D, CARD_SELECT, true);
        }
        Self(())
    }
}

impl ErrorType for CardSelect {
    type Error = Infallible;
}

impl OutputPin for CardSelect {
    fn set_low(&mut self) -> Result<(), Infallible> {
        // SAFETY: whoever made this promised that the pin is ours.
        unsafe { write_pins(PORT_D, CARD_SELECT, false) };
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        // SAFETY: as above.
        unsafe { write_pins(PORT_D, CARD_SELECT, true) };
        Ok(())
    }
}

/// Sets bits of a register.
///
/// # Safety
///
/// It is a register of this board, and the bits are the caller's to set.
unsafe fn set(register: *mut u32, bits: u32) {
    // SAFETY: the caller's promise.
    unsafe { register.write_volatile(register.read_volatile() | bits) };
}

/// Writes some pins of a port and leaves the others alone: the address says which.
///
/// # Safety
///
/// The port has a clock, and the pins are the caller's.
unsafe fn write_pins(port: usize, pins: u32, high: bool) {
    // SAFETY: the data register has an address for each choice of the eight pins; the rest is the caller's promise.
    unsafe { ((port + pins as usize * 4) as *mut u32).write_volatile(if high { pins } else { 0 }) };
}
