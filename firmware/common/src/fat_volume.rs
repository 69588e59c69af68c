//! Finds a file in the FAT volume of an SD card.
//!
//! The library finds its first cluster. That it lies in one piece is read from the table of clusters, in which each names the next.

use core::ops::Range;

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::SpiDevice;
use embedded_sdmmc::fat::Bpb;
use embedded_sdmmc::{Block, ClusterId, Error, SdCard as Card, TimeSource, Timestamp, VolumeIdx, VolumeManager};

use crate::sd_card::{BLOCK_BYTES, CardError, read};

/// First block, from the beginning of the card, and length of a file in the root folder of the first partition. The card comes back.
///
/// # Errors
///
/// If there is no such file, or it does not lie in one piece.
// The 1.5 KiB of stack are given back before the file is read.
#[inline(never)]
pub fn find<SPI: SpiDevice, DELAY: DelayNs>(
    card: Card<SPI, DELAY>,
    card_bytes: u64,
    name: &'static str,
) -> Result<(Card<SPI, DELAY>, u32, u32), CardError> {
    let volume = Volume::open(&card, card_bytes)?;
    if !volume.root_ends(&card)? {
        return Err(CardError::NoVolume);
    }

    let volumes = VolumeManager::<_, _, 1, 1, 1>::new_with_limits(card, NoClock, 0);
    // The handles end with the manager. To close them would write to the card.
    let found = volumes
        .open_raw_volume(VolumeIdx(0))
        .and_then(|handle| volumes.open_root_dir(handle))
        .and_then(|handle| volumes.find_directory_entry(handle, name));
    let (card, NoClock) = volumes.free();
    let file = match found {
        Ok(file) if !file.attributes.is_directory() => file,
        Ok(_) | Err(Error::NotFound | Error::FilenameError(_)) => return Err(CardError::NoFile { name }),
        Err(Error::DeviceError(error)) => return Err(CardError::Unreadable { block: volume.start, error }),
        Err(_) => return Err(CardError::NoVolume),
    };

    if file.size == 0 {
        // It has no cluster.
        return Ok((card, volume.data, 0));
    }
    // The library keeps the number to itself.
    let first = volume.clusters().find(|&number| ClusterId::EMPTY + number == file.cluster);
    let first = first.ok_or(CardError::NoVolume)?;
    let piece_bytes = volume.piece_bytes(&card, first, file.size)?;
    if piece_bytes < file.size.into() {
        return Err(CardError::Fragmented { name, piece_bytes });
    }
    Ok((card, volume.block(first), file.size))
}

/// Where a FAT volume's parts lie. Blocks count from the beginning of the card.
struct Volume {
    start: u32,
    fat: u32,
    /// The block of cluster 2, which is the first.
    data: u32,
    clusters: u32,
    blocks_per_cluster: u8,
    /// Where the root folder begins. On FAT16 it lies before the clusters.
    root_cluster: Option<u32>,
}

impl Volume {
    fn open(card: &Card<impl SpiDevice, impl DelayNs>, card_bytes: u64) -> Result<Self, CardError> {
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
            root_cluster: bpb.fs_info_block().map(|_| bpb.first_root_dir_cluster()),
        };
        let end = start.checked_add(bpb.total_blocks())?;
        let is_whole = usize::from(bpb.bytes_per_block()) == BLOCK_BYTES
            && data < end
            && volume.root_cluster.is_none_or(|root| volume.clusters().contains(&root));
        is_whole.then_some((volume, end))
    }

    /// The numbers of its clusters.
    fn clusters(&self) -> Range<u32> {
        2..self.clusters.saturating_add(2)
    }

    fn is_fat32(&self) -> bool {
        self.root_cluster.is_some()
    }

    fn cluster_bytes(&self) -> u64 {
        u64::from(self.blocks_per_cluster) * BLOCK_BYTES as u64
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
        let mut table = Table::new(self, card);
        let (mut cluster, mut bytes) = (first, self.cluster_bytes());
        while bytes < file_bytes.into() && table.next(cluster)? == Some(cluster + 1) {
            cluster += 1;
            bytes += self.cluster_bytes();
        }
        Ok(bytes.min(file_bytes.into()))
    }

    /// Whether the root folder has an end. The library would follow a ring for ever.
    fn root_ends(&self, card: &Card<impl SpiDevice, impl DelayNs>) -> Result<bool, CardError> {
        const MAX_FOLDER_BYTES: u64 = 2 << 20;
        let mut table = Table::new(self, card);
        let (mut cluster, mut bytes) = (self.root_cluster, 0);
        while let Some(this) = cluster
            && bytes <= MAX_FOLDER_BYTES
        {
            cluster = table.next(this)?;
            bytes += self.cluster_bytes();
        }
        Ok(bytes <= MAX_FOLDER_BYTES)
    }
}

/// The table of clusters, a block of it in memory.
struct Table<'v, SPI: SpiDevice, DELAY: DelayNs> {
    volume: &'v Volume,
    card: &'v Card<SPI, DELAY>,
    /// The number of the block.
    number: Option<u32>,
    blocks: [Block; 1],
}

impl<'v, SPI: SpiDevice, DELAY: DelayNs> Table<'v, SPI, DELAY> {
    fn new(volume: &'v Volume, card: &'v Card<SPI, DELAY>) -> Self {
        Self { volume, card, number: None, blocks: [Block::new()] }
    }

    /// The cluster behind another; `None` behind the last.
    fn next(&mut self, cluster: u32) -> Result<Option<u32>, CardError> {
        let in_block = (BLOCK_BYTES / if self.volume.is_fat32() { 4 } else { 2 }) as u32;
        let (number, index) = (self.volume.fat + cluster / in_block, (cluster % in_block) as usize);
        if self.number != Some(number) {
            self.number = None;
            read(self.card, number, &mut self.blocks)?;
            self.number = Some(number);
        }
        let [block] = &self.blocks;
        let next = if self.volume.is_fat32() {
            // The upper four bits are reserved.
            u32::from_le_bytes(block.as_chunks().0[index]) & 0x0fff_ffff
        } else {
            u16::from_le_bytes(block.as_chunks().0[index]).into()
        };
        Ok(Some(next).filter(|next| self.volume.clusters().contains(next)))
    }
}

/// Where the first partition begins, if the card has a table of partitions.
fn partition_start(block: &Block) -> Option<u32> {
    const FIRST_PARTITION: usize = 446 + 8;
    let is_table = block.ends_with(&[0x55, 0xaa]);
    block[FIRST_PARTITION..].first_chunk().filter(|_| is_table).map(|&bytes| u32::from_le_bytes(bytes))
}

/// For files that are only read.
struct NoClock;

impl TimeSource for NoClock {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp { year_since_1970: 0, zero_indexed_month: 0, zero_indexed_day: 0, hours: 0, minutes: 0, seconds: 0 }
    }
}
