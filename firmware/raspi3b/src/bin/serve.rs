//! Raspberry Pi 3B, answering on its UART, GPIO 14 and 15. The boot loader puts the model into memory.
#![no_std]
#![no_main]

#[path = "../start.rs"]
mod start;

use mbert_firmware::counter::GenericTimer;
use mbert_firmware::uart::{Interrupt, Pl011};
use mbert_firmware::{ConstStaticCell, RamNor, Serving};

static WORKSPACE: ConstStaticCell<[u8; 4 << 20]> = ConstStaticCell::new([0; 4 << 20]);

/// Memory that behaves as a flash, up to the GPU's, and its size.
const FLASH: (usize, usize) = (0x1000_0000, 0x2c00_0000);
/// Which functions GPIO 10 to 19 have, and 30 to 39: three bits each.
const PIN_FUNCTIONS: [*mut u32; 2] = [0x3f20_0004 as *mut u32, 0x3f20_000c as *mut u32];

/// Where `_start` goes.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let [pins_10, pins_30] = PIN_FUNCTIONS;
    // SAFETY: the registers are there, and nobody else uses them. GPIO 14 and 15 are the UART's, instead of 32 and 33, where Bluetooth is.
    unsafe {
        pins_30.write_volatile(pins_30.read_volatile() & !(0o77 << 6));
        pins_10.write_volatile(pins_10.read_volatile() & !(0o77 << 12) | 0o44 << 12);
    }
    // SAFETY: UART0 and the interrupt controller lie at these addresses, and nobody else uses them.
    let line = unsafe { Pl011::line(0x3f20_1000, Interrupt::new(0x3f00_b000, 57), 48_000_000, 115_200) };
    // SAFETY: RAM behind the program's own, which nobody else uses.
    let flash = unsafe { RamNor::<4, 4096>::new(FLASH.0 as *mut u8, FLASH.1) };
    let serving = Serving { name: "raspi3b", workspace: WORKSPACE.take(), counter: &GenericTimer, line, flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}
