//! A flash whose power fails in the middle of an operation, and leaves it half done.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use mbert_device::flash::MappedFlash;
use mbert_tests::splitmix64;

/// What of an operation is done when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing: the operation before it was the last.
    Nothing,
    /// The first cells, and of the next word some bits.
    Beginning,
    /// The last cells.
    End,
    /// Some bits of each cell.
    Bits,
}

impl Tear {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Beginning, Self::End, Self::Bits];
}

/// When the power fails.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Operations that are done whole.
    pub after: u64,
    /// What becomes of the next one.
    pub tear: Tear,
}

/// A flash with a plug.
pub struct PowerCuts<F> {
    flash: F,
    cut: Option<Cut>,
    operations: u64,
    is_off: bool,
}

/// The power is off, or the flash says no.
#[derive(Clone, Copy, Debug)]
pub struct Off;

impl NorFlashError for Off {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<F: MappedFlash> PowerCuts<F> {
    /// Switched on, until the cut.
    pub fn new(flash: F, cut: Option<Cut>) -> Self {
        Self { flash, cut, operations: 0, is_off: false }
    }

    /// Erases of a block and programs so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Does an operation that turns what was there into `wanted`, or a part of it.
    fn operate(&mut self, offset: u32, wanted: &[u8], is_erase: bool) -> Result<(), Off> {
        if self.is_off {
            return Err(Off);
        }
        let operation = self.operations;
        self.operations += 1;
        let Some(Cut { tear, .. }) = self.cut.filter(|cut| cut.after == operation) else {
            return self.set(offset, wanted, is_erase);
        };
        self.is_off = true;
        let mut bytes = self.flash.mapped(offset, wanted.len() as u32).to_vec();
        let random = |k: usize| splitmix64(operation, k as u64) as u8;
        let cells = splitmix64(operation, u64::MAX) as usize % (bytes.len() + 1);
        for (k, (byte, &wanted)) in bytes.iter_mut().zip(wanted).enumerate() {
            let done = match tear {
                Tear::Nothing => 0,
                Tear::Beginning if k < cells => 0xFF,
                Tear::Beginning if k < cells + F::WRITE_SIZE => random(k),
                Tear::End if k >= cells => 0xFF,
                Tear::Beginning | Tear::End => 0,
                Tear::Bits => random(k),
            };
            *byte = (*byte & !done) | (wanted & done);
        }
        if tear != Tear::Nothing {
            self.set(offset, &bytes, is_erase)?;
        }
        Err(Off)
    }

    fn set(&mut self, offset: u32, bytes: &[u8], is_erase: bool) -> Result<(), Off> {
        if is_erase {
            self.flash.erase(offset, offset + bytes.len() as u32).expect("a block is erased");
        }
        if !is_erase || bytes.iter().any(|&byte| byte != 0xFF) {
            self.flash.write(offset, bytes).expect("erased words are programmed once");
        }
        Ok(())
    }
}

impl<F> ErrorType for PowerCuts<F> {
    type Error = Off;
}

impl<F: MappedFlash> ReadNorFlash for PowerCuts<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Off> {
        if self.is_off { Err(Off) } else { self.flash.read(offset, bytes).map_err(|_| Off) }
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: MappedFlash> NorFlash for PowerCuts<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Off> {
        (from..to).step_by(F::ERASE_SIZE).try_for_each(|block| self.operate(block, &vec![0xFF; F::ERASE_SIZE], true))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Off> {
        self.operate(offset, bytes, false)
    }
}

impl<F: MappedFlash> MappedFlash for PowerCuts<F> {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        self.flash.mapped(offset, bytes)
    }
}
