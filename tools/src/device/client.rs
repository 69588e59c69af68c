//! A conversation with a board: requests and answers over a port, with a clock.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressBar;
use mbert_device::protocol::frame::{Decoder, FRAME_BYTES};
use mbert_device::protocol::link::host::{Exchange, Step, Timing};
use mbert_device::protocol::link::parts::MESSAGE_BYTES;
use mbert_device::protocol::messages::{Answer, Hello, Request, decode_answer};

use super::port::Port;
use crate::convert::progress_bar;

/// More than any answer has: 512 tokens of 8,192 values. A board that promises more is not believed.
const MAX_ITEMS: usize = 512 * 8192;

/// A session with a board.
pub struct Client {
    port: Box<dyn Port>,
    decoder: Decoder,
    timing: Timing,
    started: Instant,
    session: u32,
    /// Of the next request.
    number: u32,
    cancel_after: Option<Duration>,
    shows_progress: bool,
    hello: Vec<u8>,
    request: [u8; MESSAGE_BYTES],
    answer: [u8; MESSAGE_BYTES],
    answer_bytes: usize,
    repeated: Repeated,
}

/// Frames that had to be sent again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeated {
    /// Damaged on their way to the host.
    pub damaged: u64,
    /// Damaged on their way to the board.
    pub refused: u64,
}

/// The board's answer is none that this request can have.
pub fn unexpected(answer: &Answer<'_>) -> anyhow::Error {
    anyhow!("the board answers something else than was asked: {answer:?}")
}

impl Client {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// If the port fails, or the board does not answer.
    pub fn open(port: Box<dyn Port>, timing: Timing) -> Result<Self> {
        let mut client = Self {
            port,
            decoder: Decoder::default(),
            timing,
            started: Instant::now(),
            session: 0,
            number: 0,
            cancel_after: None,
            shows_progress: false,
            hello: Vec::new(),
            request: [0; MESSAGE_BYTES],
            answer: [0; MESSAGE_BYTES],
            answer_bytes: 0,
            repeated: Repeated::default(),
        };
        client.reopen()?;
        Ok(client)
    }

