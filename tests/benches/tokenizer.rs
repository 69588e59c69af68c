//! Speed of the tokenizer beside Hugging Face's `tokenizers`, on one core, in turns in one run.
//!
//! ```text
//! cargo bench -p mbert-tests --bench tokenizer
//! ```
//!
//! Text: the news sample in 129 languages, and its English lines that are ASCII throughout. Each line is encoded for
//! itself, with `[CLS]` and `[SEP]`. Printed is the median of the rounds, in megabytes of text per second.

use std::collections::HashSet;
use std::time::Instant;

use mbert::convert::vocab::{build_vocabulary, parse_vocab_txt};
use mbert_runtime::config::TokenizerConfig;
use mbert_runtime::tokenizer::{Encoding, Offsets, Tokenizer, Truncation, Vocab};
use mbert_tests::shared;
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
}

fn compare(name: &str, lines: &[String], tokens: &[&str], do_lower_case: bool) {
    let id = |token: &str| tokens.iter().position(|t| *t == token).unwrap() as u32;
    let config = TokenizerConfig {
        do_lower_case,
        strip_accents: None,
        tokenize_chinese_chars: true,
        pad_token_id: id("[PAD]"),
        unk_token_id: id("[UNK]"),
        cls_token_id: id("[CLS]"),
        sep_token_id: id("[SEP]"),
        mask_token_id: id("[MASK]"),
    };
    let section = build_vocabulary(tokens).unwrap();
    let ours = Tokenizer::new(Vocab::open(&section[..]).unwrap(), config).unwrap();

    let vocab = tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32));
    let model = WordPiece::builder().vocab(vocab.collect::<ahash::AHashMap<_, _>>()).build().unwrap();
    let mut reference = Reference::new(model);
    reference.with_normalizer(Some(BertNormalizer::new(true, true, None, do_lower_case))).unwrap();
    reference.with_pre_tokenizer(Some(BertPreTokenizer));
    let [cls, sep] = ["[CLS]", "[SEP]"].map(|token| (token.to_string(), id(token)));
    reference.with_post_processor(Some(BertProcessing::new(sep, cls)));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|token| AddedToken::from(token, true));
    reference.add_special_tokens(special).unwrap();

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
}
