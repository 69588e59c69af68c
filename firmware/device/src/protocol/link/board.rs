//! The board's end of the link: it takes requests, and answers what it is asked. It never waits.

use embedded_io::Write;

use super::parts::{Incoming, MESSAGE_BYTES, missing_parts};
use crate::protocol::frame::{Body, Decoder, FRAME_BYTES, Frame, Part, Refusal};

/// The board's end of the link.
#[derive(Debug)]
pub struct BoardLink<'m> {
    decoder: Decoder,
    at: At,
    request: Incoming<'m>,
    answer: &'m mut [u8],
    /// Bytes of the answer, once the request has been answered.
    answer_bytes: Option<usize>,
}

/// The request at hand.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    /// `None` before the first.
    session: Option<u32>,
    request: u32,
}

/// How a frame stands to the request at hand.
enum Relation {
    /// It is of this request.
    Current,
    /// It is of a later one, or opens another session.
    Next,
    /// It must not be taken.
    Refused(Refusal),
}

impl At {
    fn relation(&self, frame: &Frame<'_>) -> Relation {
        if self.session != Some(frame.session) {
            return if frame.request == 0 { Relation::Next } else { Relation::Refused(Refusal::UnknownSession) };
        }
        // Numbers wrap around.
        match frame.request.wrapping_sub(self.request) as i32 {
            0 => Relation::Current,
            1.. => Relation::Next,
            _ => Relation::Refused(Refusal::Replayed { at_hand: self.request }),
        }
    }

    /// Says something about the request at hand.
    fn say<W: Write>(&self, line: &mut W, body: Body<'_>) -> Result<(), W::Error> {
        send(line, &Frame { session: self.session.unwrap_or(0), request: self.request, body })
    }
}

fn send<W: Write>(line: &mut W, frame: &Frame<'_>) -> Result<(), W::Error> {
    line.write_all(frame.encode(&mut [0; FRAME_BYTES]))
}

impl<'m> BoardLink<'m> {
    /// A link that has not heard anything yet. The lengths of the memories bound requests and answers.
    pub fn new(request: &'m mut [u8], answer: &'m mut [u8]) -> Self {
        let answer_bytes = answer.len().min(MESSAGE_BYTES);
        let answer = &mut answer[..answer_bytes];
        Self {
            decoder: Decoder::default(),
            at: At::default(),
            request: Incoming::new(request),
            answer,
            answer_bytes: None,
        }
    }

    /// Takes a byte from the line, and says what there is to say. `true` when it completes a request: then comes [`work`](Self::work), and
    /// then [`answer`](Self::answer), before the next byte.
    ///
    /// # Errors
    ///
    /// If the line does not take what is said.
    pub fn push<W: Write>(&mut self, byte: u8, line: &mut W) -> Result<bool, W::Error> {
        let Self { decoder, at, request, answer, answer_bytes } = self;
        let frame = match decoder.push(byte) {
            None => return Ok(false),
            Some(Err(refusal)) => return at.say(line, Body::Refused(refusal)).map(|()| false),
            Some(Ok(frame)) => frame,
        };
        let reply = |line: &mut W, body| send(line, &Frame { body, ..frame }).map(|()| false);
        match (at.relation(&frame), frame.body) {
            (Relation::Refused(refusal), _) => reply(line, Body::Refused(refusal)),
            (Relation::Next, Body::Part(part)) => {
                *at = At { session: Some(frame.session), request: frame.request };
                *answer_bytes = None;
                request.clear();
                take(request, &part, at, line)
            }
            // No part of it has arrived.
            (Relation::Next, Body::Poll { .. }) => reply(line, Body::Have { have: 0 }),
            (Relation::Current, Body::Part(part)) if answer_bytes.is_none() => take(request, &part, at, line),
            // A part that comes twice; the answer is on its way.
            (Relation::Current, Body::Part(_)) => Ok(false),
            (Relation::Current, Body::Poll { have, .. }) => {
                match *answer_bytes {
                    None => at.say(line, Body::Have { have: request.have() })?,
                    Some(bytes) => say_answer(at, line, &answer[..bytes], have)?,
                }
                Ok(false)
            }
            _ => reply(line, Body::Refused(Refusal::Malformed)),
        }
    }

