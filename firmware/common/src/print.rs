//! Numbers and tokens for people, without floats.

use core::fmt;

/// Bytes as hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A fixed-point number with four decimals.
pub struct Fixed {
    /// In steps of `2^−fraction_bits`.
    pub value: i64,
    /// Below 48.
    pub fraction_bits: u32,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = u128::from(self.value.unsigned_abs()) * 10_000;
        let rounded = (((scaled << 1 >> self.fraction_bits) + 1) >> 1) as u64;
        let sign = if self.value < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:04}", rounded / 10_000, rounded % 10_000)
    }
}

/// Counts the characters of a text instead of keeping it.
#[derive(Default)]
pub struct Width(pub usize);

impl fmt::Write for Width {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.chars().count();
        Ok(())
    }
}
