//! The XSPI, with one line to a flash of which four more would be free.

use cortex_m::Peripherals;
use embassy_stm32::mode::Blocking;
use embassy_stm32::peripherals::XSPI2;
use embassy_stm32::xspi::{AddressSize, DummyCycles, TransferConfig, Xspi, XspiError, XspiWidth};
use mbert_firmware::SerialBus;

/// The bus.
pub struct Bus(Xspi<'static, XSPI2, Blocking>);

const READ_STATUS: u8 = 0x05;
/// Addresses of four bytes.
const FAST_READ: u8 = 0x0c;
const PAGE_PROGRAM: u8 = 0x12;

fn transfer(command: u8, address: Option<u32>, data: XspiWidth) -> TransferConfig {
    TransferConfig {
        iwidth: XspiWidth::SING,
        instruction: Some(command.into()),
        adwidth: if address.is_some() { XspiWidth::SING } else { XspiWidth::NONE },
        adsize: AddressSize::_32bit,
        address,
        dwidth: data,
        ..TransferConfig::default()
    }
}

/// The driver refuses what is not a command.
fn taken(result: Result<(), XspiError>) {
    assert!(result.is_ok(), "a command of one line is one");
}

impl Bus {
    /// The bus, with the window of addresses open.
    pub fn new(driver: Xspi<'static, XSPI2, Blocking>) -> Self {
        let mut bus = Self(driver);
        bus.map();
        bus
    }
}

impl SerialBus for Bus {
    fn command(&mut self, command: u8) {
        taken(self.0.blocking_command(&transfer(command, None, XspiWidth::NONE)));
    }

    fn command_at(&mut self, command: u8, offset: u32) {
        taken(self.0.blocking_command(&transfer(command, Some(offset), XspiWidth::NONE)));
    }

    fn write(&mut self, command: u8, offset: u32, bytes: &[u8]) {
        taken(self.0.blocking_write(bytes, transfer(command, Some(offset), XspiWidth::SING)));
    }

    fn is_busy(&mut self) -> bool {
        let mut status = [0u8];
        taken(self.0.blocking_read(&mut status, transfer(READ_STATUS, None, XspiWidth::SING)));
        status[0] & 1 != 0
    }

    fn unmap(&mut self) {
        self.0.disable_memory_mapped_mode();
    }

    fn map(&mut self) {
        // SAFETY: the caches are nobody else's.
        let mut core = unsafe { Peripherals::steal() };
        core.SCB.clean_invalidate_dcache(&mut core.CPUID);
        let read = TransferConfig { dummy: DummyCycles::_8, ..transfer(FAST_READ, Some(0), XspiWidth::SING) };
        taken(self.0.enable_memory_mapped_mode(read, transfer(PAGE_PROGRAM, Some(0), XspiWidth::SING)));
    }
}
