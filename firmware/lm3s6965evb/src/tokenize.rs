//! A first answer from the card: the token ids of a text, by the vocabulary that is read block by block.

use core::fmt::{self, Write};

use mbert_firmware::ConstStaticCell;
use mbert_firmware::counter::InstructionCounter;
use mbert_firmware::memory::stack_bytes;
use mbert_firmware::sd_card::{BLOCK_BYTES, CardError};
use mbert_firmware::semihosting::{self, Console};
use mbert_runtime::format::header::HEADER_BYTES;
use mbert_runtime::format::manifest::Manifest;
use mbert_runtime::format::section::{ENTRY_BYTES, Section, SectionKind};
use mbert_runtime::storage::{BlockCache, BlockSource, Storage};
use mbert_runtime::tokenizer::{Encoding, Tokenizer, Truncation, Vocab};

use crate::card::{ModelFile, open_model};

const LINE_BYTES: usize = 1024;
const TOKENS: usize = 128;
const CACHE_BLOCKS: usize = 8;

/// Why there is no answer.
pub enum Failure {
    Card(CardError),
    Other(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card(error) => error.fmt(f),
            Self::Other(error) => f.write_str(error),
        }
    }
}

impl From<CardError> for Failure {
    fn from(error: CardError) -> Self {
        Self::Card(error)
    }
}

/// `tokenize TEXT`, or `read`, which reads the whole file and says what that takes.
///
/// # Safety
///
/// As [`open_model`].
pub unsafe fn obey(counter: &dyn InstructionCounter) -> Result<(), Failure> {
    let mut line = [0; LINE_BYTES];
    let line = semihosting::command_line(&mut line).and_then(|line| str::from_utf8(line).ok());
    let mut words = line.ok_or(Failure::Other("no command, or too long"))?.split('\x1f');
    let begin = counter.instructions();
    // SAFETY: the caller's promise.
    let file = unsafe { open_model() }?;
    let _ = writeln!(
        Console::out(),
        "{file:?} of {} bytes, found in {} instructions, stack_bytes {}",
        size_of_val(&file),
        counter.instructions() - begin,
        stack_bytes()
    );
    match (words.next(), words.next()) {
        (Some("tokenize"), Some(text)) => tokenize(file, text),
        (Some("read"), kib) => read(file, counter, kib.and_then(|kib| kib.parse().ok()).unwrap_or(16)),
        _ => Err(Failure::Other("unknown command: tokenize TEXT or read [KIB]")),
    }
    .map(|()| {
        let _ = writeln!(Console::out(), "stack_bytes {}", stack_bytes());
    })
}

#[inline(never)]
fn read(mut file: ModelFile, counter: &dyn InstructionCounter, kib: usize) -> Result<(), Failure> {
    static BUFFER: ConstStaticCell<[u8; 32 << 10]> = ConstStaticCell::new([0; 32 << 10]);
    let buffer = BUFFER.take().get_mut(..kib << 10).ok_or(Failure::Other("too much"))?;
    let (mut at, mut sum, mut instructions) = (0, 0u32, 0);
    while at < file.device_bytes() {
        let bytes = buffer.len().min((file.device_bytes() - at) as usize);
        let piece = buffer.get_mut(..bytes).unwrap_or_default();
        let begin = counter.instructions();
        file.read(at, piece)?;
        instructions += counter.instructions() - begin;
        let inside = bytes.min((file.bytes() - at) as usize);
        sum = piece.iter().take(inside).fold(sum, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        at += bytes as u32;
    }
    let _ = writeln!(Console::out(), "read {at} bytes in {instructions} instructions, sum {sum:08x}");
    Ok(())
}

#[inline(never)]
fn tokenize(file: ModelFile, text: &str) -> Result<(), Failure> {
    let (bytes, device_bytes) = (file.bytes(), file.device_bytes());
    let cache: BlockCache<_, CACHE_BLOCKS, BLOCK_BYTES> = BlockCache::new(file, device_bytes);
    let ids = &mut [0; TOKENS];
    let result = encode(cache.section(0, bytes), text, ids);
    if let Some(error) = cache.take_error() {
        return Err(error.into());
    }
    let _ = writeln!(Console::out(), "ids {:?}, {} bytes read", result?, cache.bytes_read());
    Ok(())
}

fn encode<'i>(model: impl Storage, text: &str, ids: &'i mut [u32]) -> Result<&'i [u32], Failure> {
    let unreadable = |_| Failure::Other("unreadable");
    let sections = u16::from_le_bytes(model.read(6).map_err(unreadable)?);
    let entry = |index: u16| model.read(HEADER_BYTES as u32 + u32::from(index) * ENTRY_BYTES as u32).ok();
    let entry = |kind| {
        let found =
            (0..sections).filter_map(|index| Section::parse(&entry(index)?)).find(|section| section.kind == kind);
        let found = found.ok_or(Failure::Other("no such section"))?;
        Ok::<_, Failure>(model.section(found.offset_bytes as u32, found.length_bytes as u32))
    };
    let manifest = entry(SectionKind::Manifest)?.read::<1024>(0).map_err(unreadable)?;
    let (manifest, _) = postcard::take_from_bytes::<Manifest>(&manifest).map_err(|_| Failure::Other("no manifest"))?;
    let vocab = Vocab::open(entry(SectionKind::Vocabulary)?).map_err(|_| Failure::Other("no vocabulary"))?;
    let tokenizer = Tokenizer::new(vocab, manifest.tokenizer).map_err(|_| Failure::Other("no tokenizer"))?;
    let mut encoding = Encoding::new(ids);
    tokenizer
        .encode(text, None, Truncation::DoNotTruncate, &mut encoding)
        .map_err(|_| Failure::Other("the text cannot be encoded"))?;
    let tokens = encoding.len();
    Ok(&ids[..tokens])
}
