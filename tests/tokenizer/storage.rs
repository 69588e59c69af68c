//! A vocabulary on a device, a few blocks of it in RAM, gives the tokens of one in memory.

use mbert_runtime::storage::{BlockCache, BlockSource, Blocks};
use mbert_runtime::tokenizer::{CleanUp, Tokenizer, TokenizerError, Vocab, VocabError};

use super::reference::{Both, vocabulary_of};
use super::{MULTILINGUAL, ntrex};

/// A device in memory that fails after a number of reads.
#[derive(Debug)]
struct Device<'a> {
    bytes: &'a [u8],
    blocks_left: usize,
}

impl BlockSource for Device<'_> {
    type Error = &'static str;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.blocks_left = self.blocks_left.checked_sub(1).ok_or("no answer")?;
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

#[test]
fn news_in_129_languages_costs_less_than_6_blocks_per_token_through_a_cache_of_4_kib() {
    let (Some(both), Some(lines)) = (&*MULTILINGUAL, ntrex()) else { return };
    // The section starts in the middle of a block, as it may on a device.
    let device = [&[0xAA; 200], &both.section[..]].concat();
    let cache = BlockCache::new(
        Device { bytes: &device, blocks_left: usize::MAX },
        device.len() as u32,
        Blocks::<8, 512>::new(),
    );
    let section = cache.section(200, both.section.len() as u32);
    let streamed = Tokenizer::new(Vocab::open(section).unwrap(), both.config).unwrap();
    let in_memory = both.ours();
    let bytes_before = cache.bytes_read();
    let mut tokens = 0;
    for line in &lines {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        in_memory.tokens(line, |token| expected.push(token)).unwrap();
        streamed.tokens(line, |token| found.push(token)).unwrap();
        assert_eq!(found, expected, "{line}");
        tokens += found.len();
    }
    let blocks = (cache.bytes_read() - bytes_before) as f64 / 512.0 / tokens as f64;
    println!("{blocks:.2} blocks of 512 bytes per token");
    assert!(blocks < 6.0);
}

#[test]
fn ids_are_decoded_and_found_through_a_cache() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let cache = BlockCache::new(
        Device { bytes: &both.section, blocks_left: usize::MAX },
        both.section.len() as u32,
        Blocks::<1, 64>::new(),
    );
    let section = cache.section(0, both.section.len() as u32);
    let tokenizer = Tokenizer::new(Vocab::open(section).unwrap(), both.config).unwrap();
    let ids: Vec<u32> = (0..tokenizer.vocab().len() as u32).collect();
    let mut text = String::new();
    tokenizer.decode(&ids, true, CleanUp::Tokens, &mut text).unwrap();
    assert_eq!(text, both.reference.decode(&ids, true).unwrap());
    assert_eq!(tokenizer.vocab().id(b"##z"), Ok(Some(56)));
    assert_eq!(tokenizer.vocab().id(b"##zz"), Ok(None));
}

#[test]
fn a_device_that_fails_is_an_error_at_every_block() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let bytes = both.section.len() as u32;
    let mut expected = Vec::new();
    both.ours().tokens("abc [MASK] xyz", |token| expected.push(token)).unwrap();
    let mut succeeded = false;
    for blocks_left in 0..500 {
        let cache = BlockCache::new(Device { bytes: &both.section, blocks_left }, bytes, Blocks::<1, 64>::new());
        let tokenizer = match Vocab::open(cache.section(0, bytes)) {
            Ok(vocab) => Tokenizer::new(vocab, both.config),
            Err(VocabError::Unreadable(unreadable)) => Err(TokenizerError::Unreadable(unreadable)),
            Err(other) => panic!("{other}"),
        };
        let mut found = Vec::new();
        let result = tokenizer.and_then(|t| t.tokens("abc [MASK] xyz", |token| found.push(token)));
        match result {
            Ok(()) => {
                succeeded = true;
                assert_eq!(found, expected);
            }
            Err(TokenizerError::Unreadable(_)) if !succeeded => assert_eq!(cache.take_error(), Some("no answer")),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(succeeded);
}
