//! One vocabulary and mode in both implementations, and what is compared between them.

use mbert::convert::vocab::{build_vocabulary, parse_vocab_txt};
use mbert_runtime::config::TokenizerConfig;
use mbert_runtime::tokenizer::{
    CleanUp, Encoding, NO_WORD, Offsets, Token, Tokenizer, TokenizerError, Truncation, Vocab,
};
use mbert_tests::shared;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, TruncationParams, TruncationStrategy};

pub type Reference = tokenizers::TokenizerImpl<
    WordPiece,
    BertNormalizer,
    BertPreTokenizer,
    BertProcessing,
    tokenizers::decoders::wordpiece::WordPiece,
>;

pub const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// One vocabulary and mode, in both implementations.
pub struct Both {
    pub section: Vec<u8>,
    pub config: TokenizerConfig,
    pub reference: Reference,
}

impl Both {
    pub fn new(tokens: &[impl AsRef<str>], do_lower_case: bool, strip_accents: Option<bool>) -> Self {
        let tokens: Vec<&str> = tokens.iter().map(AsRef::as_ref).collect();
        let id = |token: &str| tokens.iter().rposition(|t| *t == token).unwrap() as u32;
        let config = TokenizerConfig {
            do_lower_case,
            strip_accents,
            tokenize_chinese_chars: true,
            pad_token_id: id("[PAD]"),
            unk_token_id: id("[UNK]"),
            cls_token_id: id("[CLS]"),
            sep_token_id: id("[SEP]"),
            mask_token_id: id("[MASK]"),
        };
        let vocab = tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32));
        let model = WordPiece::builder().vocab(vocab.collect::<ahash::AHashMap<_, _>>()).build().unwrap();
        let mut reference = Reference::new(model);
        reference.with_normalizer(Some(BertNormalizer::new(true, true, strip_accents, do_lower_case))).unwrap();
        reference.with_pre_tokenizer(Some(BertPreTokenizer));
        reference.with_post_processor(Some(BertProcessing::new(
            ("[SEP]".into(), config.sep_token_id),
            ("[CLS]".into(), config.cls_token_id),
        )));
        reference.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
        reference.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true))).unwrap();
        Self { section: build_vocabulary(&tokens).unwrap(), config, reference }
    }

    pub fn load(name: &str, do_lower_case: bool) -> Option<Self> {
        let text = std::fs::read_to_string(shared(&format!("vocabs/{name}.vocab.txt"))?).unwrap();
        Some(Self::new(&parse_vocab_txt(&text), do_lower_case, None))
    }

    pub fn ours(&self) -> Tokenizer<&[u8]> {
        Tokenizer::new(Vocab::open(&self.section[..]).unwrap(), self.config).unwrap()
    }

    pub fn with_truncation(mut self, strategy: TruncationStrategy, max_length: usize) -> Self {
        let truncation = TruncationParams { strategy, max_length, ..TruncationParams::default() };
        self.reference.with_truncation(Some(truncation)).unwrap();
        self
    }

    /// Compares the tokens of one text.
    pub fn check(&self, text: &str) {
        let expected = self.reference.encode(text, false).unwrap();
        let tokenizer = self.ours();
        let mut tokens = Vec::new();
        tokenizer.tokens(text, |token| tokens.push(token)).unwrap();
        let expected = (0..expected.len()).map(|at| {
            let (start, end) = expected.get_offsets()[at];
            (expected.get_ids()[at], start, end, expected.get_word_ids()[at])
        });
        let found = tokens.iter().map(|t| (t.id, t.start as usize, t.end as usize, Some(t.word)));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{text:?}, {:?}", self.config);
    }

    /// Compares the tokens of a text that is given in pieces with those of the whole. `cuts` are taken modulo what is left.
    ///
    /// The places of marks far down a run that is cut are not at hand any more, so offsets are compared on request.
    pub fn check_stream(&self, text: &str, cuts: &[usize], with_offsets: bool) {
        let tokenizer = self.ours();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        tokenizer.tokens(text, |token| whole.push(token)).unwrap();
        let mut stream = tokenizer.stream();
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut % (rest.len() + 1));
            stream.write_bytes(piece, |token| pieces.push(token)).unwrap();
            rest = behind;
        }
        stream.write_bytes(rest, |token| pieces.push(token)).unwrap();
        stream.finish(|token| pieces.push(token)).unwrap();
        if !with_offsets {
            let without = |tokens: &mut Vec<Token>| tokens.iter_mut().for_each(|t| (t.start, t.end) = (0, 0));
            without(&mut whole);
            without(&mut pieces);
        }
        assert_eq!(pieces, whole, "{text:?} cut at {cuts:?}, {:?}", self.config);
    }

    /// Compares everything that an encoding holds.
    pub fn check_encoding(&self, text: &str, pair: Option<&str>, truncation: Truncation, max_length: usize) {
        let expected = match pair {
            Some(pair) => self.reference.encode((text, pair), true),
            None => self.reference.encode(text, true),
        };
        let mut ids = vec![0; max_length];
        let mut types = vec![0; max_length];
        let mut offsets = vec![Offsets::default(); max_length];
        let mut words = vec![0; max_length];
        let mut mask = vec![2; max_length];
        let mut found = Encoding::new(&mut ids)
            .with_token_type_ids(&mut types)
            .with_attention_mask(&mut mask)
            .with_offsets(&mut offsets)
            .with_word_ids(&mut words);
        let result = self.ours().encode(text, pair, truncation, &mut found);
        let Ok(expected) = expected else {
            assert!(result.is_err(), "{text:?} {pair:?}");
            return;
        };
        if truncation == Truncation::DoNotTruncate && expected.len() > max_length {
            let needed_tokens = expected.len();
            assert_eq!(result, Err(TokenizerError::TooManyTokens { needed_tokens, given_tokens: max_length }));
            return;
        }
        assert_eq!(result, Ok(()), "{text:?} {pair:?}");
        assert_eq!(found.ids(), expected.get_ids(), "{text:?} {pair:?} {truncation:?} {max_length}");
        assert!(found.token_type_ids().iter().map(|&t| u32::from(t)).eq(expected.get_type_ids().iter().copied()));
        assert!(found.attention_mask().iter().map(|&m| u32::from(m)).eq(expected.get_attention_mask().iter().copied()));
        let offsets: Vec<_> = found.offsets().iter().map(|o| (o.start as usize, o.end as usize)).collect();
        assert_eq!(offsets, expected.get_offsets());
        let expected_chars = match pair {
            Some(pair) => self.reference.encode_char_offsets((text, pair), true),
            None => self.reference.encode_char_offsets(text, true),
        };
        found.offsets_to_chars(text, pair);
        let offsets: Vec<_> = found.offsets().iter().map(|o| (o.start as usize, o.end as usize)).collect();
        assert_eq!(offsets, expected_chars.unwrap().get_offsets(), "{text:?}");
        let words: Vec<_> = found.word_ids().iter().map(|&word| (word != NO_WORD).then_some(word)).collect();
        assert_eq!(words, expected.get_word_ids());
    }

    /// Compares overlapping windows. The reference cuts the same ones off a whole encoding.
    pub fn check_windows(&self, text: &str, pair: Option<&str>, stride: usize, max_length: usize) {
        let mut ids = vec![0; max_length];
        let mut types = vec![0; max_length];
        let mut offsets = vec![Offsets::default(); max_length];
        let mut words = vec![0; max_length];
        let encoding = Encoding::new(&mut ids)
            .with_token_type_ids(&mut types)
            .with_offsets(&mut offsets)
            .with_word_ids(&mut words);
        let tokenizer = self.ours();

        let question = pair.map(|_| text);
        let first = self.reference.encode(text, false).unwrap();
        let mut cut = pair.map_or(first.clone(), |pair| self.reference.encode(pair, false).unwrap());
        let room = max_length - if pair.is_some() { 3 + first.len() } else { 2 };
        cut.truncate(room, stride, tokenizers::TruncationDirection::Right);
        let mut expected = std::iter::once(&cut).chain(cut.get_overflowing());
        let start = if pair.is_some() { first.len() + 2 } else { 1 };
        let mut windows = tokenizer
            .windows(question, stride, encoding, |found| {
                let cut = expected.next().unwrap();
                assert_eq!(found.len(), start + cut.len() + 1);
                assert_eq!(found.ids()[start..found.len() - 1], *cut.get_ids());
                assert_eq!(found.ids()[found.len() - 1], self.config.sep_token_id);
                assert_eq!(found.token_type_ids()[found.len() - 1], u8::from(pair.is_some()));
                let found_words = found.word_ids()[start..].iter().map(|&word| Some(word));
                assert!(found_words.take(cut.len()).eq(cut.get_word_ids().iter().copied()));
                let found_offsets = found.offsets()[start..].iter().map(|o| (o.start as usize, o.end as usize));
                assert!(found_offsets.take(cut.len()).eq(cut.get_offsets().iter().copied()));
                if pair.is_some() {
                    assert_eq!(found.ids()[1..=first.len()], *first.get_ids());
                }
            })
            .unwrap();
        let (before, behind) = pair.unwrap_or(text).as_bytes().split_at(pair.unwrap_or(text).len() / 3);
        windows.write_bytes(before).unwrap();
        windows.write_bytes(behind).unwrap();
        windows.finish().unwrap();
        assert!(expected.next().is_none());
    }

    pub fn check_decode(&self, ids: &[u32]) {
        for skip_special_tokens in [false, true] {
            let expected = self.reference.decode(ids, skip_special_tokens).unwrap();
            let mut found = String::new();
            self.ours().decode(ids, skip_special_tokens, CleanUp::Tokens, &mut found).unwrap();
            assert_eq!(found, expected, "{ids:?}");

            // What transformers does to that with `clean_up_tokenization_spaces`.
            let patterns = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"];
            let expected = patterns.iter().fold(expected, |text, pattern| text.replace(pattern, pattern.trim()));
            found.clear();
            self.ours().decode(ids, skip_special_tokens, CleanUp::Text, &mut found).unwrap();
            assert_eq!(found, expected, "{ids:?}");
        }
    }
}

/// A vocabulary in which each of `scalars` is a token, plain and with `##`, so that `[UNK]` hides nothing.
pub fn vocabulary_of(scalars: impl Iterator<Item = char>) -> Vec<String> {
    let mut tokens: Vec<String> = SPECIAL.map(String::from).into();
    for c in scalars {
        tokens.push(c.to_string());
        tokens.push(format!("##{c}"));
    }
    tokens
}

/// What normalization makes of characters that are themselves not in a slice.
pub fn with_mappings(scalars: &[char]) -> std::collections::BTreeSet<char> {
    let mut all: std::collections::BTreeSet<char> = "axz!\u{302}\u{326}\u{302E}中".chars().collect();
    for &c in scalars {
        all.insert(c);
        all.extend(c.to_lowercase());
        unicode_normalization_alignments::char::decompose_canonical(c, |part| {
            all.insert(part);
            all.extend(part.to_lowercase());
        });
    }
    all.retain(|c| !c.is_whitespace());
    all
}
