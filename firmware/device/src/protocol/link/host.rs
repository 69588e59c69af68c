//! The host's end of the link: one request and its answer, driven by whoever has the port and a clock.

use core::fmt;

use super::parts::{Incoming, all_parts, missing_parts, part_count};
use crate::protocol::frame::{Body, Frame, Refusal, Wire};

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// So long after the last frame the board is asked what there is.
    pub retry_ms: u64,
    /// So long after a damaged frame.
    pub quiet_ms: u64,
    /// After so long without any frame the board is given up.
    pub silence_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { retry_ms: 250, quiet_ms: 15, silence_ms: 10_000 }
    }
}

/// Frames, whole or damaged, that may come one after another without anything new.
const MAX_FRUITLESS: u32 = 1000;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// Nothing came from the board that was whole.
    NoAnswer {
        /// For so long.
        silent_ms: u64,
        /// Damaged frames that came.
        damaged: u32,
    },
    /// The board speaks, but the message does not get through.
    TooNoisy {
        /// Frames that were damaged when they reached the host.
        damaged: u32,
        /// Frames that were damaged when they reached the board.
        refused: u32,
    },
    /// The board has been started anew, and knows nothing of the request.
    Restarted,
    /// The board speaks another version of the protocol.
    UnsupportedVersion {
        /// The board's.
        board: u8,
        /// The host's.
        host: u8,
    },
    /// The board does not take what the host sends.
    Refused(Refusal),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { silent_ms, damaged: 0 } => write!(
                f,
                "no answer from the board for {} s: is it on, does it run the serving firmware, and is this its port?",
                silent_ms / 1000
            ),
            Self::NoAnswer { damaged, .. } => write!(
                f,
                "nothing whole comes from the board ({damaged} damaged frames): is the speed of the line the board's?"
            ),
            Self::TooNoisy { damaged, refused } => write!(
                f,
                "the line is too noisy: {damaged} frames were damaged on their way to the host, {refused} on their way to the board"
            ),
            Self::Restarted => write!(f, "the board has been started anew while it was to answer: ask again"),
            Self::UnsupportedVersion { board, host } => write!(
                f,
                "the board speaks version {board} of the protocol, this program version {host}: update the older of the two"
            ),
            Self::Refused(refusal) => write!(f, "the board does not take the request: {refusal}"),
        }
    }
}

impl core::error::Error for LinkError {}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'w> {
    /// Send these bytes, then ask again.
    Send(&'w [u8]),
    /// Wait for bytes from the board, until a moment.
    Wait {
        /// When it is.
        until_ms: u64,
    },
    /// The answer is there.
    Answered,
}

/// One request, until its answer is there.
#[derive(Debug)]
pub struct Exchange<'m> {
    session: u32,
    number: u32,
    request: &'m [u8],
    answer: Incoming<'m>,
    timing: Timing,
    /// Parts of the request that are to be sent.
    to_send: u64,
    /// Parts of the request that the board has, as far as is known.
    arrived: u64,
    poll_at_ms: u64,
    heard_at_ms: u64,
    /// Frames since something new came.
    fruitless: u32,
    cancel: bool,
    progress: (u32, u32),
    damaged: u32,
    refused: u32,
    failure: Option<LinkError>,
}

impl<'m> Exchange<'m> {
    /// A request that is to be sent. Number 0 opens the session.
    pub fn new(
        (session, number): (u32, u32),
        request: &'m [u8],
        answer: &'m mut [u8],
        timing: Timing,
        now_ms: u64,
    ) -> Self {
        Self {
            session,
            number,
            request,
            answer: Incoming::new(answer),
            timing,
            to_send: all_parts(part_count(request.len())),
            arrived: 0,
            poll_at_ms: now_ms,
            heard_at_ms: now_ms,
            fruitless: 0,
            cancel: false,
            progress: (0, 0),
            damaged: 0,
            refused: 0,
            failure: None,
        }
    }

