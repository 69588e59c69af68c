//! Two slots for models in one flash, of which one answers while an upload fills the other.
//!
//! | flash                 | what                                                   |
//! |-----------------------|--------------------------------------------------------|
//! | first half            | slot 0: a model from its first byte on                 |
//! | second half           | slot 1                                                 |
//! | the last erase blocks | the state: a log with one small record                 |
//!
//! The way of a new model, each step one record of the state:
//!
//! 1. *upload*: pieces go to the idle slot in order. Every so many blocks the record says how far; after a break the upload goes on there,
//!    with a block that is erased first, so it does not matter what the break left in it.
//! 2. *pending*: the model is whole, each of its SHA-256 is right, it is signed where it must be, and not older than it may be.
//! 3. *begun*: the next start tries it: it is verified once more where it lies, and answers its self-test.
//! 4. *active*: it has passed. Until this record the old model is the active one; a start that finds *begun* knows that the last one did not come to
//!    an end, and leaves the new model for good.
//!
//! An erase or a write never touches the active slot. Where the active model is damaged all the same, or there is no record, the start takes any
//! model that is whole and passes.

mod log;
mod start;
mod state;
mod transfer;

pub use start::Active;

use mbert_runtime::format::header::{HEADER_BYTES, Header};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;

use self::log::{Log, RECORD_BYTES};
use self::state::State;
use self::transfer::Transfer;
use crate::flash::MappedFlash;
use crate::signature::{self, Distrust};
use crate::store::StoreError;

/// Bytes that are programmed at a time: a page of a serial flash.
const PAGE_BYTES: usize = 256;
/// At least this much is for the state.
const STATE_BYTES: u32 = 8192;
/// Records of progress in the upload of a model that fills its slot, at most.
const PROGRESS_RECORDS: u32 = 1024;

/// Two slots and their state in a flash.
pub struct Slots<F> {
    flash: F,
    log: Log,
    slot_bytes: u32,
    state: State,
    in_use: Option<u8>,
    transfer: Transfer,
    rules: Rules,
}

/// What a model must be, to be used.
#[derive(Clone, Copy)]
pub struct Rules {
    /// They must read its weights.
    pub kernels: &'static Kernels,
    /// It must be signed with the private key of this one, if there is one.
    pub public_key: Option<[u8; 32]>,
}

impl<F: MappedFlash> Slots<F> {
    /// The smallest part that can be erased without erasing what was programmed before it.
    const BLOCK_BYTES: u32 = if F::ERASE_SIZE > PAGE_BYTES { F::ERASE_SIZE as u32 } else { PAGE_BYTES as u32 };

    /// The slots of a flash, all of which is theirs. Nothing is used before [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// If the flash fails, or is too small for two slots and their state.
    pub fn open(mut flash: F, rules: Rules) -> Result<Self, StoreError> {
        const {
            assert!(PAGE_BYTES.is_multiple_of(F::WRITE_SIZE), "a page is some words");
            assert!(Self::BLOCK_BYTES.is_multiple_of(PAGE_BYTES as u32), "a block is some pages");
            assert!(Self::BLOCK_BYTES.is_multiple_of(F::ERASE_SIZE as u32), "a block is erased as a whole");
            assert!(RECORD_BYTES.is_multiple_of(F::WRITE_SIZE), "a record is some words");
            assert!(F::ERASE_SIZE.is_multiple_of(RECORD_BYTES), "a block is some records");
        }
        let capacity = u32::try_from(flash.capacity()).unwrap_or(u32::MAX) / Self::BLOCK_BYTES * Self::BLOCK_BYTES;
        let state_bytes = STATE_BYTES.next_multiple_of(Self::BLOCK_BYTES).max(2 * Self::BLOCK_BYTES);
        let slot_bytes = capacity.saturating_sub(state_bytes) / 2 / Self::BLOCK_BYTES * Self::BLOCK_BYTES;
        if slot_bytes == 0 {
            return Err(StoreError::Flash { offset: capacity });
        }
        let offset = capacity - state_bytes;
        let (log, last) = Log::open(&mut flash, offset..capacity).map_err(|_| StoreError::Flash { offset })?;
        let state = last.map_or_else(State::default, |record| State::parse(&record));
        Ok(Self { flash, log, slot_bytes, state, in_use: None, transfer: Transfer::default(), rules })
    }

    /// Gives the flash back.
    pub fn into_inner(self) -> F {
        self.flash
    }

    /// The slot that may be written to.
    fn idle(&self) -> u8 {
        self.state.active.map_or(0, |active| 1 - active.min(1))
    }

    /// Where a slot begins in the flash.
    fn offset(&self, slot: u8) -> u32 {
        u32::from(slot) * self.slot_bytes
    }

    /// All bytes of a slot.
    fn slot(&self, slot: u8) -> &[u8] {
        self.flash.mapped(self.offset(slot), self.slot_bytes)
    }

    /// Replaces the record of the state.
    fn store(&mut self, state: State) -> Result<(), StoreError> {
        let failed = StoreError::Flash { offset: self.log.start() };
        self.log.replace(&mut self.flash, &state.emit()).map_err(|_| failed)?;
        self.state = state;
        Ok(())
    }

    /// The model in a slot, verified to the last byte, with its rollback counter.
    fn verified(&self, slot: u8) -> Result<(Model<&[u8]>, u32), StoreError> {
        let memory = self.slot(slot);
        let bytes = Header::total_bytes_of(memory).and_then(|bytes| memory.get(..usize::try_from(bytes).ok()?));
        let model = Model::open(bytes.ok_or(StoreError::Damaged)?)?;
        model.check_layout(self.rules.kernels)?;
        let counter = model.provenance()?.rollback_counter;
        let minimum = self.state.min_rollback_counter;
        if counter < minimum {
            return Err(StoreError::RolledBack { found: counter, minimum });
        }
        if let Some(public_key) = &self.rules.public_key {
            signature::check(&model, public_key)?;
        }
        model.verify()?;
        Ok((model, counter))
    }

    /// The hash in the header of what lies in a slot, a model or not.
    fn header_sha256(&self, slot: u8) -> Option<[u8; 32]> {
        let header: &[u8; HEADER_BYTES] = self.slot(slot).first_chunk()?;
        header.last_chunk().copied()
    }
}

impl From<Distrust> for StoreError {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Unsigned => Self::Unsigned,
            Distrust::Wrong => Self::WrongSignature,
        }
    }
}
