//! Both ends of the link with a noisy line and a clock between them, all in one thread.

extern crate std;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::string::ToString;
use std::vec::Vec;

use embedded_io::{ErrorType, Write};

use super::board::BoardLink;
use super::host::{Exchange, LinkError, Step, Timing};
use super::parts::MESSAGE_BYTES;
use crate::protocol::frame::{Body, Decoder, FRAME_BYTES, Frame, PART_BYTES, Part, Refusal};

/// A direction of the line: hurts one byte in so many.
struct Noisy {
    bytes: VecDeque<u8>,
    random: u64,
    one_in: u64,
    hurt: u32,
}

impl Noisy {
    fn new(seed: u64, one_in: u64) -> Self {
        Self { bytes: VecDeque::new(), random: seed, one_in, hurt: 0 }
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }
}

impl ErrorType for Noisy {
    type Error = Infallible;
}

impl Write for Noisy {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            if self.one_in == 0 || !self.next().is_multiple_of(self.one_in) {
                self.bytes.push_back(byte);
                continue;
            }
            self.hurt += 1;
            let bit = self.next() % 8;
            match self.next() % 3 {
                0 => self.bytes.push_back(byte ^ 1 << bit),
                1 => {}
                _ => self.bytes.extend([byte, byte]),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Host, board and the line between them.
struct Scene<'m> {
    board: BoardLink<'m>,
    to_board: Noisy,
    to_host: Noisy,
    decoder: Decoder,
    now_ms: u64,
    /// Requests that the board has worked on.
    worked: u32,
}

impl<'m> Scene<'m> {
    fn new(request: &'m mut [u8], answer: &'m mut [u8], one_in: u64) -> Self {
        Self {
            board: BoardLink::new(request, answer),
            to_board: Noisy::new(1, one_in),
            to_host: Noisy::new(2, one_in),
            decoder: Decoder::default(),
            now_ms: 0,
            worked: 0,
        }
    }

    /// The board takes what has come, and answers a request with its bytes, inverted.
    fn board(&mut self) {
        while let Some(byte) = self.to_board.bytes.pop_front() {
            if self.board.push(byte, &mut self.to_host).unwrap() {
                self.worked += 1;
                let (request, answer, _) = self.board.work();
                request.iter().zip(&mut *answer).for_each(|(byte, out)| *out = !byte);
                let bytes = request.len();
                self.board.answer(bytes, &mut self.to_host).unwrap();
            }
        }
    }

    fn exchange(&mut self, id: (u32, u32), request: &[u8], timing: Timing) -> Result<Vec<u8>, LinkError> {
        let mut memory = [0; MESSAGE_BYTES];
        let mut exchange = Exchange::new(id, request, &mut memory, timing, self.now_ms);
        let mut wire = [0; FRAME_BYTES];
        loop {
            match exchange.step(self.now_ms, &mut wire)? {
                Step::Send(bytes) => self.to_board.write_all(bytes).unwrap(),
                Step::Answered => return Ok(exchange.answer().to_vec()),
                Step::Wait { until_ms } => {
                    self.board();
                    if self.to_host.bytes.is_empty() {
                        self.now_ms = until_ms;
                    }
                    while let Some(byte) = self.to_host.bytes.pop_front() {
                        if let Some(frame) = self.decoder.push(byte) {
                            exchange.receive(self.now_ms, frame);
                        }
                    }
                }
            }
        }
    }
}

fn message(number: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(number) >> 11) as u8).collect()
}

