//! Messages as bytes: a request, and an answer with its items.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Answer, DeviceError, Request};

/// What is in an answer's message.
pub type Outcome<'a> = Result<Answer<'a>, DeviceError>;

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is none of this version, or something follows it.
    pub fn decode(message: &'a [u8]) -> Result<Self, DeviceError> {
        match postcard::take_from_bytes(message) {
            Ok((request, [])) => Ok(request),
            _ => Err(DeviceError::Malformed),
        }
    }

    /// Writes a request.
    ///
    /// # Errors
    ///
    /// If the memory is too small.
    pub fn encode<'m>(&self, memory: &'m mut [u8]) -> Result<&'m [u8], TooLong> {
        postcard::to_slice(self, memory).map(|bytes| &*bytes).map_err(|_| TooLong)
    }
}

/// A message does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request is too long for a message: shorten the text")
    }
}

impl core::error::Error for TooLong {}

/// Reads an answer: what it is, and its items.
///
/// # Errors
///
/// What the board says, or that it cannot be read.
pub fn decode_answer(message: &[u8]) -> Result<(Answer<'_>, &[u8]), DeviceError> {
    let (outcome, items) = postcard::take_from_bytes::<Outcome<'_>>(message).map_err(|_| DeviceError::Malformed)?;
    Ok((outcome?, items))
}

/// The items behind an answer.
///
/// # Errors
///
/// Each is an error, and the last, if it cannot be read.
pub fn items<'a, T: Deserialize<'a>>(mut bytes: &'a [u8]) -> impl Iterator<Item = Result<T, DeviceError>> {
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let item = postcard::take_from_bytes(core::mem::take(&mut bytes));
        Some(
            item.map(|(item, rest)| {
                bytes = rest;
                item
            })
            .map_err(|_| DeviceError::Malformed),
        )
    })
}

/// Room for an answer in front of its items.
const ANSWER_BYTES: usize = 64;

/// Writes an answer's message: first its items, as many as fit, then what they are.
#[derive(Debug)]
pub struct AnswerWriter<'m> {
    memory: &'m mut [u8],
    end: usize,
}

impl<'m> AnswerWriter<'m> {
    /// No items yet.
    pub fn new(memory: &'m mut [u8]) -> Self {
        Self { memory, end: ANSWER_BYTES }
    }

    /// Adds an item; `false` if there is no room for it.
    pub fn push(&mut self, item: &impl Serialize) -> bool {
        let room = self.memory.get_mut(self.end..).unwrap_or_default();
        let Ok(written) = postcard::to_slice(item, room) else { return false };
        self.end += written.len();
        true
    }

    /// Whether no item has been added.
    pub fn is_empty(&self) -> bool {
        self.end == ANSWER_BYTES
    }

    /// Puts the answer in front of its items; returns the bytes of the message.
    ///
    /// # Panics
    ///
    /// If it is one that has no items, and is long.
    pub fn finish(self, answer: &Answer<'_>) -> usize {
        let mut head = [0; ANSWER_BYTES];
        let outcome: Outcome<'_> = Ok(*answer);
        let head = postcard::to_slice(&outcome, &mut head).expect("what stands before items is short");
        self.memory[..head.len()].copy_from_slice(head);
        self.memory.copy_within(ANSWER_BYTES..self.end, head.len());
        head.len() + self.end - ANSWER_BYTES
    }
}

/// Writes an answer without items; returns the bytes of the message, 0 if it does not fit.
pub fn encode_outcome(outcome: &Outcome<'_>, memory: &mut [u8]) -> usize {
    postcard::to_slice(outcome, memory).map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use mbert_runtime::error::ForwardError;
    use mbert_runtime::pipeline::PipelineError;
    use mbert_runtime::tokenizer::TokenizerError;

    use super::super::TokenItem;
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn a_list_is_read_as_it_was_written_as_far_as_it_fits() {
        let mut memory = [0; 200];
        let mut writer = AnswerWriter::new(&mut memory);
        assert!(writer.is_empty());
        let token = |id| TokenItem { id, start: id, end: id + 1, token: b"token" };
        let written = (0..100).take_while(|&id| writer.push(&token(id))).count();
        assert!((10..30).contains(&written), "{written}");
        let bytes = writer.finish(&Answer::Tokens { total: 100 });
        let (answer, rest) = decode_answer(&memory[..bytes]).unwrap();
        assert_eq!(answer, Answer::Tokens { total: 100 });
        let read: Vec<_> = items::<TokenItem<'_>>(rest).map(Result::unwrap).collect();
        assert_eq!(read, (0..written as u32).map(token).collect::<Vec<_>>());
        assert_eq!(items::<TokenItem<'_>>(&rest[..rest.len() - 1]).last(), Some(Err(DeviceError::Malformed)));
    }

    #[test]
    fn the_longest_answers_before_items_fit_in_front_of_them() {
        let trace_sha256 = Some([0xff; 32]);
        let masks = Answer::Masks { masks: 255, total: u32::MAX, trace_sha256 };
        let features = Answer::Features {
            tokens: u16::MAX,
            columns: u16::MAX,
            total: u32::MAX,
            fraction_bits: i8::MIN,
            trace_sha256,
        };
        for answer in [masks, features, Answer::Tokens { total: u32::MAX }, Answer::More] {
            let mut memory = [0; 100];
            let mut writer = AnswerWriter::new(&mut memory);
            assert!(writer.push(&[7u8, 9]));
            let bytes = writer.finish(&answer);
            assert_eq!(decode_answer(&memory[..bytes]), Ok((answer, &[7, 9][..])));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_a_board_s_error_comes_through() {
        assert_eq!(Request::decode(&[99]), Err(DeviceError::Malformed));
        assert_eq!(Request::decode(&[0, 0]), Err(DeviceError::Malformed), "more than a message");
        assert_eq!(decode_answer(&[]), Err(DeviceError::Malformed));
        let mut memory = [0; 100];
        for error in [
            DeviceError::NoModel,
            PipelineError::TooManyMasks { masks: 9, room: 8 }.into(),
            ForwardError::SequenceTooLong { tokens: 600, max: 512 }.into(),
            TokenizerError::InvalidUtf8 { at: 7 }.into(),
            StoreError::RolledBack { found: 1, minimum: 2 }.into(),
        ] {
            let bytes = encode_outcome(&Err(error), &mut memory);
            assert_eq!(decode_answer(&memory[..bytes]), Err(error));
            assert!(error.to_string().len() > 20);
        }
        assert_eq!(Request::UploadChunk { offset: 0, bytes: &[0; 99] }.encode(&mut memory), Err(TooLong));
    }
}
