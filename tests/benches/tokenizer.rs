//! Speed of the tokenizer beside Hugging Face's `tokenizers`, on one core, in turns in one run.
//!
//! ```text
//! cargo bench -p mbert-tests --bench tokenizer
//! cargo bench -p mbert-tests --bench tokenizer --features release-candidate
//! ```
//!
//! Text: the news sample in 129 languages, and its English lines that are ASCII throughout. Each line is encoded for
//! itself, with `[CLS]` and `[SEP]`. Printed is the median of the rounds, in megabytes of text per second; with
//! `release-candidate` also of the coming version of the reference, which gives no offsets. Then, what the multilingual
//! vocabulary costs: bytes, reads per byte of text, and blocks per token where it lies on a device.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::Instant;

use mbert::convert::vocab::{build_vocabulary, parse_vocab_txt};
use mbert_runtime::config::TokenizerConfig;
use mbert_runtime::storage::{BlockCache, BlockSource, Blocks};
use mbert_runtime::tokenizer::{Encoding, Offsets, Tokenizer, Truncation, Vocab};
use mbert_tests::{CountedSection, shared};
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, TokenizerImpl};

type Reference = TokenizerImpl<WordPiece, BertNormalizer, BertPreTokenizer, BertProcessing, WordPieceDecoder>;

const ROUNDS: usize = 7;

fn main() {
    let (Some(folder), Some(vocab)) =
        (shared("text/ntrex128-sample"), shared("vocabs/bert-base-multilingual-cased.vocab.txt"))
    else {
        return;
    };
    let vocab = std::fs::read_to_string(vocab).unwrap();
    let tokens = parse_vocab_txt(&vocab);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let (mut all, mut ascii) = (Vec::new(), HashSet::new());
    for path in paths {
        let lines = std::fs::read_to_string(&path).unwrap();
        all.extend(lines.lines().map(String::from));
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("eng")) {
            ascii.extend(lines.lines().filter(|line| line.is_ascii()).map(String::from));
        }
    }
    let ascii: Vec<String> = ascii.into_iter().collect();

    for do_lower_case in [false, true] {
        for (name, lines) in [("129 languages", &all), ("ASCII English", &ascii)] {
            compare(
                &format!("{name}, {}", if do_lower_case { "uncased" } else { "cased" }),
                lines,
                &tokens,
                do_lower_case,
            );
        }
    }
    costs(&all, &tokens);
}

fn config_of(tokens: &[&str], do_lower_case: bool) -> TokenizerConfig {
    let id = |token: &str| tokens.iter().position(|t| *t == token).unwrap() as u32;
    TokenizerConfig {
        do_lower_case,
        strip_accents: None,
        tokenize_chinese_chars: true,
        pad_token_id: id("[PAD]"),
        unk_token_id: id("[UNK]"),
        cls_token_id: id("[CLS]"),
        sep_token_id: id("[SEP]"),
        mask_token_id: id("[MASK]"),
    }
}

/// A device in memory.
#[derive(Debug)]
struct Device<'a>(&'a [u8]);

