//! What the slots remember over a loss of power.

use serde::{Deserialize, Serialize};

use super::log::CONTENT_BYTES;

/// Replaced as a whole, so no two parts of it contradict each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The slot with the model that has passed its self-test on this device. The other slot is the idle one.
    pub active: Option<u8>,
    /// How far a new model in the idle slot has come.
    pub trial: Option<Trial>,
    /// What is being uploaded to the idle slot, or was.
    pub upload: Option<Upload>,
    /// The highest rollback counter of any model that was active.
    pub min_rollback_counter: u32,
}

/// A whole and verified model that is not trusted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trial {
    /// The next start tries it.
    Pending,
    /// A start has begun to try it. If this is still here at the next one, the model has stopped the device.
    Begun,
}

/// An upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The hash in the model's header.
    pub header_sha256: [u8; 32],
    /// Length of the model.
    pub total_bytes: u32,
    /// All bytes before this one are in the slot. What lies behind may be torn, and is erased before it is written.
    pub written_bytes: u32,
}

impl State {
    /// Reads a record. What this firmware cannot read is the state of a new device: which models there are is found out by looking at them.
    pub fn parse(record: &[u8; CONTENT_BYTES]) -> Self {
        postcard::take_from_bytes(record).map_or_else(|_| Self::default(), |(state, _)| state)
    }

    /// Writes the record that [`parse`](Self::parse) reads.
    pub fn emit(&self) -> [u8; CONTENT_BYTES] {
        let mut record = [0; CONTENT_BYTES];
        // The longest state fits: see the test.
        let _ = postcard::to_slice(self, &mut record);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_state_fits_a_record() {
        let upload = Upload { header_sha256: [0xFF; 32], total_bytes: u32::MAX, written_bytes: u32::MAX };
        let longest =
            State { active: Some(1), trial: Some(Trial::Begun), upload: Some(upload), min_rollback_counter: u32::MAX };
        assert_eq!(State::parse(&longest.emit()), longest);
        assert_eq!(State::parse(&State::default().emit()), State::default());
        assert_eq!(State::parse(&[0xEE; CONTENT_BYTES]), State::default());
    }
}
