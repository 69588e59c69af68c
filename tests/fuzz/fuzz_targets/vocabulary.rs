//! Any lines as a vocabulary, the last one as text: words are split like the reference splits them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reference::{Both, SPECIAL};

#[allow(dead_code)]
#[path = "../../tokenizer/reference.rs"]
mod reference;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Some((tokens, text)) = text.rsplit_once('\n') else { return };
    if tokens.lines().any(|token| token.len() > 1023) {
        return;
    }
    let tokens: Vec<&str> = SPECIAL.into_iter().chain(tokens.lines().map(str::trim_end)).collect();
    Both::new(&tokens, false, None).check(text);
});
