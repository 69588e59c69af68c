//! Random text for comparisons.

use proptest::prelude::*;

/// Text that meets the corners: scripts, marks in any order, jamo, emoji sequences, controls, special tokens.
pub fn any_text() -> impl Strategy<Value = String> {
    let characters = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        2 => proptest::char::range('\u{A0}', '\u{24F}'),
        2 => proptest::char::range('\u{300}', '\u{36F}'),
        2 => proptest::sample::select("\u{302E}\u{302F}\u{1D165}\u{1D166}\u{1D16D}\u{1D15F}\u{1D160}\u{1D1BB}\u{344}\u{F73}\u{F81}".chars().collect::<Vec<_>>()),
        1 => proptest::char::range('\u{370}', '\u{5FF}'),
        1 => proptest::char::range('\u{600}', '\u{DFF}'),
        1 => proptest::char::range('\u{1100}', '\u{11FF}'),
        1 => proptest::char::range('\u{AC00}', '\u{D7A3}'),
        1 => proptest::char::range('\u{1E00}', '\u{206F}'),
        1 => proptest::char::range('\u{3000}', '\u{9FFF}'),
        1 => proptest::char::range('\u{F900}', '\u{FFFF}'),
        1 => proptest::char::range('\u{1F300}', '\u{1FAFF}'),
        1 => proptest::char::range('\u{1F1E6}', '\u{1F1FF}'),
        1 => proptest::char::range('\u{2F800}', '\u{2FA1F}'),
        1 => proptest::sample::select("\u{200B}\u{200C}\u{200D}\u{202A}\u{202E}\u{2066}\u{2069}\u{FE0F}\u{E0061}\u{0}\t\n\r\u{85}\u{FFFD}\u{130}\u{3A3}".chars().collect::<Vec<_>>()),
        1 => proptest::char::any(),
    ];
    let piece = prop_oneof![
        8 => proptest::collection::vec(characters, 0..12).prop_map(|characters| characters.into_iter().collect()),
        1 => proptest::sample::select(vec![" ", "[MASK]", "[UNK]", "[SEP", "[CLS]", "don't", "👩\u{200D}🚀", "🏳️\u{200D}🌈"]).prop_map(String::from),
        1 => proptest::collection::vec(proptest::char::range('\u{300}', '\u{36F}'), 0..150).prop_map(|marks| marks.into_iter().collect()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Seeded text of the same kind, made quickly.
pub struct RandomText(pub u64);

impl RandomText {
    const RANGES: [(u32, u32); 24] = [
        (0x20, 0x7E),
        (0x20, 0x7E),
        (0x61, 0x7A),
        (0x41, 0x5A),
        (0, 0x1F),
        (0x7F, 0x24F),
        (0xC0, 0x17F),
        (0x300, 0x36F),
        (0x300, 0x36F),
        (0x370, 0x5FF),
        (0x600, 0xDFF),
        (0xE00, 0x10FF),
        (0x1100, 0x11FF),
        (0x1E00, 0x1FFF),
        (0x2000, 0x206F),
        (0x2100, 0x2FFF),
        (0x3000, 0x30FF),
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A3),
        (0xF900, 0xFFFF),
        (0x1D157, 0x1D1C0),
        (0x1F1E6, 0x1FAFF),
        (0x2F800, 0x2FA20),
        (0, 0x10FFFF),
    ];
    const PIECES: [&str; 12] = [
        "[MASK]",
        "[SEP]",
        "[UNK",
        " ",
        "\u{200D}",
        "\u{FE0F}",
        "\u{302E}",
        "\u{302F}\u{323}",
        "\u{1D165}",
        "İ",
        "ß",
        "##",
    ];

    /// Steele and others' SplitMix64.
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % u64::from(limit)) as u32
    }

    /// Replaces `text` by the next one.
    pub fn write(&mut self, text: &mut String) {
        text.clear();
        for _ in 0..self.below(6) {
            let (first, last) = Self::RANGES[self.below(24) as usize];
            // Now and then a run that is longer than a word may be.
            let len = if self.below(64) == 0 { 90 + self.below(30) } else { self.below(9) };
            for _ in 0..len {
                if self.below(8) == 0 {
                    text.push_str(Self::PIECES[self.below(12) as usize]);
                }
                text.extend(char::from_u32(first + self.below(last - first + 1)));
            }
        }
    }
}
