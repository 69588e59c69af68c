//! Frames: what goes over the wire, 128 bytes at most, each with its checksum.
//!
//! | bytes      | what                                                                  |
//! |------------|-----------------------------------------------------------------------|
//! | 0          | [`PROTOCOL_VERSION`]                                                  |
//! | 1..n − 4   | a [`Frame`], postcard                                                 |
//! | n − 4..n   | CRC-32 (ISO HDLC) of all before, little-endian                        |
//!
//! These bytes are stuffed with COBS, so that none of them is zero, and a zero ends the frame. Whatever is lost, doubled or flipped damages
//! the frames that it lies in, two at most, and the next zero is the start of a good one.
//!
//! A long frame would seldom come through where one byte in a thousand is hurt: of 128 bytes seven frames in eight are whole.

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Deserialize, Serialize};

/// The version that this code speaks. Any change of a frame or a message raises it.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of the longest frame on the wire, the closing zero included.
pub const FRAME_BYTES: usize = 128;
/// Bytes of a message in one frame.
pub const PART_BYTES: usize = 104;

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const CHECKSUM_BYTES: usize = 4;
/// Before stuffing, which adds one byte, and the closing zero.
const CONTENT_BYTES: usize = FRAME_BYTES - 2;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame<'a> {
    /// The conversation: a number that the host draws when it opens the line.
    pub session: u32,
    /// The request within it: 0 opens the session, then one more each time.
    pub request: u32,
    /// What is said.
    #[serde(borrow)]
    pub body: Body<'a>,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<'a> {
    /// A part of a message: from the host of a request, from the board of its answer.
    Part(#[serde(borrow)] Part<'a>),
    /// Host: asks for the parts of the answer that are not in `have`, bit by bit from the lowest; and perhaps to stop the work on it.
    Poll {
        /// Parts that have arrived.
        have: u64,
        /// The answer is not wanted any more.
        cancel: bool,
    },
    /// Board: asks for the parts of the request that are not in `have`.
    Have {
        /// Parts that have arrived.
        have: u64,
    },
    /// Board: the request is whole, and at work.
    Working {
        /// Steps done.
        done: u32,
        /// Steps there are; 0 where that is not known.
        total: u32,
    },
    /// Board: a frame was not taken.
    Refused(Refusal),
}

/// A part of a message. All but the last have [`PART_BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<'a> {
    /// Its number, from 0.
    pub index: u8,
    /// Parts of the message.
    pub count: u8,
    /// Nothing follows before the other side has spoken.
    pub is_last: bool,
    /// Bytes of the message.
    pub bytes: &'a [u8],
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// More than [`FRAME_BYTES`] bytes without a zero.
    TooLong,
    /// Too few bytes for a frame.
    Truncated,
    /// The checksum or the stuffing is wrong.
    Damaged,
    /// A frame of another version.
    UnsupportedVersion {
        /// Its version.
        found: u8,
        /// The version of the code that refused it.
        expected: u8,
    },
    /// The checksum is right, but it is no frame of this version, or none that this side takes.
    Malformed,
    /// A frame of a session that this side does not know: the board has been started since it began.
    UnknownSession,
    /// A frame of a request before the one at hand.
    Replayed {
        /// The request at hand.
        at_hand: u32,
    },
    /// A part that does not fit to those before it, or a message that is too long.
    BadPart,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a frame is longer than {FRAME_BYTES} bytes"),
            Self::Truncated => write!(f, "a frame is cut short"),
            Self::Damaged => write!(f, "a frame is damaged"),
            Self::UnsupportedVersion { found, expected } => {
                write!(f, "a frame is of protocol version {found}, expected was {expected}")
            }
            Self::Malformed => write!(f, "a frame is not of this protocol"),
            Self::UnknownSession => write!(f, "a frame is of another session"),
            Self::Replayed { at_hand } => write!(f, "a frame is of a request before request {at_hand}"),
            Self::BadPart => write!(f, "a part of a message does not fit to the others"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Memory for a frame on the wire.
pub type Wire = [u8; FRAME_BYTES];

impl<'a> Frame<'a> {
    /// The bytes that go over the wire.
    ///
    /// # Panics
    ///
    /// If it has a part of more than [`PART_BYTES`] bytes.
    pub fn encode<'w>(&self, wire: &'w mut Wire) -> &'w [u8] {
        let mut content = [0; CONTENT_BYTES];
        content[0] = PROTOCOL_VERSION;
        let body = &mut content[1..CONTENT_BYTES - CHECKSUM_BYTES];
        let bytes = 1 + postcard::to_slice(self, body).expect("a part has at most PART_BYTES bytes").len();
        let checksum = CHECKSUM.checksum(&content[..bytes]);
        content[bytes..][..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let stuffed = cobs::encode(&content[..bytes + CHECKSUM_BYTES], wire);
        wire[stuffed] = 0;
        &wire[..=stuffed]
    }

    /// Reads what was between two zeros; it is overwritten.
    ///
    /// # Errors
    ///
    /// If it is no frame of this version.
    pub fn decode(stuffed: &'a mut [u8]) -> Result<Self, Refusal> {
        if stuffed.len() >= FRAME_BYTES {
            return Err(Refusal::TooLong);
        }
        let bytes = cobs::decode_in_place(stuffed).map_err(|_| Refusal::Damaged)?;
        let content = stuffed.get(..bytes).ok_or(Refusal::Damaged)?;
        let (content, checksum) = content.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Refusal::Truncated)?;
        let (&version, frame) = content.split_first().ok_or(Refusal::Truncated)?;
        if CHECKSUM.checksum(content).to_le_bytes() != *checksum {
            return Err(Refusal::Damaged);
        }
        if version != PROTOCOL_VERSION {
            return Err(Refusal::UnsupportedVersion { found: version, expected: PROTOCOL_VERSION });
        }
        match postcard::take_from_bytes(frame) {
            Ok((frame, [])) => Ok(frame),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// Collects bytes from the wire until a frame is complete.
#[derive(Debug)]
pub struct Decoder {
    bytes: Wire,
    /// How many there are; one more than fit, if there were too many.
    filled: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { bytes: [0; FRAME_BYTES], filled: 0 }
    }
}

impl Decoder {
    /// Takes the next byte; a zero completes a frame. Zeros between frames mean nothing.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, Refusal>> {
        if byte != 0 {
            if let Some(place) = self.bytes.get_mut(self.filled) {
                *place = byte;
                self.filled += 1;
            }
            return None;
        }
        match core::mem::take(&mut self.filled) {
            0 => None,
            filled => Some(Frame::decode(&mut self.bytes[..filled])),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn longest() -> Frame<'static> {
        let part = Part { index: 255, count: 255, is_last: true, bytes: &[0; PART_BYTES] };
        Frame { session: u32::MAX, request: u32::MAX, body: Body::Part(part) }
    }

    fn decode(bytes: &[u8]) -> Vec<Result<Frame<'static>, Refusal>> {
        let mut decoder = Decoder::default();
        let kept = |frame: Frame<'_>| match frame.body {
            Body::Part(Part { index, count, is_last, bytes }) => {
                let bytes = Vec::leak(bytes.to_vec());
                Frame { body: Body::Part(Part { index, count, is_last, bytes }), ..longest() }
            }
            Body::Poll { have, cancel } => Frame { body: Body::Poll { have, cancel }, ..frame_without_body(&frame) },
            Body::Have { have } => Frame { body: Body::Have { have }, ..frame_without_body(&frame) },
            Body::Working { done, total } => {
                Frame { body: Body::Working { done, total }, ..frame_without_body(&frame) }
            }
            Body::Refused(refusal) => Frame { body: Body::Refused(refusal), ..frame_without_body(&frame) },
        };
        bytes.iter().filter_map(|&byte| decoder.push(byte).map(|frame| frame.map(kept))).collect()
    }

    fn frame_without_body(frame: &Frame<'_>) -> Frame<'static> {
        Frame { session: frame.session, request: frame.request, body: Body::Have { have: 0 } }
    }

    #[test]
    fn the_longest_frame_fits_and_is_read_as_it_was_written() {
        let mut wire = [0; FRAME_BYTES];
        let bytes = longest().encode(&mut wire);
        assert!(bytes.len() <= FRAME_BYTES && bytes.len() > FRAME_BYTES - 8, "{}", bytes.len());
        assert_eq!(decode(bytes), [Ok(longest())]);
    }

    #[test]
    fn a_byte_flipped_lost_or_doubled_is_noticed_and_the_next_frame_is_read() {
        let (mut wire, mut next) = ([0; FRAME_BYTES], [0; FRAME_BYTES]);
        let bytes: Vec<u8> = (1..=PART_BYTES as u8).collect();
        let part = Part { index: 3, count: 4, is_last: false, bytes: &bytes };
        let first = Frame { body: Body::Part(part), ..longest() }.encode(&mut wire).to_vec();
        let second = Frame { body: Body::Poll { have: 5, cancel: false }, ..longest() };
        let second_bytes = second.encode(&mut next);
        for at in 0..first.len() - 1 {
            let (mut flipped, mut lost, mut doubled) = (first.clone(), first.clone(), first.clone());
            flipped[at] ^= 1 << (at % 8);
            lost.remove(at);
            doubled.insert(at, first[at]);
            for damaged in [flipped, lost, doubled] {
                let found = decode(&[&damaged, second_bytes].concat());
                let (last, refused) = found.split_last().unwrap();
                assert_eq!(*last, Ok(second), "byte {at}");
                assert!(!refused.is_empty() && refused.iter().all(Result::is_err), "byte {at}: {refused:?}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_with_the_reason() {
        let refused = |content: &[u8]| {
            let mut wire = [0; 600];
            let stuffed = cobs::encode(content, &mut wire);
            assert!(wire[..stuffed].iter().all(|&byte| byte != 0));
            decode(&wire[..=stuffed])[0].unwrap_err()
        };
        let checked = |content: &[u8]| [content, &CHECKSUM.checksum(content).to_le_bytes()].concat();
        assert_eq!(refused(&[7; 500]), Refusal::TooLong);
        assert_eq!(refused(&[1, 2, 3]), Refusal::Truncated);
        assert_eq!(refused(&[1; 20]), Refusal::Damaged);
        assert_eq!(refused(&checked(&[9, 0, 0])), Refusal::UnsupportedVersion { found: 9, expected: PROTOCOL_VERSION });
        assert_eq!(refused(&checked(&[PROTOCOL_VERSION, 0, 0, 99])), Refusal::Malformed);
        assert_eq!(refused(&checked(&[PROTOCOL_VERSION, 0, 0, 2, 7, 0])), Refusal::Malformed);
        assert_eq!(decode(&[0, 0, 0]), []);
        assert_eq!(decode(&[200, 1, 0]), [Err(Refusal::Damaged)]);
    }
}
