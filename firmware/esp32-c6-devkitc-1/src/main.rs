//! Espressif ESP32-C6-DevKitC-1, with 8 MB of flash: RV32IMAC at 160 MHz, answering on the serial line of its USB bridge.
#![no_std]
#![no_main]

use esp_hal::clock::CpuClock;
use esp_hal::peripherals::SPI0;
use esp_hal::time::Instant;
use esp_hal::uart::{self, Uart};
use esp_hal::{Config, main};
use mbert_firmware::counter::InstructionCounter;
use mbert_firmware::{Board, ConstStaticCell, region, serve};

esp_bootloader_esp_idf::esp_app_desc!();

/// Where the model begins in the flash, and what it may take: the rest.
const MODEL_OFFSET: usize = 1 << 20;
const MODEL_BYTES: usize = 7 << 20;
/// Where it is mapped: halfway through the 16 MiB of addresses for the flash, of which the program has the first.
const MODEL_ADDRESS: usize = FLASH_ADDRESS + (8 << 20);
const FLASH_ADDRESS: usize = 0x4200_0000;
/// What one entry of the flash's table of pages maps, as the boot loader has chosen.
const PAGE_BYTES: usize = 64 << 10;

static WORKSPACE: ConstStaticCell<[u8; 256 << 10]> = ConstStaticCell::new([0; 256 << 10]);

/// The clock of microseconds, in cycles.
struct Cycles;

impl InstructionCounter for Cycles {
    fn instructions(&self) -> u64 {
        Instant::now().duration_since_epoch().as_micros() * 160
    }
}

/// Maps the model's part of the flash beside the program's.
fn map_model() {
    for page in 0..MODEL_BYTES / PAGE_BYTES {
        let entry = (MODEL_ADDRESS - FLASH_ADDRESS) / PAGE_BYTES + page;
        let place = MODEL_OFFSET / PAGE_BYTES + page;
        let registers = SPI0::regs();
        // SAFETY: an entry that the program does not use, and a page of the flash that there is.
        unsafe {
            registers.mmu_item_index().write(|w| w.bits(entry as u32));
            registers.mmu_item_content().write(|w| w.paddr().bits(place as u16).valid().set_bit());
        }
    }
}

#[main]
fn main() -> ! {
    let p = esp_hal::init(Config::default().with_cpu_clock(CpuClock::max()));
    map_model();
    let Ok(line) = Uart::new(p.UART0, uart::Config::default()) else { unreachable!("115,200 baud can be had from 40 MHz") };
    let line = line.with_tx(p.GPIO16).with_rx(p.GPIO17);
    // SAFETY: mapped above; nothing here writes the flash.
    let model = unsafe { region(MODEL_ADDRESS, MODEL_BYTES) };
    serve(Board { name: "esp32-c6-devkitc-1", model, workspace: WORKSPACE.take(), counter: &Cycles }, line)
}
