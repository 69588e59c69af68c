//! What is asked: the command line that the debugger holds.
//!
//! Its words are separated by U+001F, the unit separator, so that a text may hold spaces. No text is spoilt by that: the tokenizer drops
//! control characters. The first word may be `log=FILE`: where the log goes.

use static_cell::ConstStaticCell;

use crate::counter::InstructionCounter;
use crate::error::Failure;
use crate::{log, semihosting};

/// The longest command line. Boards with an SD card are those with little RAM.
pub const COMMAND_BYTES: usize = if cfg!(feature = "sd-card") { 1024 } else { 8192 };
/// Stands between the words.
pub const SEPARATOR: char = '\u{1f}';

/// Takes the command line from the debugger, and starts the log where it names one; what stands behind that.
///
/// # Errors
///
/// A command line that is too long, absent or not UTF-8, a log that cannot be opened.
///
/// # Panics
///
/// If it is called twice.
pub fn command_line(counter: &'static dyn InstructionCounter) -> Result<&'static str, Failure> {
    static LINE: ConstStaticCell<[u8; COMMAND_BYTES]> = ConstStaticCell::new([0; COMMAND_BYTES]);
    let line = semihosting::command_line(LINE.take()).ok_or(Failure::CommandTooLong)?;
    let line = str::from_utf8(line).map_err(|error| Failure::NotUtf8 { offset_bytes: error.valid_up_to() })?;
    let Some(line) = line.strip_prefix("log=") else { return Ok(line) };
    let (path, line) = line.split_once(SEPARATOR).unwrap_or((line, ""));
    log::start(path, counter)?;
    Ok(line)
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
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
    /// What each kind of step takes.
    #[cfg(feature = "profile")]
    Profile {
        /// Text with one or more masks.
        text: &'a str,
    },
    /// Whether the kernels of this CPU give the bits of the scalar ones.
    #[cfg(feature = "kernel-suite")]
    KernelSuite,
    /// What the kernels take.
    #[cfg(feature = "kernel-suite")]
    KernelBench {
        /// The name of their table, of those that this CPU runs; the best without it.
        kernels: Option<&'a str>,
    },
    /// Whether damaged models and impossible questions are refused, and then the question of `FillMask`.
    #[cfg(feature = "kernel-suite")]
    DamageSweep {
        /// Text with one or more masks.
        text: &'a str,
    },
    /// Panics.
    #[cfg(feature = "kernel-suite")]
    Panic,
}

impl<'a> Command<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    ///
    /// An unknown command, too few or too many texts.
    pub fn parse(line: &'a str) -> Result<Self, Failure> {
        let mut words = line.split(SEPARATOR);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("fill-mask"), Some(text), None, _) => Ok(Self::FillMask { text }),
            (Some("next-sentence"), Some(text), Some(pair), None) => Ok(Self::NextSentence { text, pair }),
            (Some("features"), Some(text), None, _) => Ok(Self::Features { text }),
            #[cfg(feature = "profile")]
            (Some("profile"), Some(text), None, _) => Ok(Self::Profile { text }),
            #[cfg(feature = "kernel-suite")]
            (Some("kernel-suite"), None, _, _) => Ok(Self::KernelSuite),
            #[cfg(feature = "kernel-suite")]
            (Some("kernel-bench"), kernels, None, _) => Ok(Self::KernelBench { kernels }),
            #[cfg(feature = "kernel-suite")]
            (Some("damage-sweep"), Some(text), None, _) => Ok(Self::DamageSweep { text }),
            #[cfg(feature = "kernel-suite")]
            (Some("panic"), None, _, _) => Ok(Self::Panic),
            _ => Err(Failure::UnknownCommand),
        }
    }
}
