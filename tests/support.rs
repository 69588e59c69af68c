//! Finds and loads the fixtures that the tests share.

use std::cell::Cell;
use std::path::PathBuf;

use mbert_runtime::storage::{Storage, Unreadable};

pub mod geometry;
pub mod models;
pub mod noisy_line;
pub mod reactions;
pub mod served_board;
pub mod tiny_checkpoint;

/// Short documents in thirteen languages, one sentence a line, blank lines between them. They were written for these tests, and
/// no model was trained or calibrated on them.
pub const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/documents.txt");

/// The folder of real checkpoints, golden outputs and multilingual text beside the project.
///
/// Prints one plain line and returns `None` where it is absent, so that a test can end early.
///
/// # Panics
///
/// If the folder is absent while `MBERT_REQUIRE_SHARED` is set: there silence is not a pass.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(
        std::env::var_os("MBERT_REQUIRE_SHARED").is_none(),
        "{} is absent, and MBERT_REQUIRE_SHARED is set",
        found.display()
    );
    println!("did not run: {} is absent", found.display());
    None
}

/// Word number `k` of the SplitMix64 stream whose state starts as `seed` steps.
pub fn splitmix64(seed: u64, k: u64) -> u64 {
    let mut z = seed.wrapping_add(k).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A section in memory that counts how often it is read.
#[derive(Clone, Copy, Debug)]
pub struct CountedSection<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Reads so far.
    pub reads: &'a Cell<u64>,
}

impl Storage for CountedSection<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }

    fn section(&self, offset: u32, bytes: u32) -> Self {
        Self { bytes: self.bytes.section(offset, bytes), ..*self }
    }

    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        self.reads.set(self.reads.get() + 1);
        Storage::read(&self.bytes, offset)
    }

    fn window_bytes(&self) -> usize {
        self.bytes.window_bytes()
    }

    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable> {
        self.reads.set(self.reads.get() + 1);
        self.bytes.view(offset, bytes, show)
    }
}
