//! ST STM32N6570-DK: a Cortex-M55 at 600 MHz, answering on the serial line of the ST-LINK. Its neural accelerator is not used.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_stm32::rcc::{
    CpuClk, IcConfig, Icint, Icsel, Pll, Plldivm, Pllpdiv, Pllsel, SupplyConfig, SysClk, XspiClkSrc,
};
use embassy_stm32::usart::{self, BufferedInterruptHandler, BufferedUart};
use embassy_stm32::xspi::{self, ChipSelectHighTime, MemorySize, MemoryType, Xspi};
use embassy_stm32::{Config, bind_interrupts, peripherals};
use mbert_firmware::counter::CycleCounter;
use mbert_firmware::{ConstStaticCell, SerialFlash, Serving, unexpected_trap};

mod bus;
use bus::Bus;

/// Where the core reads the flash.
const FLASH_ADDRESS: usize = 0x7000_0000;

static WORKSPACE: ConstStaticCell<[u8; 512 << 10]> = ConstStaticCell::new([0; 512 << 10]);
static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
static TO_SEND: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
static COUNTER: CycleCounter = CycleCounter::new();

bind_interrupts!(struct Interrupts {
    USART1 => BufferedInterruptHandler<peripherals::USART1>;
});

/// 64 MHz / 4 × 75 = 1,200 MHz: a half of that for the core, a third for the buses, and the oscillator itself for the flash.
fn clocks() -> Config {
    let divided = |by: u8| Some(IcConfig { source: Icsel::PLL1, divider: Icint::from_bits(by - 1) });
    let mut config = Config::default();
    config.rcc.pll1 = Some(Pll::Oscillator {
        source: Pllsel::HSI,
        divm: Plldivm::DIV4,
        fractional: 0,
        divn: 75,
        divp1: Pllpdiv::DIV1,
        divp2: Pllpdiv::DIV1,
    });
    config.rcc.ic1 = divided(2);
    config.rcc.ic2 = divided(3);
    config.rcc.ic4 = Some(IcConfig { source: Icsel::PLL2, divider: Icint::from_bits(0) });
    config.rcc.ic6 = divided(4);
    config.rcc.ic11 = divided(3);
    config.rcc.cpu = CpuClk::Ic1;
    config.rcc.sys = SysClk::Ic2;
    config.rcc.mux.xspi2sel = XspiClkSrc::IC4;
    // How the board powers the core, and the pins of the flash.
    config.rcc.supply_config = SupplyConfig::External;
    config.rcc.vddio3_1v8 = true;
    config
}

#[entry]
fn main() -> ! {
    let p = embassy_stm32::init(clocks());
    // MX66UW1G45G, 128 MB, as it wakes up: one line, 64 MHz / 2.
    let config = xspi::Config {
        memory_type: MemoryType::Macronix,
        delay_hold_quarter_cycle: true,
        device_size: MemorySize::_128MiB,
        chip_select_high_time: ChipSelectHighTime::_2Cycle,
        clock_prescaler: 1,
        sample_shifting: true,
        ..xspi::Config::default()
    };
    let bus = Bus::new(Xspi::new_blocking_xspi(
        p.XSPI2, p.PN6, p.PN2, p.PN3, p.PN4, p.PN5, p.PN8, p.PN9, p.PN10, p.PN11, p.PN1, config,
    ));
    if let Some(mut core) = cortex_m::Peripherals::take() {
        core.SCB.enable_icache();
        core.SCB.enable_dcache(&mut core.CPUID);
    }
    COUNTER.start();
    let (send, receive) = (TO_SEND.take(), RECEIVED.take());
    let Ok(line) = BufferedUart::new(p.USART1, p.PE6, p.PE5, send, receive, Interrupts, usart::Config::default())
    else {
        unreachable!("115,200 baud can be had from the buses' clock");
    };
    // SAFETY: where the bus shows the flash, which nothing else changes.
    let flash = unsafe { SerialFlash::<_, 4096>::new(bus, FLASH_ADDRESS as *const u8, 128 << 20) };
    let serving = Serving { name: "stm32n6570-dk", workspace: WORKSPACE.take(), counter: &COUNTER, line, flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
