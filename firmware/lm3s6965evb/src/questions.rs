//! What is asked of the card: `tokenize TEXT`, for which the vocabulary is read block by block, or `read`, the whole model.

use core::fmt::{self, Write};

use mbert_firmware::ConstStaticCell;
use mbert_firmware::counter::InstructionCounter;
use mbert_firmware::memory::{code_bytes, stack_bytes};
use mbert_firmware::sd_card::{BLOCK_BYTES, CardError};
use mbert_firmware::semihosting::{self, Console};
use mbert_runtime::error::FormatError;
use mbert_runtime::model::Model;
use mbert_runtime::storage::{BlockCache, BlockSource, Storage};
use mbert_runtime::tokenizer::{Encoding, TokenizerError, Truncation};

use crate::card::{ModelFile, open_model};

const LINE_BYTES: usize = 2048;
const TOKENS: usize = 128;
const CACHE_BLOCKS: usize = 8;
/// Bytes that are read with one command to the card.
const PIECE_BYTES: usize = 16 << 10;

/// Why there is no answer.
pub enum Failure {
    /// The debugger has no command, or it is too long, not UTF-8 or unknown.
    Command,
    Card(CardError),
    Format(FormatError),
    Tokenizer(TokenizerError),
    /// The debugger did not take the answer.
    Console,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => write!(f, "no command of up to {LINE_BYTES} bytes: tokenize TEXT, or read"),
            Self::Card(error) => error.fmt(f),
            Self::Format(error) => error.fmt(f),
            Self::Tokenizer(error) => error.fmt(f),
            Self::Console => write!(f, "the debugger did not take the answer"),
        }
    }
}

impl From<CardError> for Failure {
    fn from(error: CardError) -> Self {
        Self::Card(error)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::Console
    }
}

/// Answers the command that came with the start.
///
/// # Errors
///
/// What is wrong with the command, the card or the model.
///
/// # Safety
///
/// As [`open_model`].
pub unsafe fn answer(counter: &dyn InstructionCounter) -> Result<(), Failure> {
    static LINE: ConstStaticCell<[u8; LINE_BYTES]> = ConstStaticCell::new([0; LINE_BYTES]);
    let line = semihosting::command_line(LINE.take()).and_then(|line| str::from_utf8(line).ok());
    let command = line.ok_or(Failure::Command)?.split_once('\x1f');
    let mut out = Console::out();
    let begin = counter.instructions();
    // SAFETY: the caller's promise.
    let file = unsafe { open_model() }?;
    let instructions = counter.instructions() - begin;
    writeln!(out, "{file:?}, found in {instructions} instructions with {} bytes of stack", stack_bytes())?;
    match command {
        Some(("tokenize", text)) => tokenize(file, text)?,
        None if line == Some("read") => read_all(file, counter)?,
        _ => return Err(Failure::Command),
    }
    writeln!(out, "stack_bytes {}", stack_bytes())?;
    writeln!(out, "code_bytes {}", code_bytes())?;
    Ok(())
}

#[inline(never)]
fn tokenize(file: ModelFile, text: &str) -> Result<(), Failure> {
    let (bytes, device_bytes) = (file.bytes(), file.device_bytes());
    let cache: BlockCache<_, CACHE_BLOCKS, BLOCK_BYTES> = BlockCache::new(file, device_bytes);
    let result = print_ids(cache.section(0, bytes), text);
    // What the card said is nearer to the cause than what came of it.
    cache.take_error().map_or(result, |error| Err(error.into()))?;
    writeln!(Console::out(), "{} bytes read", cache.bytes_read())?;
    Ok(())
}

fn print_ids(blob: impl Storage, text: &str) -> Result<(), Failure> {
    let model = Model::open(blob)?;
    let mut ids = [0; TOKENS];
    let mut encoding = Encoding::new(&mut ids);
    model.tokenizer().encode(text, None, Truncation::DoNotTruncate, &mut encoding)?;
    writeln!(Console::out(), "ids {:?}", encoding.ids())?;
    Ok(())
}

#[inline(never)]
fn read_all(mut file: ModelFile, counter: &dyn InstructionCounter) -> Result<(), Failure> {
    static PIECE: ConstStaticCell<[u8; PIECE_BYTES]> = ConstStaticCell::new([0; PIECE_BYTES]);
    let piece = PIECE.take();
    let (mut sum, mut instructions) = (0u32, 0);
    for offset in (0..file.device_bytes()).step_by(PIECE_BYTES) {
        let bytes = PIECE_BYTES.min((file.device_bytes() - offset) as usize);
        let piece = &mut piece[..bytes];
        let begin = counter.instructions();
        file.read(offset, piece)?;
        instructions += counter.instructions() - begin;
        let bytes = piece.iter().take((file.bytes() - offset) as usize);
        sum = bytes.fold(sum, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    }
    writeln!(Console::out(), "{} bytes in {instructions} instructions, sum {sum:08x}", file.bytes())?;
    Ok(())
}
