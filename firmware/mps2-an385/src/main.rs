//! Arm MPS2 with FPGA image AN385: Cortex-M3.
#![no_std]
#![no_main]

// Its critical section is what a Cortex-M0+ has instead of atomic instructions.
use cortex_m as _;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::FpgaIo;
use mbert_firmware::{Board, ConstStaticCell, region, run, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);
// SAFETY: the FPGA's system control block lies at this address.
static COUNTER: FpgaIo = unsafe { FpgaIo::new(0x4002_8000, 40) };

#[entry]
fn main() -> ! {
    // SAFETY: the PSRAM, which only the loader writes, before the start.
    let model = unsafe { region(0x2100_0000, 16 << 20) };
    run(Board { name: env!("CARGO_PKG_NAME"), model, workspace: WORKSPACE.take(), counter: &COUNTER })
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
