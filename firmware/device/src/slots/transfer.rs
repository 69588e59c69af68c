//! An upload to the idle slot: pieces of any length, programmed in pages, erased block by block just before.

use mbert_runtime::format::header::VERSION;
use mbert_runtime::format::layout::WeightLayout;

use super::state::{State, Trial, Upload};
use super::{PAGE_BYTES, PROGRESS_RECORDS, Slots};
use crate::flash::MappedFlash;
use crate::store::{ModelStore, Offer, Resume, StoreError, StoreStatus, Verdict};

/// What has been offered since the start.
pub struct Transfer {
    kind: Kind,
    /// Bytes received, of which the last few are in `page` only.
    received: u32,
    page: [u8; PAGE_BYTES],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    /// The model that is in use: there is nothing to do.
    InUse,
    /// What the state says of the upload.
    Upload,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { kind: Kind::None, received: 0, page: [0xFF; PAGE_BYTES] }
    }
}

impl Transfer {
    /// Whoever goes on must begin again.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

impl<F: MappedFlash> Slots<F> {
    /// Bytes after which the state is told how far the upload is.
    fn progress_bytes(&self) -> u32 {
        self.slot_bytes.div_ceil(PROGRESS_RECORDS).next_multiple_of(Self::BLOCK_BYTES)
    }

    /// The upload at hand.
    fn upload(&self) -> Result<Upload, StoreError> {
        match self.transfer.kind {
            Kind::Upload => self.state.upload.ok_or(StoreError::NotBegun),
            _ => Err(StoreError::NotBegun),
        }
    }

    /// Programs the page that the last byte went into.
    fn program(&mut self, upload: &Upload) -> Result<(), StoreError> {
        let received = self.transfer.received;
        let filled = (received as usize - 1) % PAGE_BYTES + 1;
        let offset = self.offset(self.idle()) + received - filled as u32;
        let failed = StoreError::Flash { offset };
        if offset.is_multiple_of(Self::BLOCK_BYTES) {
            self.flash.erase(offset, offset + Self::BLOCK_BYTES).map_err(|_| failed)?;
        }
        self.transfer.page[filled..].fill(0xFF);
        let words = filled.next_multiple_of(F::WRITE_SIZE);
        self.flash.write(offset, &self.transfer.page[..words]).map_err(|_| failed)?;
        if received.is_multiple_of(self.progress_bytes()) || received == upload.total_bytes {
            let upload = Some(Upload { written_bytes: received, ..*upload });
            self.store(State { upload, ..self.state })?;
        }
        Ok(())
    }

    /// Whether a model like this would be accepted.
    fn acceptable(&self, offer: &Offer) -> Result<(), StoreError> {
        let Offer { total_bytes, format_version, layout, rollback_counter, .. } = *offer;
        let minimum = self.state.min_rollback_counter;
        if total_bytes > self.slot_bytes {
            return Err(StoreError::TooLarge { total_bytes, slot_bytes: self.slot_bytes });
        }
        if format_version != VERSION {
            return Err(StoreError::UnsupportedVersion { found: format_version, expected: VERSION });
        }
        if !WeightLayout::from_code(layout).is_some_and(|layout| self.rules.kernels.reads(layout)) {
            return Err(StoreError::UnsupportedLayout { found: layout });
        }
        if rollback_counter < minimum {
            return Err(StoreError::RolledBack { found: rollback_counter, minimum });
        }
        Ok(())
    }
}

impl<F: MappedFlash> ModelStore for Slots<F> {
    fn status(&mut self) -> StoreStatus {
        let received = |upload: Upload| match self.transfer.kind {
            Kind::Upload => self.transfer.received,
            _ => upload.written_bytes,
        };
        StoreStatus {
            slots: 2,
            active: self.in_use,
            slot_bytes: self.slot_bytes,
            min_rollback_counter: self.state.min_rollback_counter,
            public_key: self.rules.public_key,
            upload: self.state.upload.map(|upload| (received(upload), upload.total_bytes)),
        }
    }

    fn begin(&mut self, offer: &Offer) -> Result<Resume, StoreError> {
        self.transfer.end();
        self.acceptable(offer)?;
        let Offer { total_bytes, header_sha256, .. } = *offer;
        if self.in_use.is_some_and(|slot| self.header_sha256(slot) == Some(header_sha256)) {
            self.transfer.kind = Kind::InUse;
            return Ok(Resume { next_offset: total_bytes });
        }
        let written_bytes = match self.state.upload {
            Some(upload) if (upload.header_sha256, upload.total_bytes) == (header_sha256, total_bytes) => {
                upload.written_bytes
            }
            _ => {
                // From here on the idle slot is nobody's: a model that was pending in it is forgotten before it is erased.
                let upload = Some(Upload { header_sha256, total_bytes, written_bytes: 0 });
                self.store(State { trial: None, upload, ..self.state })?;
                0
            }
        };
        (self.transfer.kind, self.transfer.received) = (Kind::Upload, written_bytes);
        Ok(Resume { next_offset: written_bytes })
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let upload = self.upload()?;
        let expected = self.transfer.received;
        if offset != expected {
            return Err(StoreError::WrongOffset { found: offset, expected });
        }
        let room = upload.total_bytes - expected;
        if bytes.len() > room as usize {
            return Err(StoreError::TooMany { found_bytes: bytes.len() as u32, room_bytes: room });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.transfer.received as usize % PAGE_BYTES;
            let (piece, behind) = rest.split_at(rest.len().min(PAGE_BYTES - at));
            self.transfer.page[at..at + piece.len()].copy_from_slice(piece);
            self.transfer.received += piece.len() as u32;
            rest = behind;
            if at + piece.len() == PAGE_BYTES || self.transfer.received == upload.total_bytes {
                // What a failed page has left is unknown: only the state tells how far the upload is then.
                self.program(&upload).inspect_err(|_| self.transfer.end())?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Verdict, StoreError> {
        if self.transfer.kind == Kind::InUse {
            return Ok(Verdict::AlreadyInUse);
        }
        let Upload { header_sha256, total_bytes, .. } = self.upload()?;
        let (slot, found_bytes) = (self.idle(), self.transfer.received);
        if found_bytes < total_bytes {
            return Err(StoreError::Incomplete { found_bytes, total_bytes });
        }
        let offered =
            if self.header_sha256(slot) == Some(header_sha256) { Ok(()) } else { Err(StoreError::NotAsOffered) };
        if let Err(refusal) = offered.and_then(|()| self.verified(slot).map(|_| ())) {
            // It will not become better: the next upload begins anew.
            self.transfer.end();
            self.store(State { trial: None, upload: None, ..self.state })?;
            return Err(refusal);
        }
        self.store(State { trial: Some(Trial::Pending), ..self.state })?;
        Ok(Verdict::Switched { slot })
    }
}
