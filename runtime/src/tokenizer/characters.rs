//! Properties and mappings of single characters, looked up in the generated tables.
//!
//! A class is one byte of flags: see the constants of [`unicode_tables`](super::unicode_tables), which also name the
//! places where the reference deviates from Unicode. The tables hold about 13 KB.

use super::unicode_tables::{
    ASCII_CLASSES, CLASS_BLOCKS, CLASS_COMBINATIONS, CLASS_INDEX, CLASS_ROWS, CLASSES_ABOVE, COMBINING_ORDERS,
    DECOMPOSED, KEPT, KEPT_PARTS, LAST_PART, LOWER_CASE, LOWER_CASE_DISTANCES,
};

/// Most characters that one character can become: a Hangul syllable's jamo.
pub const MAX_EXPANSION: usize = 3;

/// The flags of an ASCII character.
#[inline(always)]
pub fn ascii_class(byte: u8) -> u8 {
    ASCII_CLASSES[usize::from(byte & 0x7F)]
}

/// The flags of a character. Not inlined: it is called in many places, of which none is the fastest path.
#[inline(never)]
pub fn class(c: char) -> u8 {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => ascii_class(byte),
        _ => class_of_code(c.into()),
    }
}

/// The flags of a character by its code.
#[inline]
fn class_of_code(code: u32) -> u8 {
    let Some(&row) = CLASS_INDEX.get(code as usize / 256) else {
        return value_at::<8>(&CLASSES_ABOVE, code) as u8;
    };
    // There are no other rows and blocks than the tables have.
    let block = CLASS_ROWS.get(usize::from(row)).map_or(0, |row| row[code as usize % 256 / 32]);
    let pair = CLASS_BLOCKS.get(usize::from(block)).map_or(0, |block| block[code as usize % 32 / 2]);
    CLASS_COMBINATIONS[usize::from(pair >> (4 * (code & 1)) & 0xF)]
}

/// What the last of some numbers `first << BITS | value` says whose `first` is not above `code`; 0 if there is none.
fn value_at<const BITS: u32>(changes: &[u32], code: u32) -> u32 {
    let so_far = changes.get(..changes.partition_point(|change| change >> BITS <= code)).unwrap_or_default();
    so_far.last().map_or(0, |change| change & ((1 << BITS) - 1))
}

/// The flags and the length of the character that valid UTF-8, not empty, starts with.
#[inline(always)]
pub fn first_class(text: &[u8]) -> (u8, usize) {
    let low = |byte: u8| u32::from(byte & 0x3F);
    let (code, bytes) = match *text {
        [a, ..] if a.is_ascii() => return (ascii_class(a), 1),
        [a, b, ..] if a < 0xE0 => (u32::from(a & 0x1F) << 6 | low(b), 2),
        [a, b, c, ..] if a < 0xF0 => (u32::from(a & 0xF) << 12 | low(b) << 6 | low(c), 3),
        [a, b, c, d, ..] => (u32::from(a & 7) << 18 | low(b) << 12 | low(c) << 6 | low(d), 4),
        // Nothing is cut in a text that is valid.
        _ => return (0, text.len()),
    };
    (class_of_code(code), bytes)
}

/// The number of characters in valid UTF-8, cut anywhere: the bytes that do not continue one.
#[inline]
pub fn count_chars(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// The place of a nonstarter in canonical order: see [`COMBINING_ORDERS`].
pub fn combining_order(c: char) -> u8 {
    value_at::<8>(&COMBINING_ORDERS, c.into()) as u8
}

/// A few characters, in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Characters {
    list: [char; MAX_EXPANSION],
    len: u8,
}

impl Characters {
    /// Adds one behind the others, of which there are fewer than [`MAX_EXPANSION`].
    #[inline]
    pub fn push(&mut self, c: char) {
        if let Some(place) = self.list.get_mut(usize::from(self.len)) {
            *place = c;
            self.len += 1;
        }
    }

    /// The same by its code, as the tables have it.
    fn push_code(&mut self, code: u32) {
        self.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    }

    /// Those that were added.
    #[inline]
    pub fn as_slice(&self) -> &[char] {
        self.list.get(..self.len.into()).unwrap_or_default()
    }
}

/// The canonical decomposition of a starter that decomposes, without its nonspacing marks.
pub fn decompose_without_marks(c: char) -> Characters {
    let mut kept = Characters::default();
    let code = u32::from(c);
    // Hangul syllables are made up by arithmetic: 19 initials, 21 vowels, 27 finals or none.
    if let Some(syllable) = code.checked_sub(0xAC00).filter(|&syllable| syllable < 19 * 21 * 28) {
        kept.push_code(0x1100 + syllable / (21 * 28));
        kept.push_code(0x1161 + syllable / 28 % 21);
        if syllable % 28 > 0 {
            kept.push_code(0x11A7 + syllable % 28);
        }
        return kept;
    }
    let number = value_at::<14>(&DECOMPOSED, code).wrapping_add(code) % (1 << 14);
    match KEPT.get(number as usize) {
        None | Some(0) => {}
        Some(escape @ 0xD800..0xE000) => {
            for part in KEPT_PARTS.iter().skip(usize::from(escape - 0xD800)) {
                kept.push_code(part & !LAST_PART);
                if part & LAST_PART != 0 {
                    break;
                }
            }
        }
        Some(&one) => kept.push_code(one.into()),
    }
    kept
}

/// Adds the lower case of a character that has one: two characters for U+0130 alone.
pub fn push_lower_case(c: char, lower: &mut Characters) {
    if c == '\u{130}' {
        lower.push('i');
        lower.push('\u{307}');
        return;
    }
    let code = u32::from(c);
    let number = value_at::<8>(&LOWER_CASE, code) as usize;
    let distance = LOWER_CASE_DISTANCES.get(number).copied().unwrap_or(0);
    lower.push_code(code & !0xFFFF | u32::from((code as u16).wrapping_add(distance)));
}
