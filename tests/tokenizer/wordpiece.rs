//! Vocabularies that make longest match first go back often, against the reference, and what a search reads at most.

use std::cell::Cell;

use mbert::convert::vocab::build_vocabulary;
use mbert_runtime::tokenizer::vocab::MAX_REREAD_BYTES;
use mbert_runtime::tokenizer::{CleanUp, Tokenizer, Vocab};
use mbert_tests::CountedSection;
use proptest::prelude::*;

use super::MULTILINGUAL;
use super::reference::{Both, SPECIAL};

/// Tokens over two letters, some of them long, so that nearly every word runs into a dead end.
fn few_letters() -> impl Strategy<Value = Vec<String>> {
    let token = ("[ab]{0,6}", 0_usize..40, "[ab]{1,4}", any::<bool>()).prop_map(|(start, repeated, end, continues)| {
        let prefix = if continues { "##" } else { "" };
        format!("{prefix}{start}{}{end}", "a".repeat(repeated))
    });
    proptest::collection::vec(token, 1..24)
}

fn with_special(tokens: &[String]) -> Vec<String> {
    let mut all: Vec<String> = SPECIAL.map(String::from).into();
    all.extend(tokens.iter().cloned());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_are_split_like_the_reference_however_often_it_goes_back(
        tokens in few_letters(),
        letters in any::<bool>(),
        words in proptest::collection::vec("[ab]{0,8}a{0,60}[ab]{0,30}", 1..12),
        joined in proptest::collection::vec(0_usize..24, 2..5),
    ) {
        let mut all = with_special(&tokens);
        if letters {
            all.extend(["a", "b", "##a", "##b"].map(String::from));
        }
        let both = Both::new(&all, false, None);
        for word in &words {
            both.check(word);
        }
        let joined: String = joined.iter().map(|&i| tokens[i % tokens.len()].trim_start_matches('#')).collect();
        both.check(&joined);
        both.check(&format!("{joined}{}", words[0]));
    }
}

/// Reads for each byte of a text, at most and on average.
fn reads_per_byte(both: &Both, words: &[String]) -> (f64, f64) {
    let reads = Cell::new(0);
    let counted = CountedSection { bytes: &both.section, reads: &reads };
    let tokenizer = Tokenizer::new(Vocab::open(counted).unwrap(), both.config).unwrap();
    let (mut most, mut all, mut bytes) = (0_f64, 0, 0);
    for word in words {
        reads.set(0);
        tokenizer.tokens(word, |_| ()).unwrap();
        most = most.max(reads.get() as f64 / word.len() as f64);
        all += reads.get();
        bytes += word.len();
    }
    (most, all as f64 / bytes as f64)
}

#[test]
fn a_word_of_garbage_costs_a_bounded_number_of_reads_per_byte() {
    // Every rest of the word is the start of a long token that does not stand there: without links, each of its 100
    // letters costs as many reads as letters are left.
    let mut tokens: Vec<String> = ["a", "##a", "b", "##b"].map(String::from).into();
    tokens.extend((20..100).map(|len| format!("##{}b", "a".repeat(len))));
    tokens.extend((20..100).map(|len| format!("{}b", "a".repeat(len))));
    // As far from the last token as a node without a link can be.
    tokens.push(format!("##{}c", "a".repeat(21)));
    let garbage = Both::new(&with_special(&tokens), false, None);
    let words: Vec<String> = (1..=100).map(|len| "a".repeat(len)).collect();
    words.iter().for_each(|word| garbage.check(word));
    let (most, mean) = reads_per_byte(&garbage, &words);
    println!("made to be hard: at most {most:.1} reads per byte, {mean:.1} on average");
    assert!(most <= (3 + MAX_REREAD_BYTES) as f64, "{most}");

    if let Some(multilingual) = &*MULTILINGUAL {
        let vocab = Vocab::open(&multilingual.section[..]).unwrap();
        // Each token twice without its last character: a dead end as far from its start as can be.
        let text = |id| String::from_utf8_lossy(vocab.token(id).unwrap()).trim_start_matches('#').to_owned();
        let dead_end = |token: String| {
            let mut chars = token.chars();
            chars.next_back();
            chars.as_str().repeat(2)
        };
        let words: Vec<String> = (106..vocab.len() as u32).map(text).map(dead_end).filter(|w| !w.is_empty()).collect();
        let (most, mean) = reads_per_byte(multilingual, &words);
        println!("half tokens of the multilingual model: at most {most:.1} reads per byte, {mean:.1} on average");
        assert!(most <= (3 + MAX_REREAD_BYTES) as f64, "{most}");
    }
}

#[test]
fn a_section_with_links_and_any_bit_flipped_never_panics() {
    let mut tokens: Vec<String> = ["a", "##a", "aab", "##b"].map(String::from).into();
    tokens.push(format!("{}b", "a".repeat(50)));
    tokens.push(format!("##{}b", "a".repeat(40)));
    let both = Both::new(&with_special(&tokens), false, None);
    let words: Vec<String> = (1..=100).step_by(3).map(|len| "a".repeat(len)).collect();
    let text = words.join(" b");
    both.check(&text);
    for bit in 0..8 * both.section.len() {
        let mut section = both.section.clone();
        section[bit / 8] ^= 1 << (bit % 8);
        let Ok(vocab) = Vocab::open(&section[..]) else { continue };
        let Ok(tokenizer) = Tokenizer::new(vocab, both.config) else { continue };
        let mut ids = Vec::new();
        tokenizer.tokens(&text, |token| ids.push(token.id)).unwrap();
        assert!(ids.len() <= text.len());
        tokenizer.decode(&ids, true, CleanUp::Text, &mut String::new()).unwrap();
    }
}

#[test]
fn a_vocabulary_that_has_no_continuation_splits_no_word() {
    let tokens = with_special(&["a", "ab", "#", "##"].map(String::from));
    let both = Both::new(&tokens, false, None);
    for text in ["a", "ab", "aba", "# ##", "a#b", ""] {
        both.check(text);
    }
    assert!(build_vocabulary(&tokens).unwrap().len() < 4096);
}

#[test]
fn a_child_that_is_not_there_is_looked_for_among_the_units() {
    // Found by fuzzing: what lies behind the units once had the label of a child that the last block would have held.
    let token = format!("L]C{}<<<<<B<{}<<<<<{}", "f".repeat(11), "\u{FFFD}".repeat(4), "f".repeat(16));
    let both = Both::new(&with_special(&[String::new(), token]), false, None);
    both.check("l<<<<<====<<=<==<%<");
    for len in 1..40 {
        let both = Both::new(&with_special(&["x".repeat(len)]), false, None);
        for c in '!'..='~' {
            both.check(&format!("{c}x{c}"));
        }
    }
}
