//! Thousands of requests to a board over a line that hurts some of the bytes: every answer must be the host's.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Result, ensure};
use mbert::device::client::{Client, Repeated};
use mbert::device::port::Port;
use mbert::device::{features, fill_mask, tokenize};
use mbert::fill_mask::{Answer, Question};
use mbert_device::protocol::link::host::Timing;
use mbert_device::protocol::messages::{Answer as Reply, Request};
use mbert_runtime::encoder::threads::Threads;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes};
use mbert_runtime::trace::TraceHash;

use crate::splitmix64;

/// A port whose bytes are flipped, lost or doubled, one in so many, in both directions.
struct Noisy {
    port: Box<dyn Port>,
    one_in: u64,
    drawn: u64,
    /// Bytes that were read and doubled, for the next read.
    left: Vec<u8>,
}

impl Noisy {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        splitmix64(7, self.drawn)
    }

    fn hurt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut hurt = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if self.one_in == 0 || !self.next().is_multiple_of(self.one_in) {
                hurt.push(byte);
                continue;
            }
            match self.next() % 3 {
                0 => hurt.push(byte ^ 1 << (self.next() % 8)),
                1 => {}
                _ => hurt.extend([byte, byte]),
            }
        }
        hurt
    }
}

impl Read for Noisy {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            let count = self.port.read(bytes)?;
            if count == 0 {
                return Ok(0);
            }
            self.left = self.hurt(&bytes[..count]);
        }
        let count = self.left.len().min(bytes.len());
        bytes[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

impl Write for Noisy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let hurt = self.hurt(bytes);
        self.port.write_all(&hurt)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.port.flush()
    }
}

impl Port for Noisy {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.port.set_timeout(timeout)
    }
}

/// An emulator on a busy machine may be silent for long.
const SILENCE_MS: u64 = 150_000;

/// What is asked, over and over; texts of many lengths and scripts.
const TEXTS: [&str; 6] = [
    "Paris is the [MASK] of France.",
    "She opened the [MASK] and went into the [MASK].",
    "Er schüttelte den [MASK] und sagte kein Wort.",
    "Я ничего не [MASK].",
    "我不[MASK]道。",
    "It was a long [MASK], and when they came to the end of it they sat down by the river and looked at the boats, the trees \
     and the houses on the other side until it was dark and the lights went on in the windows one after another.",
];

/// The host's answers for a text.
struct Expected {
    tokens: Vec<i32>,
    answers: Vec<Vec<Answer>>,
    trace: String,
    hidden: Vec<i16>,
    next: [i32; 2],
}

fn expected(model: &Model<&[u8]>, text: &str) -> Result<Expected> {
    let mut memory = vec![0; memory_bytes(model.config(), model.config().max_position_embeddings.into())];
    let mut pipeline = Pipeline::new(model, Kernels::native(), &mut memory)?;
    let mut trace = TraceHash::default();
    let question = Question { text, top_k: 5, targets: None, special_tokens: false };
    let mut threads = Threads::new(NonZeroUsize::MIN);
    let answers = mbert::fill_mask::fill_mask(model, &mut pipeline, &mut threads, &question, &mut trace)?;
    let tokens = pipeline.encode(text, None)?.iter().map(|&id| id as i32).collect();
    let hidden = pipeline.forward(&mut ())?.last_hidden_state().to_vec();
    let next = pipeline.next_sentence(text, TEXTS[0])?;
    Ok(Expected { tokens, answers, trace: mbert::inspect::hex(&trace.finish()), hidden, next })
}

/// What has been seen.
#[derive(Debug)]
pub struct Summary {
    /// Requests, each answered right.
    pub requests: u32,
    /// Frames that had to be sent again.
    pub repeated: Repeated,
}

/// Asks so many times, of which a few are for features, and compares every answer with that of a model on this machine.
///
/// # Errors
///
/// The first answer that is wrong or does not come.
pub fn run(port: Box<dyn Port>, model: &[u8], requests: u32, one_in: u64) -> Result<Summary> {
    let model = Model::open(model)?;
    let expected: Vec<_> = TEXTS.iter().map(|text| expected(&model, text)).collect::<Result<_>>()?;
    let step = 2f32.powi(-model.hidden_fraction_bits(model.config().num_hidden_layers.into())?);
    let port = Noisy { port, one_in, drawn: 0, left: Vec::new() };
    let mut client = Client::open(Box::new(port), Timing { silence_ms: SILENCE_MS, ..Timing::default() })?;
    for number in 0..requests {
        let at = number as usize % TEXTS.len();
        let (text, expected) = (TEXTS[at], &expected[at]);
        let is_right = match number / TEXTS.len() as u32 % 8 {
            0 => {
                let request = Request::FillMask { text, top_k: 5, special_tokens: false, trace: true };
                let (answers, trace) = fill_mask::fill_mask(&mut client, &request)?;
                answers == expected.answers && trace.as_ref() == Some(&expected.trace)
            }
            1 => {
                let request = Request::NextSentence { text, pair: TEXTS[0], trace: false };
                let next = Reply::NextSentence { logits: expected.next, trace_sha256: None };
                client.ask_for(&request, |answer| Some(*answer == next))?
            }
            2 => {
                let features = features::ask(&mut client, text, false, false)?;
                features.values.iter().copied().eq(expected.hidden.iter().map(|&value| f32::from(value) * step))
            }
            _ => tokenize::tokenize(&mut client, text)?.into_ids() == expected.tokens,
        };
        ensure!(is_right, "answer {number} is not the host's, for {text:?}");
    }
    Ok(Summary { requests, repeated: client.repeated() })
}
