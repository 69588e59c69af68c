//! What keeps the models of a device: an upload fills it piece by piece, and the new model is used when it is whole and verified.

use core::fmt;

use mbert_runtime::error::FormatError;
use mbert_runtime::format::header::{Header, VERSION};
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::model::Model;
use serde::{Deserialize, Serialize};

/// What a host says of a model before the first byte of it is sent, so that it can be refused before anything is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Length of the whole model.
    pub total_bytes: u32,
    /// The hash in its header, which covers header and section table, and so the hashes of all else. It tells whether a broken upload
    /// goes on.
    pub header_sha256: [u8; 32],
    /// Version of its format.
    pub format_version: u16,
    /// Code of the layout that its weights are packed in, see [`WeightLayout`].
    pub layout: u8,
    /// Its counter against roll-back.
    pub rollback_counter: u32,
}

impl Offer {
    /// What is said of a model.
    ///
    /// # Errors
    ///
    /// If its provenance cannot be read.
    pub fn of(model: &Model<&[u8]>) -> Result<Self, FormatError> {
        let packed = model.sections().map(|section| section.layout).find(|&layout| layout != WeightLayout::RowMajor);
        Ok(Self {
            total_bytes: model.header().total_bytes as u32,
            header_sha256: Header::sha256_of(model.blob()).unwrap_or_default(),
            format_version: VERSION,
            layout: packed.unwrap_or(WeightLayout::RowMajor).code(),
            rollback_counter: model.provenance()?.rollback_counter,
        })
    }
}

/// Where an upload begins, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The first byte that the store does not have yet.
    pub next_offset: u32,
}

/// What [`ModelStore::finish`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The model is whole and verified. The device starts anew, tries it with its self-test, and falls back to the old one where that fails.
    Switched {
        /// The slot that it lies in.
        slot: u8,
    },
    /// It is the model that is in use already.
    AlreadyInUse,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Slots that a model can lie in; 0 where models cannot be replaced.
    pub slots: u8,
    /// The slot that answers come from; `None` where no model is usable.
    pub active: Option<u8>,
    /// Bytes of one slot.
    pub slot_bytes: u32,
    /// The lowest counter against roll-back that is accepted.
    pub min_rollback_counter: u32,
    /// Only models signed with the private key of this one are accepted, if there is one.
    pub public_key: Option<[u8; 32]>,
    /// Bytes that a broken upload has left, and how long its model is.
    pub upload: Option<(u32, u32)>,
}

