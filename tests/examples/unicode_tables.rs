//! Writes `runtime/src/tokenizer/unicode_tables.rs`.
//!
//! ```text
//! cargo run -p mbert-tests --example unicode_tables > runtime/src/tokenizer/unicode_tables.rs
//! ```
//!
//! The properties are asked of the functions that the reference (Hugging Face `tokenizers`) itself calls, one
//! scalar value after the other: its two table crates, pinned in `Cargo.toml`, and the standard library. Where these
//! follow different versions of Unicode, so do the tables.

use std::collections::BTreeSet;
use std::fmt::Write;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// Characters per block of the class table, and blocks per row.
const BLOCK: usize = 32;
const ROW: usize = 8;
/// The class table's index ends here; what lies above is rare and searched for.
const INDEX_END: u32 = 0x1_0000;
/// The longest gap, in characters, between two that decompose and share a run.
const GAP: u32 = 2;
/// Set in the last part of a decomposition.
const LAST_PART: u32 = 1 << 31;

const CLASS_NAMES: [(&str, &str); 8] = [
    (
        "REMOVED",
        "Dropped by text cleaning: NUL, U+FFFD and the categories Cc, Cf and Co, without tab and line ends. Comes alone.",
    ),
    ("SPACE", "Whitespace, and the tab and line ends that count as such."),
    ("PUNCTUATION", "ASCII punctuation and the P categories: a word of its own."),
    ("CJK", "An ideograph of the reference's ranges: set off by spaces."),
    ("MARK", "Category Mn: dropped where accents are stripped."),
    ("NONSTARTER", "The canonical decomposition starts with a combining class other than 0."),
    ("DECOMPOSES", "The canonical decomposition differs from the character itself."),
    ("UPPER", "Lower case differs from the character itself."),
];

fn main() {
    print!("{}", tables());
}

fn tables() -> String {
    let (major, minor, patch) = char::UNICODE_VERSION;
    let mut out = format!(
        "//! Character properties as the reference sees them. Generated, do not edit:\n\
         //! `cargo run -p mbert-tests --example unicode_tables > runtime/src/tokenizer/unicode_tables.rs`\n\
         //!\n\
         //! | property | from | Unicode |\n\
         //! |---|---|---|\n\
         //! | categories | `unicode_categories` 0.1.1 | 8.0.0 |\n\
         //! | decompositions, combining classes | `unicode-normalization-alignments` 0.1.12 | 9.0.0 |\n\
         //! | lower case, whitespace | the standard library | {major}.{minor}.{patch} |\n"
    );
    classes(&mut out);
    combining_orders(&mut out);
    decompositions(&mut out);
    lower_case(&mut out);
    out
}

fn scalars() -> impl Iterator<Item = char> {
    '\0'..=char::MAX
}

fn decomposition(c: char) -> Vec<char> {
    let mut parts = Vec::new();
    decompose_canonical(c, |part| parts.push(part));
    parts
}

/// Why not Unicode's blocks: the reference starts the fourth extension at U+2B920 instead of U+2B820.
fn is_cjk(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x2_A6DF | 0x2_A700..=0x2_B73F
        | 0x2_B740..=0x2_B81F | 0x2_B920..=0x2_CEAF | 0x2_F800..=0x2_FA1F)
}

fn class(c: char) -> u8 {
    let line_end_or_tab = matches!(c, '\t' | '\n' | '\r');
    if !line_end_or_tab && (c == '\0' || c == '\u{FFFD}' || c.is_other()) {
        return 1;
    }
    let parts = decomposition(c);
    let flags = [
        false,
        line_end_or_tab || c.is_whitespace(),
        c.is_ascii_punctuation() || c.is_punctuation(),
        is_cjk(c),
        c.is_mark_nonspacing(),
        canonical_combining_class(parts[0]) != 0,
        parts != [c],
        !c.to_lowercase().eq([c]),
    ];
    flags.iter().enumerate().map(|(bit, &set)| u8::from(set) << bit).sum()
}

