//! Arm MPS2 with FPGA image AN386, answering on UART0.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use mbert_firmware::counter::FpgaIo;
use mbert_firmware::uart::Cmsdk;
use mbert_firmware::{Board, ConstStaticCell, region, serve, unexpected_trap};

static WORKSPACE: ConstStaticCell<[u8; 1 << 20]> = ConstStaticCell::new([0; 1 << 20]);
// SAFETY: the FPGA's system control block lies at this address.
static COUNTER: FpgaIo = unsafe { FpgaIo::new(0x4002_8000, 40) };

#[entry]
fn main() -> ! {
    // SAFETY: UART0 lies at this address, and nobody else uses it.
    let line = unsafe { Cmsdk::line(0x4000_4000, 25_000_000, 115_200) };
    // SAFETY: the PSRAM, which only the loader writes, before the start.
    let model = unsafe { region(0x2100_0000, 16 << 20) };
    serve(Board { name: "mps2-an386", model, workspace: WORKSPACE.take(), counter: &COUNTER }, line)
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
