//! Writes `runtime/src/tokenizer/unicode_tables.rs`.
//!
//! ```text
//! cargo run -p mbert-tests --example unicode_tables > runtime/src/tokenizer/unicode_tables.rs
//! ```
//!
//! The properties are asked of the functions that the reference (Hugging Face `tokenizers`) itself calls, one
//! scalar value after the other: its two table crates, pinned in `Cargo.toml`, and the standard library. Where these
//! follow different versions of Unicode, so do the tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// Characters per block of the class table.
const BLOCK: u32 = 64;
/// The class table's index ends here; what lies above are a few long ranges.
const INDEX_END: u32 = 0x3_0000;

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
    combining_classes(&mut out);
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
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut index = Vec::new();
    for block in 0..INDEX_END / BLOCK {
        let numbers: Vec<u8> = (block * BLOCK..(block + 1) * BLOCK)
            .map(|code| {
                let class = of(code);
                let known = combinations.iter().position(|&c| c == class).unwrap_or_else(|| {
                    combinations.push(class);
                    combinations.len() - 1
                });
                u8::try_from(known).unwrap()
            })
            .collect();
        let nibbles: Vec<u8> = numbers.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect();
        let known = blocks.iter().position(|b| *b == nibbles).unwrap_or_else(|| {
            blocks.push(nibbles);
            blocks.len() - 1
        });
        index.push(u8::try_from(known).unwrap());
    }
    assert!(combinations.len() <= 16, "a class number must fit a nibble");
    combinations.resize(16, 0);

    let mut ranges: Vec<(u32, u32, u8)> = Vec::new();
    for code in INDEX_END..=u32::from(char::MAX) {
        let class = of(code);
        match ranges.last_mut() {
            Some((_, last, known)) if *known == class && *last + 1 == code => *last = code,
            _ if class != 0 => ranges.push((code, code, class)),
            _ => {}
        }
    }
    let ascii: Vec<u8> = (0..128).map(of).collect();
    table(out, "The classes of ASCII.", "ASCII_CLASSES", "u8", &ascii);
    table(out, "The combinations of classes that occur.", "CLASS_COMBINATIONS", "u8", &combinations);
    table(out, "Block of each 64 characters below `CLASS_INDEX_END`.", "CLASS_INDEX", "u8", &index);
    writeln!(out, "\n/// Where `CLASS_INDEX` ends.\npub const CLASS_INDEX_END: u32 = {INDEX_END:#x};").unwrap();
    let blocks: Vec<u8> = blocks.concat();
    table(out, "Combination numbers, a nibble each, the even character low.", "CLASS_BLOCKS", "u8", &blocks);
    let meaning = "First, last and classes of the ranges at and above `CLASS_INDEX_END`.";
    table(out, meaning, "CLASS_RANGES", "(u32, u32, u8)", &ranges);
}

fn combining_classes(out: &mut String) {
    let mut boundaries = vec![0_u32];
    for c in scalars() {
        let class = u32::from(canonical_combining_class(decomposition(c)[0]));
        if boundaries.last().unwrap() & 0xFF != class {
            boundaries.push(u32::from(c) << 8 | class);
        }
    }
    let meaning = "Where the combining class (of the decomposition's first character) changes: `first << 8 | class`.";
    table(out, meaning, "COMBINING_CLASSES", "u32", &boundaries);

    let kept =
        scalars().filter(|&c| class(c) & 0b111 == 0 && canonical_combining_class(c) != 0 && !c.is_mark_nonspacing());
    let classes: std::collections::BTreeSet<u8> = kept.map(canonical_combining_class).collect();
    let classes: Vec<u8> = classes.into_iter().collect();
    let meaning = "Combining classes other than 0 of characters that stay where accents are stripped.";
    table(out, meaning, "KEPT_COMBINING_CLASSES", "u8", &classes);
}

/// Decompositions without their Mn characters.
///
/// Only these are needed: a dropped character that is not the first of its decomposition has no effect, neither on
/// the order of the kept ones nor on their offsets.
fn decompositions(out: &mut String) {
    let (mut keys, mut values, mut sequences) = (Vec::new(), Vec::new(), Vec::<[u32; 3]>::new());
    let mut supplementary = Vec::new();
    let mut ideographs = Vec::new();
    for c in scalars().filter(|c| !('\u{AC00}'..='\u{D7A3}').contains(c)) {
        let parts = decomposition(c);
        if parts == [c] {
            continue;
        }
        let kept: Vec<u32> = parts.iter().filter(|c| !c.is_mark_nonspacing()).map(|&c| u32::from(c)).collect();
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
        if (0x2_F800..0x2_FA1E).contains(&u32::from(c)) {
            assert_eq!(ideographs.len(), c as usize - 0x2_F800);
            ideographs.push(kept[0]);
            assert_eq!(kept.len(), 1);
            continue;
        }
        let value = match kept[..] {
            [] => 0,
            [one] if one < 0xD800 || (0xE000..0x1_0000).contains(&one) => one,
            _ => {
                let mut sequence = [0; 3];
                sequence[..kept.len()].copy_from_slice(&kept);
                sequences.push(sequence);
                0xD800 + u32::try_from(sequences.len() - 1).unwrap()
            }
        };
        match u16::try_from(u32::from(c)) {
            Ok(key) => {
                keys.push(key);
                values.push(u16::try_from(value).unwrap());
            }
            Err(_) => supplementary.push((u32::from(c), u16::try_from(value).unwrap())),
        }
    }
    table(out, "Characters below U+10000 that decompose, Hangul syllables apart.", "DECOMPOSED", "u16", &keys);
    let meaning = "What is kept of each; 0 for nothing, 0xD800 + n for `KEPT_SEQUENCES[n]`.";
    table(out, meaning, "KEPT", "u16", &values);
    table(out, "The same above U+FFFF.", "DECOMPOSED_SUPPLEMENTARY", "(u32, u16)", &supplementary);
    let meaning = "Kept parts that are several or lie above U+FFFF, padded with 0.";
    table(out, meaning, "KEPT_SEQUENCES", "[u32; 3]", &sequences);
    let meaning = "What the compatibility ideographs from U+2F800 on decompose to.";
    table(out, meaning, "COMPATIBILITY_IDEOGRAPHS", "u32", &ideographs);
}

fn lower_case(out: &mut String) {
    // Runs of characters a constant step apart that all lie equally far from their lower case.
    let mut runs: Vec<(u32, u32, u32, i32)> = Vec::new();
    let mut mapped: BTreeMap<u32, i32> = BTreeMap::new();
    for c in scalars() {
        let lower: Vec<char> = c.to_lowercase().collect();
        if c == '\u{130}' {
            assert_eq!(lower, ['i', '\u{307}']);
        } else if lower != [c] {
            assert_eq!(lower.len(), 1);
            mapped.insert(c.into(), lower[0] as i32 - c as i32);
        }
    }
    for (&code, &distance) in &mapped {
        match runs.last_mut() {
            Some((first, last, step, known)) if *known == distance => match code - *last {
                gap @ (1 | 2) if *first == *last || *step == gap => {
                    *step = gap;
                    *last = code;
                }
                _ => runs.push((code, code, 1, distance)),
            },
            _ => runs.push((code, code, 1, distance)),
        }
    }
    let meaning = "First, last, step and distance of the characters that have a lower case, U+0130 apart.";
    table(out, meaning, "LOWER_CASE", "(u32, u32, u32, i32)", &runs);
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