#[test]
fn every_request_through_a_noisy_line_gets_its_answer_and_is_worked_on_once() {
    let (mut request, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    let mut scene = Scene::new(&mut request, &mut answer, 1000);
    let count = 20_000;
    for number in 0..count {
        // Most are short, and some as long as can be.
        let bytes = if number % 16 == 0 { number as usize % MESSAGE_BYTES } else { number as usize % 300 };
        let message = message(number, bytes);
        let answer = scene.exchange((77, number), &message, Timing::default()).unwrap();
        assert!(answer.iter().eq(message.iter().map(|byte| !byte).collect::<Vec<_>>().iter()), "request {number}");
    }
    assert_eq!(scene.worked, count);
    assert!(scene.to_board.hurt > 5_000 && scene.to_host.hurt > 5_000);
}

#[test]
fn a_line_that_hurts_one_byte_in_fifty_still_carries_short_messages() {
    let (mut request, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    let mut scene = Scene::new(&mut request, &mut answer, 50);
    for number in 0..2000 {
        let message = message(number, 40);
        assert_eq!(scene.exchange((1, number), &message, Timing::default()).unwrap().len(), 40);
    }
    assert_eq!(scene.worked, 2000);
}

#[test]
fn a_board_that_is_off_and_a_line_of_noise_alone_are_told_apart() {
    let (mut request, mut answer) = ([0; 200], [0; 200]);
    let mut scene = Scene::new(&mut request, &mut answer, 0);
    scene.to_host.one_in = 1;
    let (mut wire, mut memory) = ([0; FRAME_BYTES], [0; 200]);
    let mut exchange = Exchange::new((1, 0), b"hello", &mut memory, Timing::default(), 0);
    let mut now_ms = 0;
    let error = loop {
        match exchange.step(now_ms, &mut wire) {
            Ok(Step::Wait { until_ms }) => now_ms = until_ms,
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error, LinkError::NoAnswer { silent_ms: 10_000, damaged: 0 });
    let error = scene.exchange((1, 0), b"hello", Timing::default()).unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { damaged: 1.., .. }), "{error:?}");
}

#[test]
fn a_board_that_never_comes_further_is_given_up() {
    let (mut wire, mut memory) = ([0; FRAME_BYTES], [0; 200]);
    let mut exchange = Exchange::new((1, 0), b"hello", &mut memory, Timing::default(), 0);
    let nothing = Frame { session: 1, request: 0, body: Body::Have { have: 0 } };
    let error = (0..).find_map(|now_ms| {
        exchange.receive(now_ms, Ok(nothing));
        exchange.step(now_ms, &mut wire).err()
    });
    assert_eq!(error, Some(LinkError::TooNoisy { damaged: 0, refused: 0 }));
}

/// What the board says to a frame.
fn said(board: &mut BoardLink<'_>, session: u32, request: u32, body: Body<'_>) -> Vec<Result<(u32, Refusal), u64>> {
    let mut line = Noisy::new(0, 0);
    let mut wire = [0; FRAME_BYTES];
    for &byte in (Frame { session, request, body }).encode(&mut wire) {
        if board.push(byte, &mut line).unwrap() {
            board.answer(0, &mut line).unwrap();
        }
    }
    let mut decoder = Decoder::default();
    let frames = line.bytes.iter().filter_map(|&byte| {
        let frame = decoder.push(byte)?.unwrap();
        match frame.body {
            Body::Refused(refusal) => Some(Ok((frame.request, refusal))),
            Body::Have { have } => Some(Err(have)),
            _ => None,
        }
    });
    frames.collect()
}

#[test]
fn frames_out_of_their_turn_are_refused_and_disturb_nothing() {
    let (mut request, mut answer) = ([0; 3 * PART_BYTES], [0; 100]);
    let mut board = BoardLink::new(&mut request, &mut answer);
    let whole = Body::Part(Part { index: 0, count: 1, is_last: true, bytes: b"a" });
    let half = Body::Part(Part { index: 0, count: 2, is_last: true, bytes: &[1; PART_BYTES] });
    let poll = Body::Poll { have: 0, cancel: false };
    assert_eq!(said(&mut board, 5, 3, whole), [Ok((3, Refusal::UnknownSession))], "no session yet");
    assert_eq!(said(&mut board, 5, 3, poll), [Ok((3, Refusal::UnknownSession))]);
    assert_eq!(said(&mut board, 5, 0, whole), []);
    assert_eq!(said(&mut board, 5, 1, poll), [Err(0)], "nothing of the next request has come");
    assert_eq!(said(&mut board, 5, 1, half), [Err(1)]);
    assert_eq!(said(&mut board, 5, 0, whole), [Ok((0, Refusal::Replayed { at_hand: 1 }))]);
    assert_eq!(said(&mut board, 6, 1, whole), [Ok((1, Refusal::UnknownSession))]);
    assert_eq!(said(&mut board, 5, 1, poll), [Err(1)], "what had come is still there");
    let other = Body::Part(Part { index: 4, count: 9, is_last: true, bytes: &[1; PART_BYTES] });
    assert_eq!(said(&mut board, 5, 1, other), [Ok((1, Refusal::BadPart))]);
    assert_eq!(said(&mut board, 5, 2, other), [Ok((2, Refusal::BadPart))], "longer than the memory");
    assert_eq!(said(&mut board, 5, 2, Body::Have { have: 0 }), [Ok((2, Refusal::Malformed))]);
    assert_eq!(said(&mut board, 6, 0, whole), [], "another session may always begin");
    assert_eq!(said(&mut board, 5, 3, whole), [Ok((3, Refusal::UnknownSession))]);
}

#[test]
fn work_goes_on_while_the_host_asks_and_ends_when_it_wants_no_more() {
    let (mut request, mut answer) = ([0; 100], [0; 100]);
    let mut board = BoardLink::new(&mut request, &mut answer);
    let (mut line, mut wire) = (Noisy::new(0, 0), [0; FRAME_BYTES]);
    let (whole, working) =
        (Body::Part(Part { index: 0, count: 1, is_last: true, bytes: b"a" }), Body::Working { done: 3, total: 9 });
    for &byte in (Frame { session: 1, request: 0, body: whole }).encode(&mut wire) {
        board.push(byte, &mut line).unwrap();
    }
    assert!(board.has_request());
    let (_, _, mut watch) = board.work();
    for (session, request, cancel, is_stopped) in [(1, 0, false, false), (2, 8, true, false), (1, 0, true, true)] {
        let poll = Frame { session, request, body: Body::Poll { have: 0, cancel } };
        for &byte in poll.encode(&mut wire) {
            watch.push(byte, (3, 9), &mut line).unwrap();
        }
        assert_eq!(watch.is_stopped(), is_stopped);
    }
    let mut decoder = Decoder::default();
    let frames = line.bytes.iter().filter_map(|&byte| decoder.push(byte).map(|frame| frame.unwrap().body == working));
    assert_eq!(frames.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_board_that_was_started_anew_or_speaks_otherwise_is_named() {
    let (mut request, mut answer) = ([0; 100], [0; 100]);
    let mut scene = Scene::new(&mut request, &mut answer, 0);
    assert_eq!(scene.exchange((1, 7), b"a", Timing::default()), Err(LinkError::Restarted));
    let mut memory = [0; 100];
    let mut exchange = Exchange::new((1, 0), b"a", &mut memory, Timing::default(), 0);
    exchange.receive(0, Err(Refusal::UnsupportedVersion { found: 9, expected: 1 }));
    let error = exchange.step(0, &mut [0; FRAME_BYTES]).unwrap_err();
    assert_eq!(error, LinkError::UnsupportedVersion { board: 9, host: 1 });
    assert!(error.to_string().contains("update the older"));
}
