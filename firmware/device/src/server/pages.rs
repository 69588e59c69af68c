//! Answers that are lists: as many items as fit into a message, and more when the host asks for them.

use super::duty::{Line, wait};
use crate::protocol::link::board::BoardLink;
use crate::protocol::messages::{Answer, AnswerWriter, DeviceError, Request, encode_outcome};

/// Answers with the first items, and then with more for as long as the host asks for those. Another request is left for the caller.
///
/// `write` adds the item of a number, if it fits; whether it did.
///
/// # Errors
///
/// If the line fails.
pub fn serve<L: Line>(
    link: &mut BoardLink<'_>,
    line: &mut L,
    answer: Answer<'_>,
    total: u32,
    mut write: impl FnMut(u32, &mut AnswerWriter<'_>) -> Result<bool, DeviceError>,
) -> Result<(), L::Error> {
    let (mut answer, mut first) = (answer, 0);
    loop {
        let (_, memory, _) = link.work();
        let bytes = match page(memory, &answer, first..total, &mut write) {
            Ok(bytes) => bytes,
            Err(error) => encode_outcome(&Err(error), memory),
        };
        link.answer(bytes, line)?;
        wait(link, line)?;
        match Request::decode(link.work().0) {
            Ok(Request::More { first: next }) => (answer, first) = (Answer::More, next),
            _ => return Ok(()),
        }
    }
}

/// One message: an answer and the items of a range, as many as fit.
///
/// # Errors
///
/// If there are none, or not even the first fits.
pub fn page(
    memory: &mut [u8],
    answer: &Answer<'_>,
    mut items: core::ops::Range<u32>,
    mut write: impl FnMut(u32, &mut AnswerWriter<'_>) -> Result<bool, DeviceError>,
) -> Result<usize, DeviceError> {
    if items.is_empty() && *answer == Answer::More {
        return Err(DeviceError::NothingMore);
    }
    let mut writer = AnswerWriter::new(memory);
    let first = items.start;
    for index in items.by_ref() {
        if !write(index, &mut writer)? {
            if index == first {
                return Err(DeviceError::ItemTooLong);
            }
            break;
        }
    }
    Ok(writer.finish(answer))
}
