//! Espressif ESP32-C6-DevKitC-1, with 8 MB of flash: RV32IMAC at 160 MHz, answering on the serial line of its USB bridge.
#![no_std]
#![no_main]

use esp_hal::clock::CpuClock;
use esp_hal::time::Instant;
use esp_hal::uart::{self, Uart};
use esp_hal::{Config, main};
use mbert_firmware::counter::InstructionCounter;
use mbert_firmware::{ConstStaticCell, Serving};

mod flash;
use flash::Flash;

esp_bootloader_esp_idf::esp_app_desc!();

static WORKSPACE: ConstStaticCell<[u8; 256 << 10]> = ConstStaticCell::new([0; 256 << 10]);

/// The clock of microseconds, in cycles.
struct Cycles;

impl InstructionCounter for Cycles {
    fn instructions(&self) -> u64 {
        Instant::now().duration_since_epoch().as_micros() * 160
    }
}

#[main]
fn main() -> ! {
    let p = esp_hal::init(Config::default().with_cpu_clock(CpuClock::max()));
    let Ok(line) = Uart::new(p.UART0, uart::Config::default()) else {
        unreachable!("115,200 baud can be had from 40 MHz")
    };
    let line = line.with_tx(p.GPIO16).with_rx(p.GPIO17);
    let serving = Serving {
        name: "esp32-c6-devkitc-1",
        workspace: WORKSPACE.take(),
        counter: &Cycles,
        line,
        flash: Flash::new(p.FLASH),
    };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}
