//! A file on an SD card, found once in its FAT volume and then read as a run of the card's blocks.
//!
//! The file must lie in one piece, as it does when it is copied to a freshly formatted card: its place is then two numbers, nothing of
//! the file system stays in memory, and a read of any length is one command to the card, straight into the reader's memory.

use core::fmt;

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::SpiDevice;
use embedded_sdmmc::embedded_sdmmc_types::sdcard::CardType;
use embedded_sdmmc::{Block, BlockDevice, BlockIdx, SdCard as Card, SdCardError};
use mbert_runtime::storage::BlockSource;

use crate::fat_volume::find;

/// Bytes of a block of a card.
pub const BLOCK_BYTES: usize = Block::LEN;

/// Why a file on a card cannot be read.
#[derive(Clone, Copy, Debug, defmt::Format)]
pub enum CardError {
    /// No card answers.
    NoCard(SdCardError),
    /// The card's first partition is no FAT16 or FAT32 volume, or a damaged one.
    NoVolume,
    /// The card ends before its volume does: an image that was not copied whole.
    CardTooShort {
        /// Where the volume ends.
        needed_bytes: u64,
        /// Where the card ends.
        card_bytes: u64,
    },
    /// The root folder of the volume has no such file.
    NoFile {
        /// Its name.
        name: &'static str,
    },
    /// The file lies in several pieces, or its end is missing.
    Fragmented {
        /// Its name.
        name: &'static str,
        /// Length of its first piece.
        piece_bytes: u64,
    },
    /// The card did not give a block, or a damaged one.
    Unreadable {
        /// The first of the blocks that were asked for, from the beginning of the card.
        block: u32,
        /// Why.
        error: SdCardError,
    },
    /// What was asked for are not whole blocks of the file.
    OutOfFile {
        /// The first byte asked for, from the beginning of the file.
        offset_bytes: u32,
        /// How many.
        length_bytes: usize,
    },
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCard(error) => write!(f, "no SD card answers ({error}): put one in"),
            Self::NoVolume => {
                write!(
                    f,
                    "the SD card's first partition is no FAT16 or FAT32 volume, or a damaged one: write it anew with mbert sd-image"
                )
            }
            Self::CardTooShort { needed_bytes, card_bytes } => write!(
                f,
                "the SD card has {card_bytes} bytes, but its volume ends at byte {needed_bytes}: copy the whole image to a card that holds it"
            ),
            Self::NoFile { name } => {
                write!(f, "the SD card has no file {name} in its root folder: copy the model there")
            }
            Self::Fragmented { name, piece_bytes } => write!(
                f,
                "{name} lies on the SD card in pieces, the first of {piece_bytes} bytes: copy it onto a freshly formatted card"
            ),
            Self::Unreadable { block, error } => {
                write!(
                    f,
                    "the SD card did not give block {block} ({error}): check its contacts, or copy the model to another card"
                )
            }
            Self::OutOfFile { offset_bytes, length_bytes } => {
                write!(f, "{length_bytes} bytes at {offset_bytes} are not whole blocks of the file on the SD card")
            }
        }
    }
}

impl core::error::Error for CardError {}

/// A file on a card: give it to a `BlockCache` of [`device_bytes`](Self::device_bytes).
pub struct CardFile<SPI: SpiDevice, DELAY: DelayNs> {
    card: Card<SPI, DELAY>,
    first_block: u32,
    bytes: u32,
}

impl<SPI: SpiDevice, DELAY: DelayNs> CardFile<SPI, DELAY> {
    /// Finds a file in the root folder of the first partition, by its short name of eight and three characters.
    ///
    /// # Errors
    ///
    /// If the card does not answer, has no FAT16 or FAT32 volume or not this file, or if the file does not lie in one piece.
    pub fn open(card: Card<SPI, DELAY>, name: &'static str) -> Result<Self, CardError> {
        let card_bytes = wake(&card)?;
        let (card, first_block, bytes) = find(card, card_bytes, name)?;
        Ok(Self { card, first_block, bytes })
    }

