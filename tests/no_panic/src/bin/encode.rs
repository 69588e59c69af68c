//! What an answer needs of the tokenizer: a text to ids, and an id to its token, with the vocabulary in memory. Its size is printed.
#![no_std]
#![no_main]

use mbert_runtime::tokenizer::{Encoding, Tokenizer, Truncation, Vocab};
use no_panic::{any, look, some, text};

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let Ok(vocab) = Vocab::open(&*some::<u8>()) else { return };
    let Ok(tokenizer) = Tokenizer::new(vocab, *any()) else { return };
    let mut encoding = Encoding::new(some()).with_token_type_ids(some());
    look(tokenizer.encode(text(), any::<bool>().then(text), Truncation::DoNotTruncate, &mut encoding));
    look((encoding.ids(), tokenizer.vocab().token(*any())));
}
