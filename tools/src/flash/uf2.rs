//! UF2: a file of blocks that each say where they belong, for the drive that a boot ROM shows over USB.
//!
//! Specification: microsoft/uf2. A block has 512 bytes, of which 256 are content.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::{Flasher, Log, compare};
use crate::atomic_file::write_atomically;

const BLOCK_BYTES: usize = 512;
const CONTENT_BYTES: usize = 256;
const HEADER_BYTES: usize = 32;
const BEGIN: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const END: u32 = 0x0ab1_6f30;
/// The last number of the header is the family.
const FAMILY_PRESENT: u32 = 0x2000;

/// A model as UF2.
pub struct Uf2 {
    /// A file, or a folder: the drive of the board.
    pub path: PathBuf,
    /// Where the core reads the model.
    pub address: u32,
    /// Which chips are to take it.
    pub family: u32,
    /// The firmware's log.
    pub log: Log,
}

impl Uf2 {
    /// A block: eight numbers, content, and a last number.
    fn block(&self, (index, blocks): (u32, u32), at: u32, content: &[u8]) -> [u8; BLOCK_BYTES] {
        let header = [BEGIN[0], BEGIN[1], FAMILY_PRESENT, at, CONTENT_BYTES as u32, index, blocks, self.family];
        let mut block = [0; BLOCK_BYTES];
        block[..HEADER_BYTES].copy_from_slice(header.map(u32::to_le_bytes).as_flattened());
        block[HEADER_BYTES..][..content.len()].copy_from_slice(content);
        block[BLOCK_BYTES - 4..].copy_from_slice(&END.to_le_bytes());
        block
    }

    fn write_to(&self, out: &mut impl Write, model: &[u8], progress: &dyn Fn(u64)) -> io::Result<()> {
        let erased = self.log.erased();
        let pieces = |begin: u32, bytes| (begin..).step_by(CONTENT_BYTES).zip(<[u8]>::chunks(bytes, CONTENT_BYTES));
        let blocks = pieces(self.address, model).chain(pieces(self.address + self.log.offset, &erased));
        let count = blocks.clone().count() as u32;
        for (index, (at, content)) in (0..).zip(blocks) {
            out.write_all(&self.block((index, count), at, content))?;
            progress(model.len().min((index as usize + 1) * CONTENT_BYTES) as u64);
        }
        Ok(())
    }

    fn is_drive(&self) -> bool {
        self.path.is_dir()
    }
}

impl Flasher for Uf2 {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
        if self.is_drive() {
            // No file of a drive that only looks like one can be renamed.
            let mut file = File::create(self.path.join("model.uf2"))?;
            self.write_to(&mut file, model, progress)?;
            return Ok(file.sync_all()?);
        }
        write_atomically(&self.path, |file| self.write_to(file, model, progress))
    }

    fn verify(&mut self, model: &[u8]) -> Result<&'static str> {
        if self.is_drive() || !self.path.exists() {
            // The drive is gone as soon as it has the last block.
            return Ok("which the firmware verifies when it starts");
        }
        let blocks = std::fs::read(&self.path)?;
        let mut found: Vec<u8> = Vec::with_capacity(model.len() + CONTENT_BYTES);
        blocks.chunks(BLOCK_BYTES).for_each(|block| found.extend(block.iter().skip(HEADER_BYTES).take(CONTENT_BYTES)));
        found.truncate(model.len());
        compare(&found, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_where_their_content_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.uf2");
        let log = Log { offset: 1024, bytes: 512 };
        let mut uf2 = Uf2 { path: path.clone(), address: 0x1008_0000, family: 0xe48b_ff57, log };
        let model: Vec<u8> = (0..700u32).map(|n| (n % 251) as u8).collect();
        uf2.write(&model, &|_| {}).unwrap();
        assert_eq!(uf2.verify(&model).unwrap(), "read back and compared");
        let file = std::fs::read(&path).unwrap();
        // The model, and the log, erased.
        assert_eq!(file.len(), (3 + 2) * BLOCK_BYTES);
        for (index, block) in file.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
            let number = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
            assert_eq!(&block[..4], b"UF2\n");
            assert_eq!([number(4), number(8), number(508)], [0x9e5d_5157, 0x2000, 0x0ab1_6f30]);
            let offset = [0, 256, 512, 1024, 1280][index];
            assert_eq!([number(12), number(16)], [0x1008_0000 + offset as u32, 256]);
            assert_eq!([number(20), number(24), number(28)], [index as u32, 5, 0xe48b_ff57]);
            let content = if index < 3 { &model[offset..(offset + 256).min(700)] } else { &[0xff; 256] };
            assert_eq!(&block[32..][..content.len()], content);
            assert!(block[32 + content.len()..508].iter().all(|&byte| byte == 0));
        }
        let mut other = model.clone();
        other[300] ^= 1;
        assert!(uf2.verify(&other).is_err());
    }

    #[test]
    fn a_drive_gets_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log { offset: 1024, bytes: 256 };
        let mut uf2 = Uf2 { path: folder.path().to_owned(), address: 0, family: 1, log };
        uf2.write(&[1; 300], &|_| {}).unwrap();
        assert_eq!(std::fs::read(folder.path().join("model.uf2")).unwrap().len(), 3 * BLOCK_BYTES);
        assert!(uf2.verify(&[1; 300]).unwrap().contains("when it starts"));
    }
}
