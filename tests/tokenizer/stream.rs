//! Text that comes in pieces, cut anywhere, comes to the tokens of the whole.

use std::fmt::Write;

use mbert_runtime::tokenizer::{Encoding, NO_WORD, Offsets, Tokenizer, TokenizerError, Truncation};
use proptest::prelude::*;
use tokenizers::{PaddingParams, PaddingStrategy};

use super::random_text::any_text;
use super::reference::{Both, vocabulary_of};
use super::{MULTILINGUAL, SYNTHETIC, ntrex};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_come_to_the_tokens_of_the_whole(
        text in any_text(),
        cuts in proptest::collection::vec(0_usize..64, 0..12),
    ) {
        for both in SYNTHETIC.iter().chain(&*MULTILINGUAL) {
            both.check_stream(&text, &cuts, false);
        }
    }
}

#[test]
fn a_text_may_be_cut_at_any_byte() {
    let text = "[MASK]A\u{301}é中[MAS[MASK]K] 👩\u{200D}🚀! e\u{302E}\u{323}\u{1D165}x İ [UNK]";
    for both in &*SYNTHETIC {
        for first in 0..=text.len() {
            for second in 0..=text.len() - first {
                both.check_stream(text, &[first, second], true);
            }
        }
        both.check_stream(text, &vec![1; text.len()], true);
    }
}

#[test]
fn a_run_of_30_marks_may_be_cut_at_any_byte() {
    // What the Stream-Safe Text Format of Unicode allows, with marks that stay among them.
    let marks: String = "\u{323}\u{302E}\u{302}\u{1D165}\u{327}\u{302F}".chars().cycle().take(30).collect();
    let text = format!("a{marks}b");
    for both in &*SYNTHETIC {
        for first in 0..=text.len() {
            both.check_stream(&text, &[first, 7, 9], true);
        }
    }
}

#[test]
fn news_in_129_languages_may_come_byte_by_byte() {
    let (Some(both), Some(lines)) = (&*MULTILINGUAL, ntrex()) else { return };
    let ones = vec![1; 4096];
    for line in lines.iter().step_by(7) {
        both.check_stream(line, &ones[..line.len()], true);
    }
}

#[test]
fn a_stream_can_be_used_for_one_text_after_the_other() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let tokenizer = both.ours();
    let mut stream = tokenizer.stream();
    for _ in 0..2 {
        let mut tokens = Vec::new();
        stream.write("ab [MA", |token| tokens.push((token.start, token.end, token.word))).unwrap();
        stream.write("SK]", |token| tokens.push((token.start, token.end, token.word))).unwrap();
        stream.finish(|token| tokens.push((token.start, token.end, token.word))).unwrap();
        assert_eq!(tokens, [(0, 1, 0), (1, 2, 0), (3, 9, 1)]);
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let tokenizer = both.ours();
    for (pieces, at) in [
        (&[&b"abc\xFFd"[..]][..], 3),
        (&[b"ab", b"c\xC3", b"d"], 3),
        (&[b"\xE4\xB8", b"\xAD\x80"], 3),
        (&[b"ab \xF0\x9F", b"\x91", b" "], 3),
    ] {
        let mut stream = tokenizer.stream();
        let result = pieces.iter().try_for_each(|piece| stream.write_bytes(piece, |_| ()));
        assert_eq!(result, Err(TokenizerError::InvalidUtf8 { at }), "{pieces:x?}");
    }
    let mut stream = tokenizer.stream();
    stream.write_bytes(b"ab\xE4\xB8", |_| ()).unwrap();
    assert_eq!(stream.finish(|_| ()), Err(TokenizerError::InvalidUtf8 { at: 2 }));

    let mut ids = [0; 9];
    let mut encoding = Encoding::new(&mut ids);
    let mut encoder = tokenizer.encoder(true, Truncation::DoNotTruncate, &mut encoding).unwrap();
    encoder.write_bytes(b"ab\xE4").unwrap();
    assert_eq!(encoder.next_text(), Err(TokenizerError::InvalidUtf8 { at: 2 }));
    let mut encoder = tokenizer.encoder(false, Truncation::DoNotTruncate, &mut encoding).unwrap();
    encoder.write_bytes(b"ab\xE4").unwrap();
    assert!(encoder.write_str("ab").is_err());
    assert_eq!(encoder.finish(), Err(TokenizerError::InvalidUtf8 { at: 2 }));
}

/// Ids, token types, offsets and word ids.
type Contents = (Vec<u32>, Vec<u8>, Vec<Offsets>, Vec<u32>);

