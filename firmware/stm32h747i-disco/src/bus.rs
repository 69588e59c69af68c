//! The QUADSPI, with two flashes side by side: each takes every command, and every second byte.

use cortex_m::Peripherals;
use embassy_stm32::mode::Blocking;
use embassy_stm32::pac::QUADSPI as QUADSPI_REGISTERS;
use embassy_stm32::peripherals::QUADSPI;
use embassy_stm32::qspi::enums::{DummyCycles, QspiWidth};
use embassy_stm32::qspi::{Qspi, TransferConfig};
use mbert_firmware::SerialBus;

/// The bus.
pub struct Bus(Qspi<'static, QUADSPI, Blocking>);

const READ_STATUS: u8 = 0x05;
/// Quad output, addresses of four bytes.
const FAST_READ: u8 = 0x6c;

fn transfer(command: u8, address: Option<u32>, data: QspiWidth) -> TransferConfig {
    TransferConfig {
        iwidth: QspiWidth::SING,
        awidth: if address.is_some() { QspiWidth::SING } else { QspiWidth::NONE },
        dwidth: data,
        instruction: command,
        address,
        dummy: DummyCycles::_0,
    }
}

impl Bus {
    /// The bus, with the window of addresses open.
    pub fn new(driver: Qspi<'static, QUADSPI, Blocking>) -> Self {
        let mut bus = Self(driver);
        bus.map();
        bus
    }
}

impl SerialBus for Bus {
    fn command(&mut self, command: u8) {
        self.0.blocking_command(transfer(command, None, QspiWidth::NONE));
    }

    fn command_at(&mut self, command: u8, offset: u32) {
        self.0.blocking_command(transfer(command, Some(offset), QspiWidth::NONE));
    }

    fn write(&mut self, command: u8, offset: u32, bytes: &[u8]) {
        self.0.blocking_write(bytes, transfer(command, Some(offset), QspiWidth::SING));
    }

    fn is_busy(&mut self) -> bool {
        let mut status = [0; 2];
        self.0.blocking_read(&mut status, transfer(READ_STATUS, None, QspiWidth::SING));
        status.iter().any(|status| status & 1 != 0)
    }

    fn unmap(&mut self) {
        // The driver has no way out.
        QUADSPI_REGISTERS.cr().modify(|control| control.set_abort(true));
        while QUADSPI_REGISTERS.sr().read().busy() {}
    }

    fn map(&mut self) {
        // SAFETY: the caches are nobody else's.
        let mut core = unsafe { Peripherals::steal() };
        core.SCB.clean_invalidate_dcache(&mut core.CPUID);
        let read = TransferConfig { dummy: DummyCycles::_8, ..transfer(FAST_READ, Some(0), QspiWidth::QUAD) };
        self.0.enable_memory_map(&read);
    }
}
