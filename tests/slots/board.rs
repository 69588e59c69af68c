//! A board without a board: memory that is a flash, two models, and how one is uploaded.

use std::sync::OnceLock;

use mbert::convert::Calibration;
use mbert_device::flash::RamNor;
use mbert_device::self_test;
use mbert_device::slots::{Active, Rules, Slots};
use mbert_device::store::{ModelStore, Offer, StoreError, Verdict};
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::memory_bytes;
use mbert_tests::models::{RawBlob, convert};
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

use crate::power::{Cut, PowerCuts};

/// Bytes of a piece of an upload: what fits into a short frame, and no divisor of a page.
pub const PIECE_BYTES: usize = 100;

/// A model of a few kilobytes; another seed is another model.
pub fn model(seed: u64) -> Vec<u8> {
    let dir = TinyCheckpoint::new(seed).write();
    convert(dir.path(), Calibration::BuiltIn, WeightLayout::RowMajor).blob
}

/// The model that is there first.
pub fn old() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| model(1))
}

/// The model that is uploaded.
pub fn new() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| model(2))
}

/// The new model with a wrong answer in its self-test. Every hash is right.
pub fn bad() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| {
        let mut raw = RawBlob::new(new());
        // The last bytes are the logit of a case's last answer, or the zero that stands for none.
        *raw.section(SectionKind::SelfTest, 0).1.last_mut().unwrap() ^= 1;
        raw.finish()
    })
}

/// Memory that is a flash, with words of `WRITE` bytes and blocks of `ERASE`.
#[derive(Clone)]
pub struct Board<const WRITE: usize, const ERASE: usize> {
    /// Every cell.
    pub memory: Vec<u8>,
    /// The only key that models may be signed with.
    pub public_key: Option<[u8; 32]>,
}

/// Its slots.
pub type Device<const WRITE: usize, const ERASE: usize> = Slots<PowerCuts<RamNor<WRITE, ERASE>>>;

impl<const WRITE: usize, const ERASE: usize> Board<WRITE, ERASE> {
    /// A new flash with room for two models of the length of [`new`].
    pub fn empty() -> Self {
        let slot = new().len().max(old().len()).next_multiple_of(ERASE.max(256));
        let state = 8192usize.next_multiple_of(ERASE).max(2 * ERASE);
        Self { memory: vec![0xFF; 2 * slot + state], public_key: None }
    }

    /// A flash in which the old model is the active one.
    pub fn with_old() -> Self {
        let mut board = Self::empty();
        board.memory[..old().len()].copy_from_slice(old());
        assert_eq!(board.started(), Some(old()));
        board
    }

    /// Switches it on, until the power fails.
    pub fn on(&mut self, cut: Option<Cut>) -> Result<Device<WRITE, ERASE>, StoreError> {
        // SAFETY: the memory is only looked at when the device is gone again.
        let flash = unsafe { RamNor::new(self.memory.as_mut_ptr(), self.memory.len()) };
        Slots::open(PowerCuts::new(flash, cut), Rules { kernels: Kernels::native(), public_key: self.public_key })
    }

    /// Switches it on without fear of a cut.
    pub fn safe(&mut self) -> Device<WRITE, ERASE> {
        self.on(None).expect("the flash works")
    }

    /// The model in use after a start.
    pub fn started(&mut self) -> Option<&[u8]> {
        let active = start(&mut self.safe()).expect("the flash works")?;
        Some(self.bytes(active))
    }

    /// The bytes of a model.
    pub fn bytes(&self, active: Active) -> &[u8] {
        &self.memory[active.offset as usize..][..active.bytes as usize]
    }
}

/// Whether a model answers its questions.
pub fn passes(model: &Model<&[u8]>) -> bool {
    let mut memory = vec![0; memory_bytes(model.config(), 24)];
    self_test::run(model, Kernels::native(), &mut memory).is_ok()
}

/// The choice of the model.
pub fn start<const WRITE: usize, const ERASE: usize>(
    device: &mut Device<WRITE, ERASE>,
) -> Result<Option<Active>, StoreError> {
    device.start(passes)
}

/// What is said of a model before it is uploaded.
pub fn offer(blob: &[u8]) -> Offer {
    let model = Model::open(blob).expect("the model is whole");
    Offer {
        total_bytes: blob.len() as u32,
        header_sha256: blob[32..64].try_into().expect("32 bytes"),
        format_version: mbert_runtime::format::header::VERSION,
        layout: WeightLayout::RowMajor.code(),
        rollback_counter: model.provenance().expect("the model is whole").rollback_counter,
    }
}

/// Uploads a model from where the device wants it on.
pub fn upload(device: &mut impl ModelStore, blob: &[u8]) -> Result<Verdict, StoreError> {
    let mut at = device.begin(&offer(blob))?.next_offset as usize;
    for piece in blob[at..].chunks(PIECE_BYTES) {
        device.write(at as u32, piece)?;
        at += piece.len();
    }
    device.finish()
}