fn classes(out: &mut String) {
    for (bit, (name, meaning)) in CLASS_NAMES.iter().enumerate() {
        writeln!(out, "\n/// {meaning}\npub const {name}: u8 = 1 << {bit};").unwrap();
    }
    // A surrogate is no scalar value; it is never looked up.
    let of = |code| char::from_u32(code).map_or(0, class);
    let mut combinations = vec![0_u8];
    let mut numbers: Vec<u8> = (0..INDEX_END).map(|code| number_of(&mut combinations, of(code))).collect();
    assert!(combinations.len() <= 16, "a class number must fit a nibble");
    combinations.resize(16, 0);
    numbers = numbers.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect();
    let (mut blocks, mut rows) = (Vec::new(), Vec::new());
    let index: Vec<u8> = numbers.chunks(BLOCK / 2).map(|block| number_of(&mut blocks, block)).collect();
    let index: Vec<u8> = index.chunks(ROW).map(|row| number_of(&mut rows, row.to_vec())).collect();

    let ascii: Vec<u8> = (0..128).map(of).collect();
    table(out, "The classes of ASCII.", "ASCII_CLASSES", "u8", &ascii);
    table(out, "The combinations of classes that occur below U+10000.", "CLASS_COMBINATIONS", "u8", &combinations);
    table(out, "Row of each 256 characters below U+10000.", "CLASS_INDEX", "u8", &index);
    table(out, "Block of each 32 characters of a row.", "CLASS_ROWS", "[u8; 8]", &rows);
    let meaning = "Combination numbers, a nibble each, the even character low.";
    table(out, meaning, "CLASS_BLOCKS", "[u8; 16]", &blocks);
    let above = (INDEX_END..=char::MAX.into()).map(|code| (code, u32::from(of(code))));
    let meaning = "Where the classes change from U+10000 on: `first << 8 | classes`.";
    table(out, meaning, "CLASSES_ABOVE", "u32", &changes(8, above));
}

/// The number of an entry in a list, to which it is added if it is new.
fn number_of<T: PartialEq>(list: &mut Vec<T>, entry: T) -> u8 {
    let known = list.iter().position(|known| *known == entry).unwrap_or_else(|| {
        list.push(entry);
        list.len() - 1
    });
    u8::try_from(known).unwrap()
}

/// `first << bits | value` wherever the value changes.
fn changes(bits: u32, values: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let (mut changes, mut latest) = (Vec::new(), None);
    for (code, value) in values {
        if latest.replace(value) != Some(value) {
            assert!(value < 1 << bits && code < 1 << (32 - bits));
            changes.push(code << bits | value);
        }
    }
    changes
}

/// All that matters of a combining class is which of the classes of characters that stay it is, or lies between.
fn combining_orders(out: &mut String) {
    let kept =
        scalars().filter(|&c| class(c) & 0b111 == 0 && canonical_combining_class(c) != 0 && !c.is_mark_nonspacing());
    let kept: BTreeSet<u8> = kept.map(canonical_combining_class).collect();
    let nonstarters = scalars().filter_map(|c| match canonical_combining_class(decomposition(c)[0]) {
        0 => None,
        class => Some((c.into(), 2 * kept.range(..class).count() as u32 + u32::from(kept.contains(&class)))),
    });
    let meaning = "Where the place in canonical order changes among nonstarters (that of the decomposition's first character): \
                   `first << 8 | place`.\n///\n/// A place is odd for the `KEPT_CLASSES` combining classes of characters that stay \
                   where accents are stripped, and even for all that lie between two of them.";
    table(out, meaning, "COMBINING_ORDERS", "u32", &changes(8, nonstarters));
    let meaning = "Combining classes other than 0 of characters that stay where accents are stripped.";
    writeln!(out, "\n/// {meaning}\npub const KEPT_CLASSES: usize = {};", kept.len()).unwrap();
}

