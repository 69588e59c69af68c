//! What is asked: the command line that the debugger holds.
//!
//! Its words are separated by U+001F, the unit separator, so that a text may hold spaces. No text is spoilt by that: the tokenizer drops
//! control characters.

use crate::error::Failure;

/// The longest command line.
pub const COMMAND_BYTES: usize = 8192;
const SEPARATOR: char = '\u{1f}';

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Which tokens stand where `[MASK]` is.
    FillMask {
        /// Text with one or more masks.
        text: &'a str,
    },
    /// Whether one text follows another.
    NextSentence {
        /// The first.
        text: &'a str,
        /// The second.
        pair: &'a str,
    },
    /// The last hidden states.
    Features {
        /// Any text.
        text: &'a str,
    },
    /// Whether the kernels of this CPU give the bits of the scalar ones.
    #[cfg(feature = "kernel-suite")]
    KernelSuite,
    /// What the kernels take.
    #[cfg(feature = "kernel-suite")]
    KernelBench,
}

impl<'a> Command<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    ///
    /// Bytes that are not UTF-8, an unknown command, too few or too many texts.
    pub fn parse(line: &'a [u8]) -> Result<Self, Failure> {
        let line =
            core::str::from_utf8(line).map_err(|error| Failure::NotUtf8 { offset_bytes: error.valid_up_to() })?;
        let mut words = line.split(SEPARATOR);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("fill-mask"), Some(text), None, _) => Ok(Self::FillMask { text }),
            (Some("next-sentence"), Some(text), Some(pair), None) => Ok(Self::NextSentence { text, pair }),
            (Some("features"), Some(text), None, _) => Ok(Self::Features { text }),
            #[cfg(feature = "kernel-suite")]
            (Some("kernel-suite"), None, _, _) => Ok(Self::KernelSuite),
            #[cfg(feature = "kernel-suite")]
            (Some("kernel-bench"), None, _, _) => Ok(Self::KernelBench),
            _ => Err(Failure::UnknownCommand),
        }
    }
}
