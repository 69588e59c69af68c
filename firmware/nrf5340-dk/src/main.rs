//! Nordic nRF5340-DK: the application core, a Cortex-M33 at 64 MHz, answering on the first serial port of the debugger.
#![no_std]
#![no_main]

// Critical sections of one core.
use cortex_m as _;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_nrf::buffered_uarte::{BufferedUarte, InterruptHandler};
use embassy_nrf::qspi::{self, Frequency, Qspi};
use embassy_nrf::{bind_interrupts, peripherals, uarte};
use mbert_firmware::counter::CycleCounter;
use mbert_firmware::{ConstStaticCell, Serving, unexpected_trap};

mod flash;
mod line;
use flash::Flash;
use line::Line;

static WORKSPACE: ConstStaticCell<[u8; 384 << 10]> = ConstStaticCell::new([0; 384 << 10]);
static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
static TO_SEND: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
static COUNTER: CycleCounter = CycleCounter::new();

bind_interrupts!(struct Interrupts {
    QSPI => qspi::InterruptHandler<peripherals::QSPI>;
    SERIAL0 => InterruptHandler<peripherals::SERIAL0>;
});

#[entry]
fn main() -> ! {
    let p = embassy_nrf::init(Default::default());
    // MX25R6435F, 8 MB, four lines.
    let mut config = qspi::Config::default();
    config.frequency = Frequency::M32;
    config.capacity = flash::BYTES as u32;
    let mut driver = Qspi::new(p.QSPI, Interrupts, p.P0_17, p.P0_18, p.P0_13, p.P0_14, p.P0_15, p.P0_16, config);
    // Writes the status register: quad enable.
    assert!(driver.blocking_custom_instruction(0x01, &[0x40], &mut []).is_ok(), "one byte is sent");
    COUNTER.start();
    let line = Line(BufferedUarte::new(
        p.SERIAL0,
        p.TIMER0,
        p.PPI_CH0,
        p.PPI_CH1,
        p.PPI_GROUP0,
        p.P0_22,
        p.P0_20,
        Interrupts,
        uarte::Config::default(),
        RECEIVED.take(),
        TO_SEND.take(),
    ));
    let serving =
        Serving { name: "nrf5340-dk", workspace: WORKSPACE.take(), counter: &COUNTER, line, flash: Flash(driver) };
    // SAFETY: the flash's driver alone changes it.
    unsafe { serving.run() }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    unexpected_trap(frame.xpsr() as usize, frame.pc() as usize)
}