/// Decompositions without their Mn characters.
///
/// Only these are needed: a dropped character that is not the first of its decomposition has no effect, neither on
/// the order of the kept ones nor on their offsets.
fn decompositions(out: &mut String) {
    let (mut places, mut values, mut parts_table) = (Vec::new(), Vec::<u16>::new(), Vec::<u32>::new());
    for c in scalars().filter(|c| !('\u{AC00}'..='\u{D7A3}').contains(c)) {
        let parts = decomposition(c);
        if parts == [c] {
            continue;
        }
        let mut kept: Vec<u32> = parts.iter().filter(|c| !c.is_mark_nonspacing()).map(|&c| u32::from(c)).collect();
        if canonical_combining_class(parts[0]) != 0 {
            assert!(kept.is_empty(), "a decomposing nonstarter is dropped whole");
            continue;
        }
        let starters = kept.iter().take_while(|&&c| canonical_combining_class(char::from_u32(c).unwrap()) == 0);
        let starters = starters.count();
        assert!(kept[starters..].iter().all(|&c| canonical_combining_class(char::from_u32(c).unwrap()) != 0));
        assert!(starters > 0 || kept.is_empty(), "kept nonstarters follow a kept starter");
        let splits_words = |code: &&u32| class(char::from_u32(**code).unwrap()) & 0b110 != 0;
        assert!(kept.len() == 1 || !kept.iter().any(|code| splits_words(&code)), "a part of several splits no word");
        let code = u32::from(c);
        if let Some(&(before, _)) = places.last()
            && code - before <= 1 + GAP
        {
            values.extend((before + 1..code).map(|_| 0));
        }
        places.push((code, (values.len() as u32).wrapping_sub(code) % (1 << 14)));
        values.push(match kept[..] {
            [] => 0,
            [one] if one < 0xD800 || (0xE000..0x1_0000).contains(&one) => one as u16,
            [.., ref mut last] => {
                *last |= LAST_PART;
                let known = parts_table.windows(kept.len()).position(|known| known == kept);
                let at = known.unwrap_or_else(|| {
                    parts_table.extend(&kept);
                    parts_table.len() - kept.len()
                });
                assert!(at < 0x800);
                0xD800 + at as u16
            }
        });
    }
    assert!(values.len() < 1 << 14);
    let meaning = "Characters that decompose, Hangul syllables apart: how far, modulo 2¹⁴, their places in `KEPT` lie above \
                   them, wherever that changes: `first << 14 | distance`.";
    table(out, meaning, "DECOMPOSED", "u32", &changes(14, places.into_iter()));
    let meaning = "What is kept of each; 0 for nothing, 0xD800 + n for `KEPT_PARTS` from n on.";
    table(out, meaning, "KEPT", "u16", &values);
    let meaning = "Kept parts that are several or lie above U+FFFF; the last of each has `LAST_PART` set.";
    table(out, meaning, "KEPT_PARTS", "u32", &parts_table);
    writeln!(out, "\n/// Marks the last part of a decomposition.\npub const LAST_PART: u32 = {LAST_PART:#x};").unwrap();
}

fn lower_case(out: &mut String) {
    let mut distances: Vec<u16> = Vec::new();
    let mut numbers = Vec::new();
    for c in scalars() {
        let lower: Vec<char> = c.to_lowercase().collect();
        if c == '\u{130}' {
            assert_eq!(lower, ['i', '\u{307}']);
        } else if lower != [c] {
            assert_eq!(lower.len(), 1);
            let (code, lower) = (u32::from(c), u32::from(lower[0]));
            assert_eq!(lower >> 16, code >> 16, "lower case does not leave its plane");
            let distance = (lower as u16).wrapping_sub(code as u16);
            numbers.push((code, number_of(&mut distances, distance).into()));
        }
    }
    let meaning = "Characters that have a lower case, U+0130 apart: the number of their distance wherever that changes: \
                   `first << 8 | number`.";
    table(out, meaning, "LOWER_CASE", "u32", &changes(8, numbers.into_iter()));
    let meaning = "How far the lower case lies above a character, modulo 2¹⁶ and within the plane.";
    table(out, meaning, "LOWER_CASE_DISTANCES", "u16", &distances);
}

fn table<T: std::fmt::Debug>(out: &mut String, meaning: &str, name: &str, element: &str, values: &[T]) {
    write!(out, "\n/// {meaning}\npub static {name}: [{element}; {}] = [", values.len()).unwrap();
    let mut column = usize::MAX / 2;
    for value in values {
        let value = format!(" {value:?},");
        column += value.len();
        if column > 120 {
            out.push_str("\n   ");
            column = 3 + value.len();
        }
        out.push_str(&value);
    }
    out.push_str("\n];\n");
}