    /// Tells what to do next.
    ///
    /// # Errors
    ///
    /// If there will be no answer.
    ///
    /// # Panics
    ///
    /// If the request is longer than [`MESSAGE_BYTES`](super::parts::MESSAGE_BYTES).
    pub fn step<'w>(&mut self, now_ms: u64, wire: &'w mut Wire) -> Result<Step<'w>, LinkError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.answer.is_whole() {
            return Ok(Step::Answered);
        }
        if self.fruitless >= MAX_FRUITLESS {
            return Err(LinkError::TooNoisy { damaged: self.damaged, refused: self.refused });
        }
        if let Some(part) = missing_parts(self.request, !self.to_send).next() {
            self.to_send &= !(1 << part.index);
            self.poll_at_ms = now_ms + self.timing.retry_ms;
            self.heard_at_ms = self.heard_at_ms.max(now_ms);
            return Ok(Step::Send(self.frame(Body::Part(part)).encode(wire)));
        }
        let silent_ms = now_ms.saturating_sub(self.heard_at_ms);
        if silent_ms >= self.timing.silence_ms {
            return Err(LinkError::NoAnswer { silent_ms, damaged: self.damaged });
        }
        if now_ms < self.poll_at_ms {
            return Ok(Step::Wait { until_ms: self.poll_at_ms });
        }
        self.poll_at_ms = now_ms + self.timing.retry_ms;
        Ok(Step::Send(self.frame(Body::Poll { have: self.answer.have(), cancel: self.cancel }).encode(wire)))
    }

    fn frame<'f>(&self, body: Body<'f>) -> Frame<'f> {
        Frame { session: self.session, request: self.number, body }
    }

    /// Takes a frame from the board, or why there was none.
    pub fn receive(&mut self, now_ms: u64, frame: Result<Frame<'_>, Refusal>) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(Refusal::UnsupportedVersion { found, expected }) => {
                self.failure = Some(LinkError::UnsupportedVersion { board: found, host: expected });
                return;
            }
            Err(_) => {
                self.damaged += 1;
                self.fruitless += 1;
                self.poll_at_ms = self.poll_at_ms.min(now_ms + self.timing.quiet_ms);
                return;
            }
        };
        match frame.body {
            Body::Refused(Refusal::UnsupportedVersion { found, expected }) => {
                self.failure = Some(LinkError::UnsupportedVersion { board: expected, host: found });
            }
            // The board cannot tell which request a damaged frame was of.
            Body::Refused(Refusal::TooLong | Refusal::Truncated | Refusal::Damaged) => {
                self.refused += 1;
                self.fruitless += 1;
                self.heard_at_ms = now_ms;
                self.poll_at_ms = self.poll_at_ms.min(now_ms + self.timing.quiet_ms);
            }
            // What is still on its way from an earlier request.
            _ if (frame.session, frame.request) != (self.session, self.number) => {}
            Body::Refused(Refusal::UnknownSession) => self.failure = Some(LinkError::Restarted),
            Body::Refused(refusal) => self.failure = Some(LinkError::Refused(refusal)),
            body => self.hear(now_ms, body),
        }
    }

    /// Takes what the board says of this request.
    fn hear(&mut self, now_ms: u64, body: Body<'_>) {
        self.heard_at_ms = now_ms;
        self.poll_at_ms = now_ms + self.timing.retry_ms;
        let is_new = match body {
            Body::Part(part) => {
                let is_new = self.answer.accept(&part).unwrap_or(false);
                if part.is_last {
                    self.poll_at_ms = now_ms;
                }
                is_new
            }
            Body::Have { have } => {
                let is_new = have & !self.arrived != 0;
                self.arrived |= have;
                self.to_send = all_parts(part_count(self.request.len())) & !have;
                is_new
            }
            Body::Working { done, total } => {
                self.progress = (done, total);
                true
            }
            Body::Poll { .. } | Body::Refused(_) => false,
        };
        self.fruitless = if is_new { 0 } else { self.fruitless + 1 };
    }

    /// Asks the board to stop the work: it answers that it did, or with the answer if that was quicker.
    pub fn cancel(&mut self) {
        if !self.cancel {
            self.cancel = true;
            self.poll_at_ms = 0;
        }
    }

    /// Steps that the board has done, and steps there are; zeros before it has told.
    pub fn progress(&self) -> (u32, u32) {
        self.progress
    }

    /// Frames that were damaged when they reached the host, and when they reached the board.
    pub fn damaged(&self) -> (u32, u32) {
        (self.damaged, self.refused)
    }

    /// The answer, as far as it is there.
    pub fn answer(&self) -> &[u8] {
        self.answer.message()
    }
}
