//! Bytes to be read in place: a file mapped into memory, a vector, or a part of the program.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

/// Bytes that stay where they are.
#[derive(Debug)]
pub enum Bytes {
    /// A file.
    Mapped(Mmap),
    /// Made in memory.
    Owned(Vec<u8>),
    /// A part of the program.
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps a file into memory.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or mapped.
    pub fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        ensure!(!file.metadata()?.is_dir(), "{} is a directory: name a file", path.display());
        // SAFETY: the map is only read, and as bytes, for which every value is valid. Should another program cut the file
        // meanwhile, the system ends this process, as with every memory-mapped file; nothing is written through the map.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot read {}", path.display()))?;
        // Weights are read in order, once each: with small pages the CPU waits for their addresses. A system that has no large ones, or has
        // the file in memory in small ones, goes on with those.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}
