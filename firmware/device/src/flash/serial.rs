//! A serial NOR flash beside the chip, which the core reads through a window of addresses, and which takes commands to be changed.
//!
//! The commands are those of JEDEC's JESD216 with addresses of four bytes; of a board there remains how they get to the flash.
#![allow(unsafe_code)]

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use super::MappedFlash;

/// Takes one program or erase.
pub const WRITE_ENABLE: u8 = 0x06;
/// Programs a page, or a part of one.
pub const PAGE_PROGRAM: u8 = 0x12;
/// Erases 4 KiB.
pub const SECTOR_ERASE: u8 = 0x21;
/// Bytes of a page: a command programs within one.
const PAGE_BYTES: usize = 256;

/// How commands get to a flash.
pub trait SerialBus {
    /// Sends a command.
    fn command(&mut self, command: u8);

    /// Sends a command with an address.
    fn command_at(&mut self, command: u8, offset: u32);

    /// Sends a command with an address and bytes, one to `PAGE_BYTES` of them.
    fn write(&mut self, command: u8, offset: u32, bytes: &[u8]);

    /// Whether the last command is still at work.
    fn is_busy(&mut self) -> bool;

    /// Closes the window of addresses, so that commands can be sent.
    fn unmap(&mut self);

    /// Opens it again. What the core has cached of the flash before is not read any more.
    fn map(&mut self);
}

/// A flash behind a bus, erased in blocks of `ERASE` bytes: 4 KiB, or twice that where two flashes lie side by side.
pub struct SerialFlash<B, const ERASE: usize = 4096> {
    bus: B,
    window: *const u8,
    bytes: usize,
}

impl<B: SerialBus, const ERASE: usize> SerialFlash<B, ERASE> {
    /// The flash whose first byte the core reads at `window`, which is open.
    ///
    /// # Safety
    ///
    /// So many bytes are there to be read while the window is open, and nothing but the bus changes them. Who keeps a slice of a part of them
    /// must not read it while this flash is erased or written.
    pub const unsafe fn new(bus: B, window: *const u8, bytes: usize) -> Self {
        Self { bus, window, bytes }
    }

    /// Has the flash do something, and waits for it.
    fn change(&mut self, send: impl FnOnce(&mut B)) {
        self.bus.unmap();
        self.bus.command(WRITE_ENABLE);
        send(&mut self.bus);
        while self.bus.is_busy() {}
        self.bus.map();
    }
}

impl<B, const ERASE: usize> ErrorType for SerialFlash<B, ERASE> {
    type Error = NorFlashErrorKind;
}

impl<B: SerialBus, const ERASE: usize> ReadNorFlash for SerialFlash<B, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(self.mapped(offset, bytes.len() as u32));
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<B: SerialBus, const ERASE: usize> NorFlash for SerialFlash<B, ERASE> {
    // Two flashes side by side take an even number.
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        for block in (from..to).step_by(ERASE) {
            self.change(|bus| bus.command_at(SECTOR_ERASE, block));
        }
        Ok(())
    }

    fn write(&mut self, mut offset: u32, mut bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        while !bytes.is_empty() {
            let room = PAGE_BYTES - offset as usize % PAGE_BYTES;
            let (page, rest) = bytes.split_at(room.min(bytes.len()));
            self.change(|bus| bus.write(PAGE_PROGRAM, offset, page));
            offset += page.len() as u32;
            bytes = rest;
        }
        Ok(())
    }
}

impl<B: SerialBus, const ERASE: usize> MappedFlash for SerialFlash<B, ERASE> {
    fn mapped(&self, offset: u32, bytes: u32) -> &[u8] {
        let offset = (offset as usize).min(self.bytes);
        let bytes = (bytes as usize).min(self.bytes - offset);
        // SAFETY: the range lies inside, and the window is open whenever no method with `&mut self` runs.
        unsafe { core::slice::from_raw_parts(self.window.add(offset), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 3 * 4096;

    /// A chip that refuses what a real one would not do.
    struct Chip<'m> {
        cells: &'m mut [u8; BYTES],
        is_mapped: bool,
        is_enabled: bool,
        busy: u32,
    }

    impl Chip<'_> {
        fn begin(&mut self) {
            assert!(!self.is_mapped && self.busy == 0, "a command in between");
            assert!(core::mem::take(&mut self.is_enabled), "not enabled");
            self.busy = 3;
        }
    }

    impl SerialBus for Chip<'_> {
        fn command(&mut self, command: u8) {
            assert!(!self.is_mapped && self.busy == 0 && command == WRITE_ENABLE);
            self.is_enabled = true;
        }

        fn command_at(&mut self, command: u8, offset: u32) {
            self.begin();
            assert!(command == SECTOR_ERASE && offset.is_multiple_of(4096));
            self.cells[offset as usize..][..4096].fill(0xFF);
        }

        fn write(&mut self, command: u8, offset: u32, bytes: &[u8]) {
            self.begin();
            let (first, last) = (offset as usize / 256, (offset as usize + bytes.len() - 1) / 256);
            assert!(command == PAGE_PROGRAM && first == last, "a page is left");
            self.cells[offset as usize..].iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        }

        fn is_busy(&mut self) -> bool {
            self.busy = self.busy.saturating_sub(1);
            self.busy > 0
        }

        fn unmap(&mut self) {
            assert!(core::mem::take(&mut self.is_mapped));
        }

        fn map(&mut self) {
            assert_eq!(self.busy, 0);
            self.is_mapped = true;
        }
    }

    #[test]
    fn pages_and_sectors_are_changed_by_the_commands_of_the_chip() {
        let mut cells = [0; BYTES];
        let window = cells.as_mut_ptr();
        // SAFETY: the memory is there, and the chip alone writes to it, while nobody reads.
        let cells = unsafe { &mut *window.cast::<[u8; BYTES]>() };
        let chip = Chip { cells, is_mapped: true, is_enabled: false, busy: 0 };
        // SAFETY: as above.
        let mut flash = unsafe { SerialFlash::<_, 4096>::new(chip, window, BYTES) };
        flash.erase(4096, 12288).unwrap();
        assert_eq!(flash.mapped(4092, 8), [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        let bytes: [u8; 600] = core::array::from_fn(|n| n as u8);
        flash.write(4096 + 100, &bytes).unwrap();
        let mut found = [0; 602];
        flash.read(4096 + 99, &mut found).unwrap();
        assert_eq!((found[0], &found[1..601], found[601]), (0xFF, &bytes[..], 0xFF));
        assert!(flash.bus.is_mapped);

        assert_eq!(flash.write(1, &[0; 4]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.erase(0, 100), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.erase(8192, 16384), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.mapped(12280, 100).len(), 8);
    }
}
