//! A file on an SD card, found once in its FAT volume and then read as a run of the card's blocks.
//!
//! The file must lie in one piece, as it does when it is copied to a freshly formatted card: its place is then two numbers, nothing of
//! the file system stays in memory, and a read of any length is one command to the card, straight into the reader's memory.

use core::fmt;
use core::ops::Range;

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::SpiDevice;
use embedded_sdmmc::embedded_sdmmc_types::sdcard::CardType;
use embedded_sdmmc::fat::Bpb;
use embedded_sdmmc::{
    Block, BlockDevice, BlockIdx, ClusterId, Error, SdCard as Card, SdCardError, TimeSource, Timestamp, VolumeIdx,
    VolumeManager,
};
use mbert_runtime::storage::BlockSource;

/// Bytes of a block of a card.
pub const BLOCK_BYTES: usize = Block::LEN;

/// Why a file on a card cannot be read.
#[derive(Clone, Copy, Debug)]
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
    // The 1.5 KiB of stack are given back before the file is read.
    #[inline(never)]
    pub fn open(card: Card<SPI, DELAY>, name: &'static str) -> Result<Self, CardError> {
        let volume = Volume::open(&card)?;

        let volumes = VolumeManager::<_, _, 1, 1, 1>::new_with_limits(card, NoClock, 0);
        // The handles end with the manager. To close them would write to the card.
        let found = volumes
            .open_raw_volume(VolumeIdx(0))
            .and_then(|handle| volumes.open_root_dir(handle))
            .and_then(|handle| volumes.find_directory_entry(handle, name));
        let (card, NoClock) = volumes.free();
        let file = match found {
            Ok(file) if !file.attributes.is_directory() => Ok(file),
            Ok(_) | Err(Error::NotFound | Error::FilenameError(_)) => Err(CardError::NoFile { name }),
            Err(Error::DeviceError(error)) => Err(CardError::Unreadable { block: volume.start, error }),
            Err(_) => Err(CardError::NoVolume),
        }?;

        let first_block = if file.size == 0 {
            volume.data
        } else {
            // The library keeps the number to itself.
            let first = volume.clusters().find(|&number| ClusterId::EMPTY + number == file.cluster);
            let first = first.ok_or(CardError::NoVolume)?;
            let piece_bytes = volume.piece_bytes(&card, first, file.size)?;
            if piece_bytes < file.size.into() {
                return Err(CardError::Fragmented { name, piece_bytes });
            }
            volume.block(first)
        };
        Ok(Self { card, first_block, bytes: file.size })
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

/// Where a FAT volume's parts lie. Blocks count from the beginning of the card.
struct Volume {
    start: u32,
    fat: u32,
    /// The block of cluster 2, which is the first.
    data: u32,
    clusters: u32,
    blocks_per_cluster: u8,
    is_fat32: bool,
}

impl Volume {
    fn open(card: &Card<impl SpiDevice, impl DelayNs>) -> Result<Self, CardError> {
        let card_bytes = wake(card)?;
        let mut blocks = [Block::new()];
        read(card, 0, &mut blocks)?;
        let is_there = |&start: &u32| u64::from(start) * (BLOCK_BYTES as u64) < card_bytes;
        let start = partition_start(&blocks[0]).filter(is_there).ok_or(CardError::NoVolume)?;
        read(card, start, &mut blocks)?;
        let (volume, end) = Self::parse(start, &blocks[0]).ok_or(CardError::NoVolume)?;
        let needed_bytes = u64::from(end) * BLOCK_BYTES as u64;
        // Behind their end some cards read as 0.
        if needed_bytes > card_bytes {
            return Err(CardError::CardTooShort { needed_bytes, card_bytes });
        }
        Ok(volume)
    }

    /// Reads the boot sector, and checks of it what the library relies on. With it comes the volume's end.
    fn parse(start: u32, boot_sector: &Block) -> Option<(Self, u32)> {
        const BLOCKS_PER_CLUSTER: usize = 13;
        // The library divides by it.
        if boot_sector[BLOCKS_PER_CLUSTER] == 0 {
            return None;
        }
        let bpb = Bpb::create_from_bytes(boot_sector).ok()?;
        let root_blocks = (u32::from(bpb.root_entries_count()) * 32).div_ceil(BLOCK_BYTES as u32);
        let fat = start.checked_add(bpb.reserved_block_count().into())?;
        let data = fat.checked_add(bpb.fat_size().checked_mul(bpb.num_fats().into())?)?.checked_add(root_blocks)?;
        let volume = Self {
            start,
            fat,
            data,
            clusters: bpb.total_clusters(),
            blocks_per_cluster: bpb.blocks_per_cluster(),
            is_fat32: bpb.fs_info_block().is_some(),
        };
        let end = start.checked_add(bpb.total_blocks())?;
        let is_whole = usize::from(bpb.bytes_per_block()) == BLOCK_BYTES
            && data < end
            && (!volume.is_fat32 || volume.clusters().contains(&bpb.first_root_dir_cluster()));
        is_whole.then_some((volume, end))
    }

    /// The numbers of its clusters.
    fn clusters(&self) -> Range<u32> {
        2..self.clusters.saturating_add(2)
    }

    /// The first block of a cluster.
    fn block(&self, cluster: u32) -> u32 {
        // No farther than the end of the volume, whose number has 32 bits.
        self.data + (cluster - self.clusters().start) * u32::from(self.blocks_per_cluster)
    }

    /// How many bytes of a file lie in a row from its first cluster on.
    fn piece_bytes(
        &self,
        card: &Card<impl SpiDevice, impl DelayNs>,
        first: u32,
        file_bytes: u32,
    ) -> Result<u64, CardError> {
        let cluster_bytes = u64::from(self.blocks_per_cluster) * BLOCK_BYTES as u64;
        let entries_in_block = (BLOCK_BYTES / if self.is_fat32 { 4 } else { 2 }) as u32;
        let mut blocks = [Block::new()];
        let mut bytes = cluster_bytes;
        for cluster in first..self.clusters().end - 1 {
            if bytes >= file_bytes.into() {
                break;
            }
            let index = cluster % entries_in_block;
            if index == 0 || cluster == first {
                read(card, self.fat + cluster / entries_in_block, &mut blocks)?;
            }
            let [table] = &blocks;
            let next = if self.is_fat32 {
                // The upper four bits are reserved.
                u32::from_le_bytes(table.as_chunks().0[index as usize]) & 0x0fff_ffff
            } else {
                u16::from_le_bytes(table.as_chunks().0[index as usize]).into()
            };
            if next != cluster + 1 {
                break;
            }
            bytes += cluster_bytes;
        }
        Ok(bytes.min(file_bytes.into()))
    }
}

/// Wakes a card up, if it is not awake yet; its length in bytes. [`CardFile::open`] does it too; a board that raises the bus's clock afterwards does it first.
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

/// Where the first partition begins, if the card has a table of partitions.
fn partition_start(block: &Block) -> Option<u32> {
    const FIRST_PARTITION: usize = 446 + 8;
    let is_table = block.ends_with(&[0x55, 0xaa]);
    block[FIRST_PARTITION..].first_chunk().filter(|_| is_table).map(|&bytes| u32::from_le_bytes(bytes))
}

fn read(card: &Card<impl SpiDevice, impl DelayNs>, block: u32, blocks: &mut [Block]) -> Result<(), CardError> {
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

/// For files that are only read.
struct NoClock;

impl TimeSource for NoClock {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp { year_since_1970: 0, zero_indexed_month: 0, zero_indexed_day: 0, hours: 0, minutes: 0, seconds: 0 }
    }
}