/// What an encoding holds.
fn contents(
    tokenizer: &Tokenizer<&[u8]>,
    fill: impl FnOnce(&mut Encoding<'_>) -> Result<(), TokenizerError>,
    room: usize,
) -> Result<Contents, TokenizerError> {
    let (mut ids, mut types) = (vec![0; room], vec![0; room]);
    let (mut offsets, mut words) = (vec![Offsets::default(); room], vec![0; room]);
    let mut encoding =
        Encoding::new(&mut ids).with_token_type_ids(&mut types).with_offsets(&mut offsets).with_word_ids(&mut words);
    fill(&mut encoding)?;
    assert!(encoding.ids().starts_with(&[tokenizer.config().cls_token_id]));
    Ok((encoding.ids().into(), encoding.token_type_ids().into(), encoding.offsets().into(), encoding.word_ids().into()))
}

#[test]
fn texts_in_pieces_are_encoded_and_truncated_like_whole_ones() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let tokenizer = both.ours();
    let text = |tokens: usize| "ab c".chars().cycle().take(tokens).collect::<String>();
    let truncations =
        [Truncation::DoNotTruncate, Truncation::LongestFirst, Truncation::OnlyFirst, Truncation::OnlySecond];
    for truncation in truncations {
        for room in 3..14 {
            for first in 0..14 {
                for second in 0..14 {
                    let (a, b) = (text(first), text(second));
                    let whole = contents(&tokenizer, |e| tokenizer.encode(&a, Some(&b), truncation, e), room);
                    let pieces = contents(
                        &tokenizer,
                        |e| {
                            let mut encoder = tokenizer.encoder(true, truncation, e)?;
                            a.bytes().try_for_each(|byte| encoder.write_bytes(&[byte]))?;
                            encoder.next_text()?;
                            write!(encoder, "{b}").unwrap();
                            encoder.finish()
                        },
                        room,
                    );
                    assert_eq!(pieces, whole, "{truncation:?} {room} {a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn a_third_text_is_not_encoded_and_a_failed_one_not_completed() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let tokenizer = both.ours();
    let mut ids = [0; 16];
    let mut encoding = Encoding::new(&mut ids);
    let mut encoder = tokenizer.encoder(true, Truncation::LongestFirst, &mut encoding).unwrap();
    for text in ["a", "b", "c"] {
        encoder.write_bytes(text.as_bytes()).unwrap();
        encoder.next_text().unwrap();
    }
    encoder.finish().unwrap();
    assert_eq!(encoding.ids(), [2, 5, 3, 7, 3]);

    let mut encoder = tokenizer.encoder(false, Truncation::DoNotTruncate, &mut encoding).unwrap();
    assert!(encoder.write_bytes(b"ab\xFF").is_err());
    assert_eq!(encoder.finish(), Err(TokenizerError::InvalidUtf8 { at: 2 }));
    assert!(encoding.is_empty());
}

#[test]
fn the_shortest_list_limits_the_tokens() {
    let both = Both::new(&vocabulary_of('a'..='z'), false, None);
    let (mut ids, mut offsets) = ([0; 9], [Offsets::default(); 6]);
    let mut encoding = Encoding::new(&mut ids).with_offsets(&mut offsets);
    both.ours().encode("abcdef", Some("abc"), Truncation::LongestFirst, &mut encoding).unwrap();
    assert_eq!((encoding.len(), encoding.offsets().len()), (6, 6));
}

#[test]
fn padding_fills_up_like_the_reference() {
    let mut both = Both::new(&vocabulary_of('a'..='z'), false, None);
    both.reference.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(9),
        pad_id: both.config.pad_token_id,
        pad_token: "[PAD]".into(),
        ..PaddingParams::default()
    }));
    let tokenizer = both.ours();
    for text in ["", "a", "abc d", "abcdefg", "abcdefghij"] {
        let expected = both.reference.encode(text, true).unwrap();
        let (mut ids, mut types, mut mask) = ([77; 16], [77; 16], [77; 16]);
        let (mut offsets, mut words) = ([Offsets { start: 77, end: 77 }; 16], [77; 16]);
        let mut encoding = Encoding::new(&mut ids)
            .with_token_type_ids(&mut types)
            .with_attention_mask(&mut mask)
            .with_offsets(&mut offsets)
            .with_word_ids(&mut words);
        tokenizer.encode(text, None, Truncation::DoNotTruncate, &mut encoding).unwrap();
        tokenizer.pad(&mut encoding, 9).unwrap();
        assert_eq!(encoding.ids(), expected.get_ids());
        assert!(encoding.token_type_ids().iter().map(|&t| u32::from(t)).eq(expected.get_type_ids().iter().copied()));
        assert!(
            encoding.attention_mask().iter().map(|&m| u32::from(m)).eq(expected.get_attention_mask().iter().copied())
        );
        let offsets: Vec<_> = encoding.offsets().iter().map(|o| (o.start as usize, o.end as usize)).collect();
        assert_eq!(offsets, expected.get_offsets());
        let words: Vec<_> = encoding.word_ids().iter().map(|&word| (word != NO_WORD).then_some(word)).collect();
        assert_eq!(words, expected.get_word_ids());
        let too_many = TokenizerError::TooManyTokens { needed_tokens: 17, given_tokens: 16 };
        assert_eq!(tokenizer.pad(&mut encoding, 17), Err(too_many));
    }
}