    /// Opens another session on the same port, after the board has been started anew.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn reopen(&mut self) -> Result<()> {
        // Whatever the board has heard before, a zero ends it.
        self.port.write_all(&[0]).map_err(port_failed)?;
        self.session = RandomState::new().hash_one(self.started) as u32;
        self.number = 0;
        self.exchange(&Request::Hello)?;
        self.hello = self.answer[..self.answer_bytes].to_vec();
        self.hello().map(|_| ())
    }

    /// What the board has said of itself.
    ///
    /// # Errors
    ///
    /// If it has said something else.
    pub fn hello(&self) -> Result<Hello<'_>> {
        match decode_answer(&self.hello).context("the board says")? {
            (Answer::Hello(hello), []) => Ok(hello),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    /// Stops a request on the board when it takes longer.
    pub fn cancel_after(&mut self, limit: Option<Duration>) {
        self.cancel_after = limit;
    }

    /// From now on the board may be silent so much longer.
    pub fn be_patient(&mut self, longer: Duration) {
        self.timing.silence_ms += longer.as_millis() as u64;
    }

    /// Shows how far the board is with a request, or not.
    pub fn show_progress(&mut self, shows_progress: bool) {
        self.shows_progress = shows_progress;
    }

    /// Frames that had to be sent again so far.
    pub fn repeated(&self) -> Repeated {
        self.repeated
    }

    /// Asks, and returns the answer with its items.
    ///
    /// # Errors
    ///
    /// What the board says, why it says nothing, or what is wrong with the port.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<(Answer<'_>, &[u8])> {
        self.exchange(request)?;
        decode_answer(&self.answer[..self.answer_bytes]).context("the board says")
    }

    /// Asks, and returns an answer that has no items, as `read` takes it.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_for<T>(&mut self, request: &Request<'_>, read: impl FnOnce(&Answer<'_>) -> Option<T>) -> Result<T> {
        let (answer, items) = self.ask(request)?;
        ensure!(items.is_empty(), "more stands behind the board's answer than belongs to it");
        read(&answer).ok_or_else(|| unexpected(&answer))
    }

    /// Asks for a list: `head` reads the answer and how many items there are, `items` reads what has come of them.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_for_all<T, H>(
        &mut self,
        request: &Request<'_>,
        head: impl FnOnce(&Answer<'_>) -> Option<(usize, H)>,
        mut items: impl FnMut(&[u8], &mut Vec<T>) -> Result<()>,
    ) -> Result<(H, Vec<T>)> {
        let mut list = Vec::new();
        let (answer, bytes) = self.ask(request)?;
        let (total, head) = head(&answer).ok_or_else(|| unexpected(&answer))?;
        ensure!(
            total <= MAX_ITEMS,
            "the board promises {total} items, more than the {MAX_ITEMS} that an answer can have"
        );
        items(bytes, &mut list)?;
        while list.len() < total {
            let before = list.len();
            let (_, bytes) = self.ask(&Request::More { first: before as u32 })?;
            items(bytes, &mut list)?;
            ensure!(list.len() > before, "the board has told {before} of {total} items, and no more");
        }
        Ok((head, list))
    }

    /// Sends a request, and waits for its answer.
    fn exchange(&mut self, request: &Request<'_>) -> Result<()> {
        let Self { port, decoder, timing, started, cancel_after, .. } = self;
        let progress = if self.shows_progress { progress_bar() } else { ProgressBar::hidden() };
        let now_ms = || started.elapsed().as_millis() as u64;
        let message = request.encode(&mut self.request)?;
        let (begun_ms, limit_ms) = (now_ms(), cancel_after.map(|limit| limit.as_millis() as u64));
        let mut exchange = Exchange::new((self.session, self.number), message, &mut self.answer, *timing, begun_ms);
        self.number = self.number.wrapping_add(1);
        let (mut wire, mut bytes) = ([0; FRAME_BYTES], [0; 1024]);
        let outcome = loop {
            let now = now_ms();
            if limit_ms.is_some_and(|limit| now - begun_ms >= limit) {
                exchange.cancel();
            }
            match exchange.step(now, &mut wire) {
                Err(error) => break Err(error),
                Ok(Step::Answered) => break Ok(exchange.answer().len()),
                Ok(Step::Send(frame)) => match port.write_all(frame) {
                    // What was not taken in time is lost, and sent again.
                    Err(error) if !is_timeout(&error) => return Err(port_failed(error)),
                    _ => {}
                },
                Ok(Step::Wait { until_ms }) => {
                    port.flush().map_err(port_failed)?;
                    let now = now_ms();
                    port.set_timeout(Duration::from_millis(until_ms.saturating_sub(now).max(1)))
                        .map_err(port_failed)?;
                    let count = match port.read(&mut bytes) {
                        Ok(0) => return Err(port_failed(ErrorKind::ConnectionReset.into())),
                        Ok(count) => count,
                        Err(error) if is_timeout(&error) => 0,
                        Err(error) => return Err(port_failed(error)),
                    };
                    let now = now_ms();
                    for &byte in &bytes[..count] {
                        if let Some(frame) = decoder.push(byte) {
                            exchange.receive(now, frame);
                        }
                    }
                    let (done, total) = exchange.progress();
                    if total > 0 {
                        progress.set_length(total.into());
                        progress.set_position(done.into());
                    }
                }
            }
        };
        progress.finish_and_clear();
        let (damaged, refused) = exchange.damaged();
        self.repeated.damaged += u64::from(damaged);
        self.repeated.refused += u64::from(refused);
        self.answer_bytes = outcome?;
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn port_failed(error: io::Error) -> anyhow::Error {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error.kind() {
        // Without the error: one of a pipe would pass for that of a reader of our output, who has seen enough.
        BrokenPipe | ConnectionAborted | ConnectionReset => {
            anyhow!("the port was closed at its other end: is the board, or the emulator, still on?")
        }
        _ => anyhow::Error::new(error).context("the port of this computer failed"),
    }
}
