//! Arm MPS3 with FPGA image AN547, answering on UART0.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::FpgaIo;
use mbert_firmware::uart::{Cmsdk, Interrupt};
use mbert_firmware::{ConstStaticCell, RamNor, Serving, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);
// SAFETY: the FPGA's system control block lies at this address.
static COUNTER: FpgaIo = unsafe { FpgaIo::new(0x5930_2000, 50) };

/// Memory that behaves as a flash, and its size.
const FLASH: (usize, usize) = (0x6000_0000, 512 << 20);

#[entry]
fn main() -> ! {
    // SAFETY: UART0 lies at this address, and nobody else uses it, nor an interrupt.
    let line = unsafe { Cmsdk::line(0x5930_3000, Interrupt::new(33), 25_000_000, 115_200) };
    // SAFETY: the DDR4, which nobody else uses.
    let flash = unsafe { RamNor::<4, 4096>::new(FLASH.0 as *mut u8, FLASH.1) };
    let serving = Serving { name: "mps3-an547", workspace: WORKSPACE.take(), counter: &COUNTER, line, flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
