//! The flash of a machine in QEMU: a file that is its memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{Flasher, compare};
use crate::atomic_file::write_atomically;
use crate::inspect::grouped;

/// So much is written between two calls of the progress.
const PIECE_BYTES: usize = 1 << 20;
/// The end of the flash, where a firmware with slots keeps its state: it is left erased, so that the model is found at the next start.
const STATE_BYTES: u64 = 8192;

/// A flash in a file.
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub file_bytes: u64,
    /// Where the flash begins in it.
    pub offset: u64,
    /// Length of the flash.
    pub flash_bytes: u64,
}

impl Image {
    /// Writes to a new file. What holds nothing stays a hole in it.
    fn write_to(&self, mut file: &File, model: &[u8], progress: &dyn Fn(u64)) -> io::Result<()> {
        file.set_len(self.file_bytes)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut written = 0;
        for piece in model.chunks(PIECE_BYTES) {
            file.write_all(piece)?;
            written += piece.len() as u64;
            progress(written);
        }
        file.seek(SeekFrom::Start(self.offset + self.flash_bytes - STATE_BYTES))?;
        file.write_all(&[0xff; STATE_BYTES as usize])
    }
}

impl Flasher for Image {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
        let room = self.flash_bytes - STATE_BYTES;
        ensure!(
            model.len() as u64 <= room,
            "the model has {} bytes, but the flash {}: take a smaller one, for example tiny",
            grouped(model.len() as u64),
            grouped(room)
        );
        write_atomically(&self.path, |file| self.write_to(file.get_ref(), model, progress))
    }

    fn verify(&mut self, model: &[u8]) -> Result<&'static str> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut found = Vec::new();
        file.take(model.len() as u64).read_to_end(&mut found)?;
        compare(&found, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_lies_where_the_flash_begins_and_the_state_is_erased() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash.img");
        let mut image = Image { path: path.clone(), file_bytes: 100_000, offset: 1000, flash_bytes: 50_000 };
        let model: Vec<u8> = (1..=41_808u32).map(|n| (n % 251) as u8).collect();
        image.write(&model, &|_| {}).unwrap();
        assert_eq!(image.verify(&model).unwrap(), "read back and compared");
        let found = std::fs::read(&path).unwrap();
        assert_eq!(found.len(), 100_000);
        assert!(found[..1000].iter().all(|&byte| byte == 0));
        assert!(found[1000..42_808] == model);
        assert!(found[42_808..51_000].iter().all(|&byte| byte == 0xff));
        assert!(found[51_000..].iter().all(|&byte| byte == 0));

        let error = image.write(&vec![1; 41_809], &|_| {}).unwrap_err();
        assert!(error.to_string().contains("41,809 bytes, but the flash 41,808"), "{error}");
        assert!(std::fs::read(&path).unwrap() == found, "the old image is still there");
    }
}
