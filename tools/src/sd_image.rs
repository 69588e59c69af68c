//! `mbert sd-image`: the image of an SD card that holds a model, for boards that read it from there.
//!
//! One partition with a FAT volume, and in its root folder the model. The volume is new, so the file lies in one piece, as boards want it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::StreamSlice;
use mbert_runtime::format::layout::WeightLayout;

use crate::atomic_file::write_atomically;
use crate::cli::boards::SdImageArgs;
use crate::model_file::ModelFile;

/// What boards look for in the root folder.
pub const FILE_NAME: &str = "MODEL.MBT";

const BLOCK_BYTES: u64 = 512;
/// Where the partition begins: cards are erased in pieces of this size or less.
const PARTITION_START: u64 = 1 << 20;
/// The smallest image: on a smaller volume the file system would be FAT12, which boards do not read.
const MIN_IMAGE_BYTES: u64 = 8 << 20;

/// Runs the command.
///
/// # Errors
///
/// A model that cannot be read or is damaged, an image that cannot be written.
pub fn run(args: &SdImageArgs, out: &mut impl Write) -> Result<ExitCode> {
    let file = ModelFile::named(&args.model, WeightLayout::RowMajor)?;
    let bytes = write(&args.output, file.bytes())?;
    writeln!(out, "{}: {bytes} bytes, {FILE_NAME} of {} bytes", args.output.display(), file.bytes().len())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the image of a card with this model; its size.
///
/// # Errors
///
/// A model that no file can hold, an image that cannot be written.
pub fn write(path: &Path, model: &[u8]) -> Result<u64> {
    u32::try_from(model.len()).context("a file on a FAT volume has less than 4 GiB")?;
    let bytes = image_bytes(model.len() as u64);
    write_atomically(path, |image| write_image(image.get_ref(), bytes, model))?;
    Ok(bytes)
}

/// The model in the image of a card.
///
/// # Errors
///
/// If the image, or the model in it, cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let image = File::options().read(true).write(true).open(path)?;
    let bytes = image.metadata()?.len();
    let files = FileSystem::new(StreamSlice::new(image, PARTITION_START, bytes)?, FsOptions::new())?;
    let mut model = Vec::new();
    files.root_dir().open_file(FILE_NAME)?.read_to_end(&mut model)?;
    Ok(model)
}

/// The size of an image: a power of two, as emulators want it, with room for a model and the tables of the file system.
fn image_bytes(model_bytes: u64) -> u64 {
    // 4 bytes for each cluster of 4 KiB in each of two tables, or less; root folder, boot sector and cut clusters.
    let tables = model_bytes.div_ceil(256) + (1 << 19);
    (PARTITION_START + model_bytes + tables).next_power_of_two().max(MIN_IMAGE_BYTES)
}

/// Writes an image to a new file. What holds nothing stays a hole in it.
fn write_image(mut file: &File, bytes: u64, model: &[u8]) -> io::Result<()> {
    file.set_len(bytes)?;
    let volume = || StreamSlice::new(file, PARTITION_START, bytes);
    fatfs::format_volume(volume()?, FormatVolumeOptions::new().volume_label(*b"MBERT      "))?;
    let files = FileSystem::new(volume()?, FsOptions::new())?;
    let mut copy = files.root_dir().create_file(FILE_NAME)?;
    copy.write_all(model)?;
    copy.flush()?;
    drop(copy);
    let fat_type = files.fat_type();
    files.unmount()?;
    file.rewind()?;
    file.write_all(&partition_table(fat_type, bytes))
}

/// The first block of a card: a table of four partitions, of which there is one.
fn partition_table(fat_type: FatType, image_bytes: u64) -> [u8; BLOCK_BYTES as usize] {
    let mut block = [0; BLOCK_BYTES as usize];
    let blocks = |bytes: u64| ((bytes / BLOCK_BYTES) as u32).to_le_bytes();
    // Cylinders, heads and sectors say that they say nothing: block numbers follow.
    let unused = [0xfe, 0xff, 0xff];
    block[447..450].copy_from_slice(&unused);
    block[450] = if fat_type == FatType::Fat32 { 0x0c } else { 0x0e };
    block[451..454].copy_from_slice(&unused);
    block[454..458].copy_from_slice(&blocks(PARTITION_START));
    block[458..462].copy_from_slice(&blocks(image_bytes - PARTITION_START));
    block[510..].copy_from_slice(&[0x55, 0xaa]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_any_length_fit_their_image_up_to_the_last_byte() {
        // As long as an image of 8 and of 32 MiB can have it, a byte longer, and the shortest.
        let longest = |image: u64| (0..image).rev().find(|&bytes| image_bytes(bytes) == image).unwrap();
        let (small, large) = (longest(8 << 20), longest(32 << 20));
        assert!(large > 30 << 20);
        for length in [0, 1, small, small + 1, large, large + 1] {
            let model: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let image = tempfile::tempfile().unwrap();
            let bytes = image_bytes(length);
            write_image(&image, bytes, &model).unwrap();
            assert_eq!(image.metadata().unwrap().len(), bytes);
            let volume = StreamSlice::new(&image, PARTITION_START, bytes).unwrap();
            let files = FileSystem::new(volume, FsOptions::new()).unwrap();
            assert_eq!(files.fat_type(), FatType::Fat16);
            let mut found = Vec::new();
            files.root_dir().open_file(FILE_NAME).unwrap().read_to_end(&mut found).unwrap();
            assert!(found == model, "{length} bytes");
        }
    }
}