    /// Bytes of the longest request.
    pub fn max_request_bytes(&self) -> u16 {
        self.request.room_bytes() as u16
    }

    /// Whether a request is whole and not answered yet.
    pub fn has_request(&self) -> bool {
        self.request.is_whole() && self.answer_bytes.is_none()
    }

    /// The request that is whole, memory for its answer, and what keeps the line alive meanwhile.
    pub fn work(&mut self) -> (&[u8], &mut [u8], Watch<'_>) {
        let watch = Watch { decoder: &mut self.decoder, at: &self.at, is_stopped: false };
        (self.request.message(), self.answer, watch)
    }

    /// Sends the answer, the first so many bytes of the memory for it; it is kept until the next request.
    ///
    /// # Errors
    ///
    /// If the line does not take it.
    pub fn answer<W: Write>(&mut self, bytes: usize, line: &mut W) -> Result<(), W::Error> {
        let bytes = bytes.min(self.answer.len());
        self.answer_bytes = Some(bytes);
        say_answer(&self.at, line, &self.answer[..bytes], 0)
    }
}

/// Takes a part of the request at hand; whether it is whole now.
fn take<W: Write>(request: &mut Incoming<'_>, part: &Part<'_>, at: &At, line: &mut W) -> Result<bool, W::Error> {
    match request.accept(part) {
        Err(refusal) => at.say(line, Body::Refused(refusal))?,
        Ok(_) if request.is_whole() => return Ok(true),
        Ok(_) if part.is_last => at.say(line, Body::Have { have: request.have() })?,
        Ok(_) => {}
    }
    Ok(false)
}

/// Sends the parts of the answer that the host does not have.
fn say_answer<W: Write>(at: &At, line: &mut W, answer: &[u8], have: u64) -> Result<(), W::Error> {
    missing_parts(answer, have).try_for_each(|part| at.say(line, Body::Part(part)))?;
    line.flush()
}

/// Keeps the line alive while the board works on a request.
#[derive(Debug)]
pub struct Watch<'l> {
    decoder: &'l mut Decoder,
    at: &'l At,
    is_stopped: bool,
}

impl Watch<'_> {
    /// Whether the host does not want the answer any more.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Takes a byte from the line; where the host asks, it is told how far the work has come.
    ///
    /// # Errors
    ///
    /// If the line does not take what is said.
    pub fn push<W: Write>(&mut self, byte: u8, (done, total): (u32, u32), line: &mut W) -> Result<(), W::Error> {
        let frame = match self.decoder.push(byte) {
            None => return Ok(()),
            Some(Err(refusal)) => return self.at.say(line, Body::Refused(refusal)),
            Some(Ok(frame)) => frame,
        };
        match (self.at.relation(&frame), frame.body) {
            (Relation::Refused(refusal), _) => send(line, &Frame { body: Body::Refused(refusal), ..frame }),
            (Relation::Current, Body::Poll { cancel, .. }) => {
                self.is_stopped |= cancel;
                self.at.say(line, Body::Working { done, total })
            }
            (Relation::Current, Body::Part(part)) if part.is_last => self.at.say(line, Body::Working { done, total }),
            (Relation::Current, Body::Part(_)) => Ok(()),
            // The host has given up, and asks something else: it will be asked for the parts that are lost here.
            (Relation::Next, Body::Part(_) | Body::Poll { .. }) => {
                self.is_stopped = true;
                Ok(())
            }
            _ => send(line, &Frame { body: Body::Refused(Refusal::Malformed), ..frame }),
        }
    }

    /// Tells the host, unasked, how far the work has come.
    ///
    /// # Errors
    ///
    /// If the line does not take it.
    pub fn tell<W: Write>(&self, (done, total): (u32, u32), line: &mut W) -> Result<(), W::Error> {
        self.at.say(line, Body::Working { done, total })?;
        line.flush()
    }
}
