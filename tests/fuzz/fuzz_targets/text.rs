//! Any bytes as text, whole and in pieces, in four modes: ids, offsets, word ids and decoded text are the reference's.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reference::{Both, vocabulary_of, with_mappings};

#[allow(dead_code)]
#[path = "../../tokenizer/reference.rs"]
mod reference;

static MODES: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let scalars: Vec<char> = ('!'..='\u{2FFF}').step_by(2).chain('\u{3000}'..='\u{30FF}').collect();
    let mut scalars = with_mappings(&scalars);
    scalars.extend(with_mappings(&('\u{1D15E}'..='\u{1D1C0}').collect::<Vec<_>>()));
    let tokens = vocabulary_of(scalars.into_iter());
    [(false, None), (true, None), (true, Some(false)), (false, Some(true))]
        .map(|(lower, strip)| Both::new(&tokens, lower, strip))
        .into()
});

fuzz_target!(|data: &[u8]| {
    let Some((&[mode, a, b], text)) = data.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let both = &MODES[usize::from(mode) % 4];
    both.check(&text);
    both.check_stream(&text, &[a.into(), b.into()], false);
    let mut ids = Vec::new();
    both.ours().tokens(&text, |token| ids.push(token.id)).unwrap();
    both.check_decode(&ids);
});
