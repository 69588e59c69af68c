//! Registers of a device in memory.

use core::marker::PhantomData;

/// The registers of a device from its base address on, each a `Word` wide: `u32` or `u8`. A register is named by its offset in bytes.
#[derive(Debug)]
pub struct Mmio<Word> {
    base: usize,
    word: PhantomData<Word>,
}

impl<Word: Copy> Mmio<Word> {
    /// The registers from this address on.
    ///
    /// # Safety
    ///
    /// Every offset that is read or written later is that of such a register there, which the caller may use in this way.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base, word: PhantomData }
    }

    /// Reads the register at an offset.
    pub fn read(&self, offset: usize) -> Word {
        // SAFETY: whoever called `new` promised that the register is there and theirs to read.
        unsafe { ((self.base + offset) as *const Word).read_volatile() }
    }

    /// Writes the register at an offset.
    pub fn write(&self, offset: usize, value: Word) {
        // SAFETY: whoever called `new` promised that the register is there and theirs to write.
        unsafe { ((self.base + offset) as *mut Word).write_volatile(value) }
    }
}
