//! The tokenizer against Hugging Face's `tokenizers`: ids, offsets, word ids, token types, masks and decoded text are
//! equal. `wordpiece` compares vocabularies that are made to be hard, `stream` text in pieces, `storage` vocabularies that
//! are read from a device.

mod random_text;
mod reference;
mod storage;
mod stream;
mod wordpiece;

use std::sync::LazyLock;

use mbert::convert::vocab::{BuildVocabularyError, build_vocabulary, parse_vocab_txt};
use mbert_runtime::config::TokenizerConfig;
use mbert_runtime::tokenizer::{CleanUp, Encoder, Encoding, Tokenizer, TokenizerError, Truncation, Vocab, VocabError};
use mbert_tests::shared;
use proptest::prelude::*;
use random_text::{RandomText, any_text};
use reference::{Both, vocabulary_of, with_mappings};
use tokenizers::TruncationStrategy;
use tokenizers::normalizers::BertNormalizer;

fn check_every_scalar(step: usize) {
    let scalars: Vec<char> = ('\0'..=char::MAX).step_by(step).collect();
    let modes = [(false, None), (true, None), (true, Some(false)), (false, Some(true))];
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let scalars = &scalars;
            scope.spawn(move || {
                for slice in scalars.chunks(20_000).skip(worker).step_by(2) {
                    let tokens = vocabulary_of(with_mappings(slice).into_iter());
                    for (lower, strip) in modes {
                        let both = Both::new(&tokens, lower, strip);
                        for &c in slice {
                            // Alone, between letters, after a space, doubled, after and before a combining mark (one
                            // that is dropped and one that stays), between ideographs and after punctuation.
                            both.check(&format!("{c}"));
                            both.check(&format!(
                                "a{c}z {c} {c}{c} a\u{302}{c} a{c}\u{326}x a\u{302E}{c}\u{326}x 中{c}中 !{c}!"
                            ));
                        }
                    }
                }
            });
        }
    });
}

static MULTILINGUAL: LazyLock<Option<Both>> = LazyLock::new(|| Both::load("bert-base-multilingual-cased", false));

const ALL_MODELS: [(&str, bool); 6] = [
    ("bert-base-multilingual-cased", false),
    ("bert-base-multilingual-cased", true),
    ("bert-base-cased", false),
    ("bert-base-cased", true),
    ("bert-base-uncased", true),
    ("bert-base-uncased", false),
];

fn ntrex() -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(shared("text/ntrex128-sample")?).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(String::from));
        }
    }
    assert!(lines.len() > 12_000);
    Some(lines)
}

#[test]
fn golden_ids_of_the_multilingual_model_are_reproduced_line_by_line() {
    let Some(both) = &*MULTILINGUAL else { return };
    let Some(path) = shared("text/golden-mbert-tokenize-ntrex.jsonl") else { return };
    let tokenizer = both.ours();
    let mut lines = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected: Vec<u32> = serde_json::from_value(line["ids"].clone()).unwrap();
        let mut ids = [0; 1024];
        let mut encoding = Encoding::new(&mut ids);
        tokenizer.encode(line["text"].as_str().unwrap(), None, Truncation::DoNotTruncate, &mut encoding).unwrap();
        assert_eq!(encoding.ids(), expected, "{line}");
        lines += 1;
    }
    assert_eq!(lines, 2580);
}

#[test]
fn news_in_129_languages_is_encoded_and_decoded_like_the_reference_with_every_vocabulary() {
    let Some(lines) = ntrex() else { return };
    for (name, lower) in ALL_MODELS {
        let Some(both) = Both::load(name, lower) else { return };
        for line in &lines {
            both.check(line);
            both.check_encoding(line, None, Truncation::DoNotTruncate, 512);
            let mut ids = Vec::new();
            both.ours().tokens(line, |token| ids.push(token.id)).unwrap();
            both.check_decode(&ids);
        }
    }
}

#[test]
fn a_sample_of_scalar_values_is_treated_like_the_reference() {
    check_every_scalar(61);
}

#[test]
#[ignore = "minutes: cargo test --release -p mbert-tests --test tokenizer -- --ignored every_scalar"]
fn every_scalar_value_is_treated_like_the_reference() {
    check_every_scalar(1);
}

#[test]
fn special_tokens_in_the_text_become_their_ids() {
    let Some(both) = &*MULTILINGUAL else { return };
    for text in [
        "Paris is the [MASK] of France.",
        "[CLS][SEP] [PAD]x[UNK]",
        "[MASK][MASK] [mask] [MASK [MAS[MASK]K] [[MASK]] e\u{301}[MASK]\u{301}e",
        "[MASK]",
        "",
        " \u{0} ",
        "[",
    ] {
        both.check(text);
        both.check_encoding(text, Some(text), Truncation::DoNotTruncate, 64);
    }
}