    /// Length of the file.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Length of its blocks, the last of which the file may not fill.
    pub fn device_bytes(&self) -> u32 {
        self.bytes.checked_next_multiple_of(BLOCK_BYTES as u32).unwrap_or(self.bytes)
    }
}

impl<SPI: SpiDevice, DELAY: DelayNs> BlockSource for CardFile<SPI, DELAY> {
    type Error = CardError;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), CardError> {
        let out_of_file = CardError::OutOfFile { offset_bytes: offset, length_bytes: buffer.len() };
        let inside = u64::from(offset) + buffer.len() as u64 <= self.device_bytes().into();
        let (blocks, rest) = buffer.as_chunks_mut();
        if !inside || !offset.is_multiple_of(BLOCK_BYTES as u32) || !rest.is_empty() {
            return Err(out_of_file);
        }
        if blocks.is_empty() {
            return Ok(());
        }
        let block = self.first_block + offset / BLOCK_BYTES as u32;
        read(&self.card, block, as_blocks(blocks))
    }
}

impl<SPI: SpiDevice, DELAY: DelayNs> fmt::Debug for CardFile<SPI, DELAY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { card: _, first_block, bytes } = self;
        f.debug_struct("CardFile").field("first_block", first_block).field("bytes", bytes).finish_non_exhaustive()
    }
}

/// Wakes a card up, if it is not awake yet; its length in bytes. [`CardFile::open`] does it too: this is for a board that has a faster
/// clock for cards that are awake.
///
/// # Errors
///
/// If there is no card, or none that can be used.
pub fn wake(card: &Card<impl SpiDevice, impl DelayNs>) -> Result<u64, CardError> {
    let bytes = match card.num_bytes() {
        Err(SdCardError::Cmd58Error) => wake_in_qemu(card),
        bytes => bytes,
    };
    bytes.map_err(CardError::NoCard)
}

/// The last command on the way asks whether the card counts bytes or blocks, and QEMU's cards answer it as if they were still asleep.
/// Their length tells the same.
fn wake_in_qemu(card: &Card<impl SpiDevice, impl DelayNs>) -> Result<u64, SdCardError> {
    const MAX_BYTES_COUNTED: u64 = 2 << 30;
    // The rest of the answer.
    card.spi(|spi| spi.read(&mut [0; 4])).map_err(|_| SdCardError::Transport)?;
    // SAFETY: the card has answered every other command as an awake one, and the next line proves it. Its length is read the same way
    // whatever it counts.
    unsafe { card.mark_card_as_init(CardType::SD2) };
    let bytes = card.num_bytes()?;
    if bytes > MAX_BYTES_COUNTED {
        // SAFETY: as above; longer cards count blocks.
        unsafe { card.mark_card_as_init(CardType::SdhcSdxc) };
    }
    Ok(bytes)
}

/// Reads blocks from one on.
pub(crate) fn read(
    card: &Card<impl SpiDevice, impl DelayNs>,
    block: u32,
    blocks: &mut [Block],
) -> Result<(), CardError> {
    /// Command 12 with its checksum, and time for the answer.
    const STOP: [u8; 16] = *b"\x4c\0\0\0\0\x61\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    card.read(blocks, BlockIdx(block)).map_err(|error| {
        // After an error the library leaves the card sending, and would take what it sends for answers from then on. Where even this
        // does not get through, the first error is told.
        let _ = card.spi(|spi| spi.write(&STOP));
        CardError::Unreadable { block, error }
    })
}

/// Bytes as the blocks that the library reads into.
fn as_blocks(blocks: &mut [[u8; BLOCK_BYTES]]) -> &mut [Block] {
    const { assert!(size_of::<Block>() == BLOCK_BYTES && align_of::<Block>() == 1) };
    // SAFETY: a block is its 512 bytes, a public field of it, and as the assertion says nothing else; so every block of bytes is one.
    unsafe { core::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), blocks.len()) }
}
