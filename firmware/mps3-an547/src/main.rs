//! Arm MPS3 with FPGA image AN547: Cortex-M55.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::FpgaIo;
use mbert_firmware::{Board, ConstStaticCell, region, run, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);
// SAFETY: the FPGA's system control block lies at this address.
static COUNTER: FpgaIo = unsafe { FpgaIo::new(0x5930_2000, 50) };

#[entry]
fn main() -> ! {
    // SAFETY: the DDR4, which only the loader writes, before the start.
    let model = unsafe { region(0x6000_0000, 1 << 30) };
    run(Board { name: "mps3-an547", model, workspace: WORKSPACE.take(), counter: &COUNTER })
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
