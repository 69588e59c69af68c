//! ST STM32H747I-DISCO: the Cortex-M7 at 400 MHz, answering on the serial line of the ST-LINK. The Cortex-M4 is not used.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_stm32::qspi::enums::{AddressSize, ChipSelectHighTime, MemorySize, SampleShifting};
use embassy_stm32::qspi::{self, Qspi};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, SupplyConfig, Sysclk,
    VoltageScale,
};
use embassy_stm32::usart::{self, BufferedInterruptHandler, BufferedUart};
use embassy_stm32::{Config, SharedData, bind_interrupts, init_primary, peripherals};
use mbert_firmware::counter::CycleCounter;
use mbert_firmware::{ConstStaticCell, SerialFlash, Serving, unexpected_trap};

mod bus;
use bus::Bus;

/// Where the core reads the flash.
const FLASH_ADDRESS: usize = 0x9000_0000;

static WORKSPACE: ConstStaticCell<[u8; 384 << 10]> = ConstStaticCell::new([0; 384 << 10]);
static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
static TO_SEND: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
/// What the HAL would share with the other core.
static SHARED: MaybeUninit<SharedData> = MaybeUninit::uninit();
static COUNTER: CycleCounter = CycleCounter::new();

bind_interrupts!(struct Interrupts {
    USART1 => BufferedInterruptHandler<peripherals::USART1>;
});

/// 64 MHz / 4 × 50 / 2 for the core, half of that for the buses, of which the flash's clock is made.
fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        divp: Some(PllDiv::DIV2),
        divq: Some(PllDiv::DIV8),
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    // How the board powers the core.
    config.rcc.supply_config = SupplyConfig::DirectSMPS;
    config
}

#[entry]
fn main() -> ! {
    let p = init_primary(clocks(), &SHARED);
    // Two MT25QL512 side by side, of 64 MB each: 200 MHz / 2, four lines each.
    let mut config = qspi::Config::default();
    config.memory_size = MemorySize::_128MiB;
    config.address_size = AddressSize::_32bit;
    config.prescaler = 1;
    config.cs_high_time = ChipSelectHighTime::_2Cycle;
    config.sample_shifting = SampleShifting::HalfCycle;
    config.dual_flash = true;
    let bus = Bus::new(Qspi::new_blocking_dual_bank(
        p.QUADSPI, p.PD11, p.PF9, p.PF7, p.PF6, p.PH2, p.PH3, p.PG9, p.PG14, p.PB2, p.PG6, p.PC11, config,
    ));
    if let Some(mut core) = cortex_m::Peripherals::take() {
        core.SCB.enable_icache();
        core.SCB.enable_dcache(&mut core.CPUID);
    }
    COUNTER.start();
    let (send, receive) = (TO_SEND.take(), RECEIVED.take());
    let Ok(line) = BufferedUart::new(p.USART1, p.PA10, p.PA9, send, receive, Interrupts, usart::Config::default())
    else {
        unreachable!("115,200 baud can be had from 100 MHz");
    };
    // SAFETY: where the bus shows both flashes, which nothing else changes.
    let flash = unsafe { SerialFlash::<_, 8192>::new(bus, FLASH_ADDRESS as *const u8, 128 << 20) };
    let serving = Serving { name: "stm32h747i-disco", workspace: WORKSPACE.take(), counter: &COUNTER, line, flash };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