#[test]
fn ideographs_stay_in_their_words_where_they_are_not_set_off() {
    let tokens = vocabulary_of("abé中国e\u{2F800}\u{4E3D}".chars());
    for (lower, strip) in [(false, None), (true, None)] {
        let mut both = Both::new(&tokens, lower, strip);
        both.config.tokenize_chinese_chars = false;
        both.reference.with_normalizer(Some(BertNormalizer::new(true, false, strip, lower))).unwrap();
        for text in ["a中国b 中 É国\u{2F800}", "中\u{301}国"] {
            both.check(text);
            both.check_stream(text, &[1, 2, 3, 1], true);
        }
    }
}

#[test]
fn special_tokens_may_be_spelled_in_any_way() {
    // Letters, spaces, marks, one that starts another, one that starts within another.
    let special = ["pad", "ünk", "pad it", "<a b>", " b>!"];
    let mut tokens: Vec<String> = special.map(String::from).into();
    tokens.extend(vocabulary_of("adeipt<>b!ünkx\u{308}".chars()));
    for (lower, strip) in [(false, None), (true, None), (true, Some(false))] {
        let both = Both::with_special(special, &tokens, lower, strip);
        for text in [
            "pad it pad itx xpad i pad",
            "<a b>! <a b >b>! <a  b> <a b>! <a <a b>",
            "ünk u\u{308}nk ün k",
            "PAD Pad ti pad i",
            "pad\u{308} it",
            "p pa pad pad  it",
        ] {
            both.check(text);
            both.check_encoding(text, Some(text), Truncation::DoNotTruncate, 200);
            both.check_stream(text, &vec![1; text.len()], true);
        }
    }
    let long = "[a special token of 25 b]";
    let tokens = [long, "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"];
    let both = Both::with_special([long, "[UNK]", "[CLS]", "[SEP]", "[MASK]"], &tokens, false, None);
    let result = Tokenizer::new(Vocab::open(&both.section[..]).unwrap(), both.config).map(|_| ());
    assert_eq!(result, Err(TokenizerError::SpecialTokenTooLong { id: 0 }));
}

#[test]
fn words_of_100_characters_are_split_and_longer_ones_are_unknown() {
    let Some(multilingual) = &*MULTILINGUAL else { return };
    let uncased = Both::load("bert-base-uncased", true).unwrap();
    for both in [multilingual, &uncased] {
        for word in ["a", "é", "한", "A", "न\u{93F}", "𝔘", "e\u{200D}", "\u{1D15F}"] {
            for times in [49, 50, 51, 99, 100, 101, 250] {
                both.check(&format!("x {} y!{}", word.repeat(times), word.repeat(times)));
            }
        }
    }
}

#[test]
fn truncation_keeps_what_the_reference_keeps() {
    let strategies = [
        (TruncationStrategy::LongestFirst, Truncation::LongestFirst),
        (TruncationStrategy::OnlyFirst, Truncation::OnlyFirst),
        (TruncationStrategy::OnlySecond, Truncation::OnlySecond),
    ];
    let tokens = vocabulary_of('a'..='z');
    let text = |tokens: usize, word: usize| -> String {
        (0..tokens).map(|i| if i % word == word - 1 { "x " } else { "y" }).collect::<String>()
    };
    for (strategy, truncation) in strategies {
        for max_length in [2, 3, 4, 5, 8, 9, 12] {
            let both = Both::new(&tokens, false, None).with_truncation(strategy, max_length);
            for first in 0..16 {
                both.check_encoding(&text(first, 3), None, truncation, max_length);
                for second in 0..if max_length < 3 { 0 } else { 16 } {
                    both.check_encoding(&text(first, 3), Some(&text(second, 4)), truncation, max_length);
                    let masks = "[MASK]".repeat(first);
                    both.check_encoding(&masks, Some(&text(second, 5)), truncation, max_length);
                }
            }
        }
    }
}

