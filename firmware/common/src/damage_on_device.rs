//! A device that gives one byte otherwise than it lies there, or fails: where the model does not fit the RAM, it is damaged on its way.

use core::fmt::Write;

use mbert_runtime::error::FormatError;
use mbert_runtime::model::Model;
use mbert_runtime::storage::{BlockCache, BlockSource, Blocks};

use crate::error::Failure;
use crate::semihosting::Console;

/// What happens to a byte.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Flipped(u32),
    Unreadable(u32),
}

/// A device with some damage.
#[derive(Debug)]
struct Damaged<D> {
    device: D,
    damage: Damage,
}

impl<D: BlockSource> BlockSource for Damaged<D> {
    /// `None` where the damage is ours.
    type Error = Option<D::Error>;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.device.read(offset, buffer).map_err(Some)?;
        let place = |at: u32| at.checked_sub(offset).map(|place| place as usize).filter(|&place| place < buffer.len());
        match self.damage {
            Damage::Unreadable(at) if place(at).is_some() => return Err(None),
            Damage::Flipped(at) => {
                let byte = place(at).and_then(|place| buffer.get_mut(place));
                byte.into_iter().for_each(|byte| *byte ^= 1 << (at % 8));
            }
            Damage::None | Damage::Unreadable(_) => {}
        }
        Ok(())
    }
}

/// Flips each byte of header and table and some of every section of a model of `bytes` bytes on a device, cuts it, and makes bytes
/// unreadable: each must be refused.
///
/// # Errors
///
/// A model that is damaged already, or damage that was not refused.
pub fn sweep<D: BlockSource, const BLOCKS: usize, const BLOCK_BYTES: usize>(
    device: &mut D,
    bytes: u32,
    device_bytes: u32,
    window: &mut Blocks<BLOCKS, BLOCK_BYTES>,
) -> Result<(), Failure> {
    let mut out = Console::out();
    let mut with = |damage: Damage, bytes: u32| -> Result<u32, FormatError> {
        let cache = BlockCache::new(Damaged { device: &mut *device, damage }, device_bytes, &mut *window);
        let model = Model::open(cache.section(0, bytes))?;
        model.verify()?;
        Ok(model.header().table_end() as u32)
    };
    let table_end = with(Damage::None, bytes)?;
    let mut refuse = |what: &'static str, damage: Damage, bytes: u32| match with(damage, bytes) {
        Err(_) => Ok(()),
        Ok(_) => Err(Failure::Check { what, at: bytes as usize }),
    };
    for at in 0..table_end {
        refuse("header or table flipped", Damage::Flipped(at), bytes)?;
    }
    writeln!(out, "each byte of header and section table flipped: {table_end} refused")?;
    // Odd steps, so that they fall on every kind of byte.
    let places = || (table_end..bytes).step_by((bytes - table_end) as usize / 24);
    let mut refused = 0;
    for at in places().chain([bytes - 1]) {
        refuse("section flipped", Damage::Flipped(at), bytes)?;
        refuse("unreadable", Damage::Unreadable(at), bytes)?;
        refused += 2;
    }
    for cut in [0, 1, 63, table_end, bytes / 2, bytes - 1] {
        refuse("cut", Damage::None, cut)?;
        refused += 1;
    }
    writeln!(out, "bytes of sections flipped or unreadable, models cut short: {refused} refused")?;
    Ok(())
}
