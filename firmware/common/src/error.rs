//! What can go wrong between the command and its answer.

use core::fmt;

use mbert_runtime::error::{FormatError, ForwardError};
#[cfg(feature = "kernel-suite")]
use mbert_runtime::kernels::suite::SuiteError;
use mbert_runtime::pipeline::PipelineError;
use mbert_runtime::storage::Unreadable;
use mbert_runtime::tokenizer::TokenizerError;

use crate::command::COMMAND_BYTES;
#[cfg(feature = "sd-card")]
use crate::sd_card::CardError;

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, defmt::Format)]
pub enum Failure {
    /// The command line is longer than the memory for it, or the debugger has none.
    CommandTooLong,
    /// The debugger cannot open the log that the command names.
    LogNotOpened,
    /// The command line is not UTF-8.
    NotUtf8 {
        /// The first byte that is not.
        offset_bytes: usize,
    },
    /// No such command, or not that many texts.
    UnknownCommand,
    /// The model cannot be read from its card.
    #[cfg(feature = "sd-card")]
    Card(CardError),
    /// The model cannot be used.
    Format(FormatError),
    /// The text has no answer.
    Pipeline(PipelineError),
    /// Kernels differ from `scalar`, or could not be compared.
    #[cfg(feature = "kernel-suite")]
    Kernels(SuiteError),
    /// Something that should have been refused was not, or not with the right error, or not without a trace.
    #[cfg(feature = "kernel-suite")]
    Check {
        /// What was done.
        what: &'static str,
        /// Where, or which.
        at: usize,
    },
    /// The workspace has no room for the copy of the model that is to be damaged.
    #[cfg(feature = "kernel-suite")]
    NoRoomForCopy {
        /// What the copy needs.
        needed_bytes: usize,
        /// Bytes of the workspace.
        given_bytes: usize,
    },
    /// The debugger did not take the text.
    Console,
}

impl Failure {
    /// 1 for a comparison that fails, 2 for bad input, as the `mbert` program has it.
    pub fn exit_status(&self) -> usize {
        match self {
            #[cfg(feature = "kernel-suite")]
            Self::Kernels(SuiteError::Different(_)) | Self::Check { .. } => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandTooLong => write!(f, "the command is longer than {COMMAND_BYTES} bytes: shorten the text"),
            Self::LogNotOpened => write!(f, "the debugger cannot open the file for the log: check its name"),
            Self::NotUtf8 { offset_bytes } => write!(f, "the command is not UTF-8 from byte {offset_bytes} on"),
            Self::UnknownCommand => {
                write!(f, "unknown command: fill-mask TEXT, next-sentence A B or features TEXT")?;
                if cfg!(feature = "kernel-suite") {
                    write!(f, ", kernel-suite, kernel-bench [KERNELS], damage-sweep TEXT or panic")
                } else {
                    Ok(())
                }
            }
            #[cfg(feature = "sd-card")]
            Self::Card(error) => error.fmt(f),
            Self::Format(error) => write!(f, "the model cannot be used: {error}"),
            Self::Pipeline(error) => error.fmt(f),
            #[cfg(feature = "kernel-suite")]
            Self::Kernels(error) => error.fmt(f),
            #[cfg(feature = "kernel-suite")]
            Self::Check { what, at } => write!(f, "not refused as it should be: {what} {at}"),
            #[cfg(feature = "kernel-suite")]
            Self::NoRoomForCopy { needed_bytes, given_bytes } => {
                write!(f, "a copy of the model needs {needed_bytes} bytes of {given_bytes}: take a smaller model, tiny")
            }
            Self::Console => write!(f, "the debugger did not take the answer"),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(feature = "sd-card")]
impl From<CardError> for Failure {
    fn from(error: CardError) -> Self {
        Self::Card(error)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Pipeline(ForwardError::from(error).into())
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::Pipeline(error.into())
    }
}

#[cfg(feature = "kernel-suite")]
impl From<SuiteError> for Failure {
    fn from(error: SuiteError) -> Self {
        Self::Kernels(error)
    }
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::Console
    }
}