#[test]
fn windows_of_a_long_text_overlap_like_the_overflow_of_the_reference() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let long: String = ('a'..='z').cycle().take(40).flat_map(|c| [c, if c < 'i' { ' ' } else { 'x' }]).collect();
    for len in 0..long.len() {
        for (stride, max_length) in [(0, 3), (0, 9), (1, 9), (3, 9), (5, 9), (6, 9), (2, 20), (30, 64)] {
            both.check_windows(&long[..len], None, stride, max_length);
            if stride + 5 < max_length {
                both.check_windows("ab", Some(&long[..len]), stride, max_length);
            }
        }
    }
    let tokenizer = both.ours();
    let mut ids = [0; 8];
    let result = tokenizer.windows(Some("abc"), 2, Encoding::new(&mut ids), |_| ()).map(|_| ());
    assert_eq!(result, Err(TokenizerError::TooManyTokens { needed_tokens: 9, given_tokens: 8 }));
    let long = "a".repeat(100);
    let result = tokenizer.windows(Some(&long), 2, Encoding::new(&mut ids), |_| ()).map(|_| ());
    assert_eq!(result, Err(TokenizerError::TooManyTokens { needed_tokens: 106, given_tokens: 8 }));
}

#[test]
fn decoding_glues_continuations_and_cleans_up_like_the_reference() {
    let words =
        ["Do", "n't", "##n't", "don", "'", "t", ".", "##.", "?", "!", ",", "do", "not", "'m", "'s", "'ve", "'re"];
    let mut tokens = vocabulary_of("ab".chars());
    tokens.extend(words.map(String::from));
    tokens.extend([" ' ", " do not", "a . b", "##", "é", "##é"].map(String::from));
    let both = Both::new(&tokens, false, None);
    for a in 0..tokens.len() as u32 {
        for b in 0..tokens.len() as u32 {
            both.check_decode(&[a, b]);
            both.check_decode(&[5, a, 100_000, b]);
        }
    }
}

#[test]
fn a_repeated_token_belongs_to_its_last_id_and_an_empty_one_to_none() {
    let mut tokens = vocabulary_of("abc".chars());
    tokens.extend(["a", "", "##b", ""].map(String::from));
    let both = Both::new(&tokens, false, None);
    both.check("abc a b abab");
    let vocab = Vocab::open(&both.section[..]).unwrap();
    assert_eq!(vocab.len(), tokens.len());
    assert_eq!(vocab.id(b"a"), Ok(Some(11)));
    assert_eq!(vocab.token(5), Some(&b""[..]));
    assert_eq!(vocab.id(b""), Ok(None));
    both.check_decode(&[5, 11, 9, 13]);
}

#[test]
fn every_token_of_a_vocabulary_is_found_under_its_id() {
    for (name, lower) in ALL_MODELS.into_iter().step_by(2) {
        let Some(both) = Both::load(name, lower) else { return };
        let path = shared(&format!("vocabs/{name}.vocab.txt")).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let vocab = Vocab::open(&both.section[..]).unwrap();
        println!("{name}: {} bytes for {} tokens", both.section.len(), vocab.len());
        for (id, token) in parse_vocab_txt(&text).into_iter().enumerate() {
            assert_eq!(vocab.token(id as u32), Some(token.as_bytes()));
            assert_eq!(vocab.id(token.as_bytes()), Ok(Some(id as u32)), "{token}");
        }
        assert_eq!(vocab.token(vocab.len() as u32), None);
        assert_eq!(vocab.id("no such token".as_bytes()), Ok(None));
    }
}

#[test]
fn the_multilingual_vocabulary_section_stays_below_2_600_000_bytes() {
    let Some(both) = &*MULTILINGUAL else { return };
    assert!(both.section.len() < 2_600_000, "{}", both.section.len());
}

#[test]
fn the_state_of_a_text_stays_below_2_kib() {
    let bytes = size_of::<Tokenizer<&[u8]>>() + size_of::<Encoder<'_, '_, '_, &[u8]>>();
    println!("{bytes} bytes");
    assert!(bytes <= 2048, "{bytes}");
}

#[test]
fn tokens_beyond_the_room_are_counted_in_the_error() {
    let both = Both::new(&vocabulary_of('a'..='c'), false, None);
    let mut ids = [0; 5];
    let mut encoding = Encoding::new(&mut ids);
    let result = both.ours().encode("abc", Some("ab"), Truncation::DoNotTruncate, &mut encoding);
    assert_eq!(result, Err(TokenizerError::TooManyTokens { needed_tokens: 8, given_tokens: 5 }));
    let result = both.ours().encode("abc", None, Truncation::OnlySecond, &mut Encoding::new(&mut [0; 4]));
    assert_eq!(result, Err(TokenizerError::SecondTextMissing));
    let result = both.ours().encode("", None, Truncation::LongestFirst, &mut Encoding::new(&mut [0; 1]));
    assert_eq!(result, Err(TokenizerError::NoRoomForSpecialTokens { needed_tokens: 2, given_tokens: 1 }));
    let result = both.ours().encode("a", Some("abc"), Truncation::OnlyFirst, &mut Encoding::new(&mut [0; 6]));
    assert_eq!(result, Err(TokenizerError::NothingLeft { excess_tokens: 1, text_tokens: 1 }));
}

