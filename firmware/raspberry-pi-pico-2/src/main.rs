//! Raspberry Pi Pico 2: one core of the RP2350 at 150 MHz, a Cortex-M33 or a Hazard3, answering on UART0, GPIO 0 and 1.
#![no_std]
#![no_main]

use mbert_firmware::counter::InstructionCounter;
use mbert_firmware::{ConstStaticCell, Serving, StaticCell};
use rp235x_hal::block::ImageDef;
use rp235x_hal::clocks::init_clocks_and_plls;
use rp235x_hal::fugit::RateExtU32;
use rp235x_hal::gpio::Pins;
use rp235x_hal::timer::{CopyableTimer0, Timer};
use rp235x_hal::uart::{DataBits, StopBits, UartConfig, UartPeripheral};
use rp235x_hal::{Clock, Sio, Watchdog, entry, pac};

mod flash;
use flash::Flash;

const CRYSTAL_HZ: u32 = 12_000_000;
static WORKSPACE: ConstStaticCell<[u8; 384 << 10]> = ConstStaticCell::new([0; 384 << 10]);

/// What the boot ROM looks for in the first 4 KiB of the flash. On RISC-V the start-up code goes before all else, and this behind it.
#[cfg_attr(target_arch = "arm", unsafe(link_section = ".start_block"))]
#[cfg_attr(target_arch = "riscv32", unsafe(link_section = ".init.rust"))]
#[used]
static IMAGE: ImageDef = ImageDef::secure_exe();

/// The clock of microseconds that both kinds of core have, in cycles.
struct Cycles(Timer<CopyableTimer0>);

impl InstructionCounter for Cycles {
    fn instructions(&self) -> u64 {
        self.0.get_counter().ticks() * 150
    }
}

/// Sets clocks, timer and line up, and serves.
#[entry]
fn main() -> ! {
    let Some(mut p) = pac::Peripherals::take() else { unreachable!("nobody else takes them") };
    let mut watchdog = Watchdog::new(p.WATCHDOG);
    let clocks = init_clocks_and_plls(CRYSTAL_HZ, p.XOSC, p.CLOCKS, p.PLL_SYS, p.PLL_USB, &mut p.RESETS, &mut watchdog);
    let Ok(clocks) = clocks else { unreachable!("150 MHz can be had from 12 MHz") };
    static CYCLES: StaticCell<Cycles> = StaticCell::new();
    let counter = CYCLES.init(Cycles(Timer::new_timer0(p.TIMER0, &mut p.RESETS, &clocks)));

    let pins = Pins::new(p.IO_BANK0, p.PADS_BANK0, Sio::new(p.SIO).gpio_bank0, &mut p.RESETS);
    let pins = (pins.gpio0.into_function(), pins.gpio1.into_function());
    let config = UartConfig::new(115_200.Hz(), DataBits::Eight, None, StopBits::One);
    let line = UartPeripheral::new(p.UART0, pins, &mut p.RESETS).enable(config, clocks.peripheral_clock.freq());
    let Ok(line) = line else { unreachable!("115,200 baud can be had from 150 MHz") };

    let serving = Serving { name: "raspberry-pi-pico-2", workspace: WORKSPACE.take(), counter, line, flash: Flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}
