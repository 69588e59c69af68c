//! Arm's PrimeCell PL022, a synchronous serial port, as an SPI bus in mode 0 with words of 8 bits.
//!
//! Specification: Arm DDI 0194. Stellaris and its successors have it, the RP2040, and many boards of Arm itself.

use core::convert::Infallible;

use embedded_hal::spi::{ErrorType, SpiBus};

use crate::mmio::Mmio;

/// Words that the port holds in each direction.
const FIFO_WORDS: usize = 8;
/// What is sent where only the answer matters.
const IDLE: u8 = 0xff;

/// A port as the bus's master. Its chip select line is not used: a pin does that.
#[derive(Debug)]
pub struct Pl022 {
    registers: Mmio<u32>,
}

impl Pl022 {
    const CR0: usize = 0x00;
    const CR1: usize = 0x04;
    const DR: usize = 0x08;
    const SR: usize = 0x0c;
    const CPSR: usize = 0x10;

    const CR0_8_BITS: u32 = 7;
    const CR1_ENABLED: u32 = 1 << 1;
    const SR_BUSY: u32 = 1 << 4;

    /// Starts the port at an address, one bit every `divider` cycles of its clock: see [`set_divider`](Self::set_divider).
    ///
    /// # Safety
    ///
    /// Such a port is there, has a clock, and nobody else uses it.
    pub unsafe fn new(base: usize, divider: u8) -> Self {
        // SAFETY: the caller's promise; the offsets are those of this port.
        let mut this = Self { registers: unsafe { Mmio::new(base) } };
        this.registers.write(Self::CR1, 0);
        this.registers.write(Self::CR0, Self::CR0_8_BITS);
        this.set_divider(divider);
        this.registers.write(Self::CR1, Self::CR1_ENABLED);
        this
    }

    /// One bit every `divider` cycles of the port's clock, an even number of at least 2.
    pub fn set_divider(&mut self, divider: u8) {
        self.registers.write(Self::CPSR, divider.into());
    }

    /// Sends words, as many as the port holds at most, and puts in their place what comes back.
    fn exchange(&mut self, words: &mut [u8]) {
        // Both directions hold all of them, so that none is lost, however late it is fetched.
        words.iter().for_each(|&word| self.registers.write(Self::DR, word.into()));
        while self.registers.read(Self::SR) & Self::SR_BUSY != 0 {}
        words.iter_mut().for_each(|word| *word = self.registers.read(Self::DR) as u8);
    }
}

impl ErrorType for Pl022 {
    type Error = Infallible;
}

impl SpiBus for Pl022 {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        words.fill(IDLE);
        self.transfer_in_place(words)
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Infallible> {
        for words in words.chunks(FIFO_WORDS) {
            let mut copy = [IDLE; FIFO_WORDS];
            let (copy, _) = copy.split_at_mut(words.len());
            copy.copy_from_slice(words);
            self.exchange(copy);
        }
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Infallible> {
        let both = read.len().min(write.len());
        let ((read, read_on), (write, write_on)) = (read.split_at_mut(both), write.split_at(both));
        read.copy_from_slice(write);
        self.transfer_in_place(read)?;
        self.read(read_on)?;
        self.write(write_on)
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        words.chunks_mut(FIFO_WORDS).for_each(|words| self.exchange(words));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        // Nothing is left behind by the methods above.
        Ok(())
    }
}