/// Why a store did not do what it was asked. Nothing has changed for the model in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StoreError {
    /// Models of this device cannot be replaced.
    ReadOnly,
    /// The model is longer than a slot.
    TooLarge {
        /// Its bytes.
        total_bytes: u32,
        /// Bytes of a slot.
        slot_bytes: u32,
    },
    /// The firmware reads another version of the format.
    UnsupportedVersion {
        /// The model's.
        found: u16,
        /// The firmware's.
        expected: u16,
    },
    /// The kernels of the firmware do not read weights packed like this.
    UnsupportedLayout {
        /// Its code.
        found: u8,
    },
    /// The model is older than what this device accepts.
    RolledBack {
        /// The model's counter.
        found: u32,
        /// The lowest that is accepted.
        minimum: u32,
    },
    /// No upload has begun.
    NotBegun,
    /// Bytes that do not follow those that are there.
    WrongOffset {
        /// Where they were to go.
        found: u32,
        /// What comes next.
        expected: u32,
    },
    /// More bytes than the offered model has.
    TooMany {
        /// Bytes sent at once.
        found_bytes: u32,
        /// Bytes that are missing to the whole.
        room_bytes: u32,
    },
    /// The model is not whole yet.
    Incomplete {
        /// Bytes that are there.
        found_bytes: u32,
        /// Bytes of the whole.
        total_bytes: u32,
    },
    /// What was sent is not what was offered.
    NotAsOffered,
    /// What was sent is no usable model.
    Damaged,
    /// The model is not signed, and must be.
    Unsigned,
    /// The signature is not of this model and the key that the firmware holds.
    WrongSignature,
    /// The flash failed.
    Flash {
        /// The first byte of the operation, from the beginning of the flash.
        offset: u32,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ReadOnly => write!(f, "the models of this device cannot be replaced: flash it"),
            Self::TooLarge { total_bytes, slot_bytes } => {
                write!(f, "the model has {total_bytes} bytes, but a slot {slot_bytes}: take a smaller one")
            }
            Self::UnsupportedVersion { found, expected } => write!(
                f,
                "the model's format is version {found}, but the firmware reads {expected}: convert it again, or update the firmware"
            ),
            Self::UnsupportedLayout { found } => {
                write!(
                    f,
                    "the weights are packed in layout {found}, which the firmware does not read: convert for its target"
                )
            }
            Self::RolledBack { found, minimum } => {
                write!(f, "the model's rollback counter is {found}, but {minimum} is the lowest that is accepted")
            }
            Self::NotBegun => write!(f, "no upload has begun"),
            Self::WrongOffset { found, expected } => {
                write!(f, "bytes for offset {found} were sent, but {expected} comes next")
            }
            Self::TooMany { found_bytes, room_bytes } => {
                write!(f, "{found_bytes} bytes were sent, but the model ends after {room_bytes}: begin anew")
            }
            Self::Incomplete { found_bytes, total_bytes } => {
                write!(f, "only {found_bytes} of {total_bytes} bytes have been sent: go on with the upload")
            }
            Self::NotAsOffered => write!(f, "the header is not that of the model that was offered: begin anew"),
            Self::Damaged => write!(f, "what arrived is not a usable model: convert it again, then upload it"),
            Self::Unsigned => write!(f, "the model is not signed, and this firmware takes signed ones only: sign it"),
            Self::WrongSignature => write!(f, "the signature is not by the key that this firmware trusts"),
            Self::Flash { offset } => write!(f, "the flash failed at byte {offset}"),
        }
    }
}

impl core::error::Error for StoreError {}

impl From<FormatError> for StoreError {
    fn from(_: FormatError) -> Self {
        Self::Damaged
    }
}

/// A memory for models that can be replaced while one of them is in use.
pub trait ModelStore {
    /// What it holds.
    fn status(&mut self) -> StoreStatus;

    /// Begins an upload, or goes on with a broken one of the same offer.
    ///
    /// # Errors
    ///
    /// If such a model would not be accepted, before anything is erased; or if the flash fails.
    fn begin(&mut self, offer: &Offer) -> Result<Resume, StoreError>;

    /// Takes the next bytes of the model.
    ///
    /// # Errors
    ///
    /// If no upload has begun, the bytes do not follow what is there, or the flash fails.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StoreError>;

    /// Verifies the model, and switches to it: it is used from the next start on.
    ///
    /// # Errors
    ///
    /// If it is not whole, not what was offered, damaged, not signed as it must be, too old; or if the flash fails.
    fn finish(&mut self) -> Result<Verdict, StoreError>;
}

impl<S: ModelStore + ?Sized> ModelStore for &mut S {
    fn status(&mut self) -> StoreStatus {
        (**self).status()
    }

    fn begin(&mut self, offer: &Offer) -> Result<Resume, StoreError> {
        (**self).begin(offer)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StoreError> {
        (**self).write(offset, bytes)
    }

    fn finish(&mut self) -> Result<Verdict, StoreError> {
        (**self).finish()
    }
}

/// Where models cannot be replaced: every upload is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

impl ModelStore for ReadOnly {
    fn status(&mut self) -> StoreStatus {
        StoreStatus { slots: 0, active: None, slot_bytes: 0, min_rollback_counter: 0, public_key: None, upload: None }
    }

    fn begin(&mut self, _offer: &Offer) -> Result<Resume, StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn write(&mut self, _offset: u32, _bytes: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn finish(&mut self) -> Result<Verdict, StoreError> {
        Err(StoreError::ReadOnly)
    }
}
