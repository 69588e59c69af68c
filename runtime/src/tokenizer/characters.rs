//! Properties and mappings of single characters, looked up in the generated tables.
//!
//! A class is one byte of flags: see the constants of [`unicode_tables`](super::unicode_tables), which also name the
//! places where the reference deviates from Unicode. The tables hold about 24 KB.

use super::unicode_tables::{
    ASCII_CLASSES, CLASS_BLOCKS, CLASS_COMBINATIONS, CLASS_INDEX, CLASS_INDEX_END, CLASS_RANGES, COMBINING_CLASSES,
    COMPATIBILITY_IDEOGRAPHS, DECOMPOSED, DECOMPOSED_SUPPLEMENTARY, KEPT, KEPT_SEQUENCES, LOWER_CASE,
};

/// Most characters that one character can become: a Hangul syllable's jamo.
pub const MAX_EXPANSION: usize = 3;

/// The flags of an ASCII character.
#[inline(always)]
pub fn ascii_class(byte: u8) -> u8 {
    ASCII_CLASSES[usize::from(byte & 0x7F)]
}

/// The flags of a character.
#[inline]
pub fn class(c: char) -> u8 {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => ascii_class(byte),
        _ => class_of_code(c.into()),
    }
}

/// The flags of a character by its code.
#[inline]
fn class_of_code(code: u32) -> u8 {
    if code < CLASS_INDEX_END {
        let block = usize::from(CLASS_INDEX[code as usize / 64]);
        let pair = CLASS_BLOCKS[block * 32 + code as usize % 64 / 2];
        return CLASS_COMBINATIONS[usize::from(pair >> (4 * (code & 1)) & 0xF)];
    }
    CLASS_RANGES.iter().find(|(first, last, _)| (*first..=*last).contains(&code)).map_or(0, |&(_, _, class)| class)
}

/// The flags and the length of the character that valid UTF-8, not empty, starts with.
#[inline(always)]
pub fn first_class(text: &[u8]) -> (u8, usize) {
    let low = |byte: u8| u32::from(byte & 0x3F);
    match *text {
        [a, ..] if a.is_ascii() => (ascii_class(a), 1),
        [a, b, ..] if a < 0xE0 => (class_of_code(u32::from(a & 0x1F) << 6 | low(b)), 2),
        [a, b, c, ..] if a < 0xF0 => (class_of_code(u32::from(a & 0xF) << 12 | low(b) << 6 | low(c)), 3),
        [a, b, c, d, ..] => (class_of_code(u32::from(a & 7) << 18 | low(b) << 12 | low(c) << 6 | low(d)), 4),
        // Nothing is cut in a text that is valid.
        _ => (0, text.len()),
    }
}

/// The combining class of the first character of the canonical decomposition.
pub fn combining_class(c: char) -> u8 {
    let after = COMBINING_CLASSES.partition_point(|&boundary| boundary >> 8 <= u32::from(c));
    // The first boundary lies at U+0000.
    COMBINING_CLASSES[after - 1] as u8
}

/// A few characters, in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Characters {
    list: [char; MAX_EXPANSION],
    len: u8,
    next: u8,
}

impl Characters {
    /// Adds one behind the others.
    ///
    /// # Panics
    ///
    /// If there are [`MAX_EXPANSION`] already.
    #[inline]
    pub fn push(&mut self, c: char) {
        self.list[usize::from(self.len)] = c;
        self.len += 1;
    }
}

impl Iterator for Characters {
    type Item = char;

    #[inline]
    fn next(&mut self) -> Option<char> {
        if self.next == self.len {
            return None;
        }
        self.next += 1;
        Some(self.list[usize::from(self.next) - 1])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.len - self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Characters {}

/// The canonical decomposition of a starter that decomposes, without its nonspacing marks.
pub fn decompose_without_marks(c: char) -> Characters {
    let mut kept = Characters::default();
    let code = u32::from(c);
    // Hangul syllables are made up by arithmetic: 19 initials, 21 vowels, 27 finals or none.
    if let Some(syllable) = code.checked_sub(0xAC00).filter(|&syllable| syllable < 19 * 21 * 28) {
        kept.push(from_table(0x1100 + syllable / (21 * 28)));
        kept.push(from_table(0x1161 + syllable / 28 % 21));
        if syllable % 28 > 0 {
            kept.push(from_table(0x11A7 + syllable % 28));
        }
        return kept;
    }
    let ideograph = code.checked_sub(0x2_F800).and_then(|i| COMPATIBILITY_IDEOGRAPHS.get(i as usize));
    if let Some(&ideograph) = ideograph {
        kept.push(from_table(ideograph));
        return kept;
    }
    let value = match u16::try_from(code) {
        Ok(key) => DECOMPOSED.binary_search(&key).map(|i| KEPT[i]),
        Err(_) => {
            DECOMPOSED_SUPPLEMENTARY.binary_search_by_key(&code, |&(key, _)| key).map(|i| DECOMPOSED_SUPPLEMENTARY[i].1)
        }
    };
    match value {
        Err(_) => kept.push(c),
        Ok(0) => {}
        Ok(escape @ 0xD800..0xE000) => {
            let sequence = KEPT_SEQUENCES[usize::from(escape) - 0xD800];
            sequence.iter().filter(|&&code| code != 0).for_each(|&code| kept.push(from_table(code)));
        }
        Ok(one) => kept.push(from_table(one.into())),
    }
    kept
}

/// Lower case; two characters for U+0130 alone.
pub fn lower_case(c: char) -> Characters {
    let mut lower = Characters::default();
    if c == '\u{130}' {
        lower.push('i');
        lower.push('\u{307}');
        return lower;
    }
    let code = u32::from(c);
    let after = LOWER_CASE.partition_point(|&(first, ..)| first <= code);
    let run = after.checked_sub(1).map(|i| LOWER_CASE[i]);
    lower.push(match run {
        Some((first, last, step, distance)) if code <= last && (code - first) % step == 0 => {
            from_table(code.wrapping_add_signed(distance))
        }
        _ => c,
    });
    lower
}

/// The tables hold scalar values only; the fallback is never taken.
fn from_table(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}