impl BlockSource for Device<'_> {
    type Error = ();

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), ()> {
        buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

fn costs(lines: &[String], tokens: &[&str]) {
    let config = config_of(tokens, false);
    let bytes = &build_vocabulary(tokens).unwrap()[..];
    println!("vocabulary: {} bytes for {} tokens", bytes.len(), tokens.len());

    let reads = Cell::new(0);
    let counted = Tokenizer::new(Vocab::open(CountedSection { bytes, reads: &reads }).unwrap(), config).unwrap();
    reads.set(0);
    let mut count = 0_u64;
    lines.iter().for_each(|line| counted.tokens(line, |_| count += 1).unwrap());
    let text: usize = lines.iter().map(String::len).sum();
    println!(
        "  in memory: {:.2} reads per byte of text, {:.2} per token",
        reads.get() as f64 / text as f64,
        reads.get() as f64 / count as f64
    );

    let size = bytes.len() as u32;
    let cache = BlockCache::new(Device(bytes), size, Blocks::<8, 512>::new());
    let streamed = Tokenizer::new(Vocab::open(cache.section(0, size)).unwrap(), config).unwrap();
    let before = cache.bytes_read();
    lines.iter().for_each(|line| streamed.tokens(line, |_| ()).unwrap());
    println!(
        "  on a device, with a cache of 8 blocks of 512 bytes: {:.2} blocks per token",
        (cache.bytes_read() - before) as f64 / 512.0 / count as f64
    );
}

fn compare(name: &str, lines: &[String], tokens: &[&str], do_lower_case: bool) {
    let config = config_of(tokens, do_lower_case);
    let section = build_vocabulary(tokens).unwrap();
    let ours = Tokenizer::new(Vocab::open(&section[..]).unwrap(), config).unwrap();

    let vocab = tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32));
    let model = WordPiece::builder().vocab(vocab.collect::<ahash::AHashMap<_, _>>()).build().unwrap();
    let mut reference = Reference::new(model);
    reference.with_normalizer(Some(BertNormalizer::new(true, true, None, do_lower_case))).unwrap();
    reference.with_pre_tokenizer(Some(BertPreTokenizer));
    let [cls, sep] =
        [("[CLS]", config.cls_token_id), ("[SEP]", config.sep_token_id)].map(|(t, id)| (t.to_string(), id));
    reference.with_post_processor(Some(BertProcessing::new(sep, cls)));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|token| AddedToken::from(token, true));
    reference.add_special_tokens(special).unwrap();

    #[cfg(feature = "release-candidate")]
    let json = tokenizers_rc::canonicalize_str(&reference.to_string(false).unwrap()).unwrap();
    #[cfg(feature = "release-candidate")]
    let candidate = tokenizers_rc::from_json(&json).unwrap();
    #[cfg(feature = "release-candidate")]
    let (mut candidate_ids, mut candidate_seconds) = (Vec::new(), Vec::new());

    let bytes: usize = lines.iter().map(String::len).sum();
    // So that a round of ours takes long enough to be timed.
    let repeats = (20_000_000 / bytes).max(1);
    let (mut ids, mut offsets) = (vec![0; 4096], vec![Offsets::default(); 4096]);
    let mut seconds = [const { Vec::new() }; 4];
    let mut counts = [0; 4];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for line in (0..repeats).flat_map(|_| lines) {
            let mut encoding = Encoding::new(&mut ids);
            ours.encode(line, None, Truncation::DoNotTruncate, &mut encoding).unwrap();
            counts[0] += encoding.len();
        }
        seconds[0].push(start.elapsed().as_secs_f64() / repeats as f64);

        let start = Instant::now();
        for line in (0..repeats).flat_map(|_| lines) {
            let mut encoding = Encoding::new(&mut ids).with_offsets(&mut offsets);
            ours.encode(line, None, Truncation::DoNotTruncate, &mut encoding).unwrap();
            counts[1] += encoding.len();
        }
        seconds[1].push(start.elapsed().as_secs_f64() / repeats as f64);

        let start = Instant::now();
        for line in lines {
            counts[2] += reference.encode_fast(line.as_str(), true).unwrap().len();
        }
        seconds[2].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        for line in lines {
            counts[3] += reference.encode(line.as_str(), true).unwrap().len();
        }
        seconds[3].push(start.elapsed().as_secs_f64());

        #[cfg(feature = "release-candidate")]
        {
            let options = tokenizers_rc::pipeline::EncodeOptions::default();
            let start = Instant::now();
            let mut count = 0;
            for line in lines {
                candidate_ids.clear();
                candidate.encode_into(line, &options, &mut candidate_ids).unwrap();
                count += candidate_ids.len();
            }
            candidate_seconds.push(start.elapsed().as_secs_f64());
            assert_eq!(count, counts[2] / (seconds[2].len()));
        }
    }
    assert_eq!(counts[0], counts[2] * repeats);
    assert_eq!(counts[1], counts[3] * repeats);

    let [fast, with_offsets, reference_fast, reference_with_offsets] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        bytes as f64 / seconds[ROUNDS / 2] / 1e6
    });
    println!("{name}: {} lines, {bytes} bytes, {} tokens", lines.len(), counts[2] / ROUNDS);
    println!("  ids          {fast:7.1} MB/s, reference {reference_fast:5.2} MB/s: {:.1} times", fast / reference_fast);
    println!(
        "  and offsets  {with_offsets:7.1} MB/s, reference {reference_with_offsets:5.2} MB/s: {:.1} times",
        with_offsets / reference_with_offsets
    );
    #[cfg(feature = "release-candidate")]
    {
        candidate_seconds.sort_by(f64::total_cmp);
        let speed = bytes as f64 / candidate_seconds[ROUNDS / 2] / 1e6;
        println!("  ids, release candidate {speed:5.2} MB/s: {:.1} times", fast / speed);
    }
}
