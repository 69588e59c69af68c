//! The board's SD card: on SSI0, by itself.

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::SpiBus;
use embedded_hal_bus::spi::ExclusiveDevice;
use embedded_sdmmc::SdCard;
use mbert_firmware::pl022::Pl022;
use mbert_firmware::sd_card::{self, CardError, CardFile};

use crate::pins::{CardSelect, SSI0};

/// What the model is called on the card.
const MODEL_FILE: &str = "MODEL.MBT";

/// The clock that CPU and port start with, 12 MHz.
const CYCLE_NS: u32 = 83;
/// At most 400 kHz while a card wakes up, then as fast as the port can.
const SLOW_DIVIDER: u8 = 30;
const FAST_DIVIDER: u8 = 2;

/// The model on the card.
pub type ModelFile = CardFile<ExclusiveDevice<Pl022, CardSelect, Wait>, Wait>;

/// Connects the card, and finds the model on it.
///
/// # Errors
///
/// As [`CardFile::open`].
///
/// # Safety
///
/// As [`CardSelect::connect`].
pub unsafe fn open_model() -> Result<ModelFile, CardError> {
    // SAFETY: the caller's promise.
    let select = unsafe { CardSelect::connect() };
    // SAFETY: the port has a clock now, and this is its only user.
    let mut bus = unsafe { Pl022::new(SSI0, SLOW_DIVIDER) };
    // A card that has just got its power wants 74 bits before it is selected.
    let Ok(()) = bus.write(&[0xff; 10]);
    let Ok(device) = ExclusiveDevice::new(bus, select, Wait);
    let card = SdCard::new(device, Wait);
    sd_card::wake(&card)?;
    card.spi(|device| device.bus_mut().set_divider(FAST_DIVIDER));
    CardFile::open(card, MODEL_FILE)
}

/// Waits by the CPU's clock.
pub struct Wait;

impl DelayNs for Wait {
    fn delay_ns(&mut self, nanoseconds: u32) {
        // A turn takes three cycles at least.
        for _ in 0..nanoseconds.div_ceil(3 * CYCLE_NS) {
            core::hint::spin_loop();
        }
    }
}
