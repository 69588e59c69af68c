//! The whole tokenizer, over any storage.

use core::fmt::Write;

use mbert_runtime::storage::Storage;
use mbert_runtime::tokenizer::{
    CleanUp, Encoder, Encoding, Tokenizer, TokenizerError, Truncation, Vocab, VocabError, Windows,
};

use crate::{Console, any, look, some, text};

/// Calls every public function of the tokenizer.
pub fn everything<S: Storage>(section: S) {
    look(vocabulary(section));
}

fn vocabulary<S: Storage>(section: S) -> Result<(), VocabError> {
    let vocab = Vocab::open(section)?;
    look((vocab.len(), vocab.id(some())?, vocab.copy_token(*any(), some())?));
    look(tokenizer(vocab));
    Ok(())
}

fn tokenizer<S: Storage>(vocab: Vocab<S>) -> Result<(), TokenizerError> {
    let tokenizer = Tokenizer::new(vocab, *any())?;
    tokenizer.tokens(text(), look)?;
    tokenizer.decode(some(), *any(), clean_up(), &mut Console)?;

    let mut encoding = Encoding::new(some())
        .with_token_type_ids(some())
        .with_attention_mask(some())
        .with_offsets(some())
        .with_word_ids(some());
    let pair = any::<bool>().then(text);
    tokenizer.encode(text(), pair, truncation(), &mut encoding)?;
    tokenizer.pad(&mut encoding, *any())?;
    see(&encoding);
    encoding.offsets_to_chars(text(), pair);

    let mut encoder: Encoder<'_, '_, '_, S> = tokenizer.encoder(*any(), truncation(), &mut encoding)?;
    encoder.write_bytes(some())?;
    encoder.write_str(text())?;
    encoder.next_text()?;
    encoder.finish()?;

    let mut stream = tokenizer.stream();
    stream.write(text(), look)?;
    stream.write_bytes(some(), look)?;
    stream.finish(look)?;

    let mut windows: Windows<'_, '_, S, _> = tokenizer.windows(pair, *any(), encoding, see)?;
    windows.write_bytes(some())?;
    windows.write_str(text())?;
    windows.finish()
}

fn see(encoding: &Encoding<'_>) {
    look((encoding.len(), encoding.is_empty(), encoding.ids(), encoding.token_type_ids()));
    look((encoding.attention_mask(), encoding.offsets(), encoding.word_ids()));
}

fn truncation() -> Truncation {
    match *any::<u8>() {
        0 => Truncation::DoNotTruncate,
        1 => Truncation::LongestFirst,
        2 => Truncation::OnlyFirst,
        _ => Truncation::OnlySecond,
    }
}

fn clean_up() -> CleanUp {
    match *any::<u8>() {
        0 => CleanUp::Nothing,
        1 => CleanUp::Tokens,
        _ => CleanUp::Text,
    }
}