#[test]
fn a_vocabulary_without_a_special_token_is_refused() {
    let both = Both::new(&vocabulary_of('a'..='c'), false, None);
    let config = TokenizerConfig { mask_token_id: 99, ..both.config };
    let result = Tokenizer::new(Vocab::open(&both.section[..]).unwrap(), config).map(|_| ());
    assert_eq!(result, Err(TokenizerError::SpecialTokenMissing { id: 99, vocab_size: 11 }));
}

#[test]
fn lists_that_are_no_vocabulary_are_not_built() {
    assert_eq!(build_vocabulary(&[""; 0]), Err(BuildVocabularyError::TokenCount { found: 0 }));
    let long = "a".repeat(1024);
    assert_eq!(build_vocabulary(&["a", &long]), Err(BuildVocabularyError::TokenTooLong { id: 1, bytes: 1024 }));
}

#[test]
fn a_section_cut_anywhere_is_refused() {
    let both = Both::new(&vocabulary_of('a'..='f'), false, None);
    for len in 0..both.section.len() {
        let result = Vocab::open(&both.section[..len]).map(|_| ());
        assert!(matches!(result, Err(VocabError::Truncated { .. })), "{len}: {result:?}");
    }
    let mut section = both.section.clone();
    section[0] = b'X';
    assert!(matches!(Vocab::open(&section[..]), Err(VocabError::BadMagic { found: [b'X', b'B', b'V', b'2'] })));
    let mut section = both.section.clone();
    section[4..8].fill(0xFF);
    assert!(matches!(Vocab::open(&section[..]), Err(VocabError::BadTokenCount { found: u32::MAX })));
}

#[test]
fn a_section_with_any_bit_flipped_never_panics() {
    let both = Both::new(&vocabulary_of("abé!中#".chars()), true, None);
    let text = "abba ab É 中! [MASK] ##ab zz";
    for bit in 0..8 * both.section.len() {
        let mut section = both.section.clone();
        section[bit / 8] ^= 1 << (bit % 8);
        let Ok(vocab) = Vocab::open(&section[..]) else { continue };
        let Ok(tokenizer) = Tokenizer::new(vocab, both.config) else { continue };
        let mut ids = Vec::new();
        tokenizer.tokens(text, |token| ids.push(token.id)).unwrap();
        assert!(ids.len() <= 4 * text.len());
        tokenizer.decode(&ids, true, CleanUp::Text, &mut String::new()).unwrap();
    }
}

#[test]
#[ignore = "minutes: cargo test --release -p mbert-tests --test tokenizer -- --ignored ten_million"]
fn ten_million_random_texts_are_treated_like_the_reference() {
    let mut both: Vec<&Both> = SYNTHETIC.iter().collect();
    both.extend(&*MULTILINGUAL);
    let uncased = Both::load("bert-base-uncased", true);
    both.extend(&uncased);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let both = &both;
            scope.spawn(move || {
                let (mut random, mut text) = (RandomText(worker), String::new());
                for i in 0..5_000_000 {
                    random.write(&mut text);
                    both[i % both.len()].check(&text);
                    if i % 8 == 0 {
                        both[i % both.len()].check_stream(&text, &[i / 3, i / 7, i / 11], false);
                    }
                }
            });
        }
    });
}

/// A vocabulary of many single characters, and modes.
static SYNTHETIC: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let scalars: Vec<char> = ('!'..='\u{2FFF}').step_by(2).chain('\u{3000}'..='\u{30FF}').collect();
    let mut scalars = with_mappings(&scalars);
    scalars.extend(with_mappings(&('\u{1D15E}'..='\u{1D1C0}').collect::<Vec<_>>()));
    let tokens = vocabulary_of(scalars.into_iter());
    [(false, None), (true, None), (true, Some(false)), (false, Some(true))]
        .map(|(lower, strip)| Both::new(&tokens, lower, strip))
        .into()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_is_treated_like_the_reference(text in any_text(), pair in any_text()) {
        for both in &*SYNTHETIC {
            both.check(&text);
        }
        if let Some(both) = &*MULTILINGUAL {
            both.check(&text);
            both.check_encoding(&text, Some(&pair), Truncation::DoNotTruncate, 100);
        }
    }

    #[test]
    fn random_ids_are_decoded_like_the_reference(ids in proptest::collection::vec(0_u32..120_000, 0..20)) {
        if let Some(both) = &*MULTILINGUAL {
            both.check_decode(&ids);
        }
    }
}
