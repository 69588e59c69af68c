//! What a function returns: why there is no answer, without strings or numbers, as C can have it.

use core::ffi::CStr;

use mbert_runtime::error::{FormatError, ForwardError};
use mbert_runtime::pipeline::PipelineError;
use mbert_runtime::tokenizer::TokenizerError;

/// Why there is no answer. mbert_message has a sentence for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MbertStatus {
    /// There is one.
    Ok,
    /// A pointer is null that must not be.
    NullPointer,
    /// A pointer is not a multiple of what it points to.
    MisalignedPointer,
    /// A length is more than an address space can hold.
    LengthOutOfRange,
    /// The model was not opened by mbert_open.
    NotOpen,
    /// The bytes are no model: they do not begin with MBQ1, or are too few or too many.
    NotAModel,
    /// The model was written by another version of mbert convert.
    UnsupportedVersion,
    /// The model is damaged or incomplete.
    DamagedModel,
    /// The model is outside what this library computes, or packed for another CPU.
    UnsupportedModel,
    /// The model's place in memory is not a multiple of 8.
    MisalignedModel,
    /// A text is not UTF-8.
    NotUtf8,
    /// The text has more tokens than the workspace or the model allows.
    TextTooLong,
    /// The text has no mask token.
    NoMask,
    /// The text has more mask tokens than there is room for answers, or than MBERT_MASKS.
    TooManyMasks,
    /// The model was converted without this head.
    MissingHead,
    /// The model does not take this sequence: two texts, where it has one token type.
    UnsupportedSequence,
    /// What is to be returned is longer than the room for it.
    BufferTooSmall,
}

impl MbertStatus {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::NullPointer,
        Self::MisalignedPointer,
        Self::LengthOutOfRange,
        Self::NotOpen,
        Self::NotAModel,
        Self::UnsupportedVersion,
        Self::DamagedModel,
        Self::UnsupportedModel,
        Self::MisalignedModel,
        Self::NotUtf8,
        Self::TextTooLong,
        Self::NoMask,
        Self::TooManyMasks,
        Self::MissingHead,
        Self::UnsupportedSequence,
        Self::BufferTooSmall,
    ];

    /// What a number of C's stands for, which may be none.
    pub fn of(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&status| status as i32 == code)
    }

    /// What is wrong, and what to do.
    pub fn message(self) -> &'static CStr {
        match self {
            Self::Ok => c"answered",
            Self::NullPointer => c"a pointer is null: pass memory",
            Self::MisalignedPointer => {
                c"a pointer is not a multiple of what it points to: pass it as the header declares it"
            }
            Self::LengthOutOfRange => c"a length is more than an address space can hold: pass the bytes that there are",
            Self::NotOpen => c"the model is not open: call mbert_open first, and look at what it returns",
            Self::NotAModel => c"not a .mbert model: check the file or the flash address",
            Self::UnsupportedVersion => c"written by another version of mbert convert: convert the model again",
            Self::DamagedModel => c"the model is damaged or incomplete: copy or convert it again",
            Self::UnsupportedModel => c"the model is not for this library or CPU: convert it for this target",
            Self::MisalignedModel => c"the model's place in memory is not a multiple of 8 bytes: move it",
            Self::NotUtf8 => c"a text is not UTF-8: convert it first",
            Self::TextTooLong => c"the text has too many tokens: shorten it, or give more workspace",
            Self::NoMask => c"the text has no [MASK]: write [MASK] where a word is to be found",
            Self::TooManyMasks => {
                c"the text has more masks than there is room for answers: give more room, up to MBERT_MASKS"
            }
            Self::MissingHead => c"the model has no such head: convert a checkpoint that has one",
            Self::UnsupportedSequence => c"the model takes one text at a time: it has one token type",
            Self::BufferTooSmall => c"the answer is longer than the room for it: give more",
        }
    }
}

impl From<FormatError> for MbertStatus {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::TooShort { .. } | FormatError::TooLong { .. } | FormatError::BadMagic { .. } => {
                Self::NotAModel
            }
            FormatError::UnsupportedVersion { .. } => Self::UnsupportedVersion,
            FormatError::Config(_) | FormatError::UnsupportedLayout { .. } => Self::UnsupportedModel,
            FormatError::Misaligned => Self::MisalignedModel,
            _ => Self::DamagedModel,
        }
    }
}

impl From<ForwardError> for MbertStatus {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::SequenceTooLong { .. } | ForwardError::WorkspaceTooSmall { .. } => Self::TextTooLong,
            ForwardError::MissingHead(_) => Self::MissingHead,
            _ => Self::UnsupportedSequence,
        }
    }
}

impl From<TokenizerError> for MbertStatus {
    fn from(error: TokenizerError) -> Self {
        match error {
            TokenizerError::Output => Self::BufferTooSmall,
            TokenizerError::InvalidUtf8 { .. } => Self::NotUtf8,
            // Every other concerns a truncation that is not asked for, or a vocabulary that opening has checked.
            _ => Self::TextTooLong,
        }
    }
}

impl From<PipelineError> for MbertStatus {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Tokenizer(error) => error.into(),
            PipelineError::Forward(error) => error.into(),
            PipelineError::NoMask => Self::NoMask,
            PipelineError::TooManyMasks { .. } => Self::TooManyMasks,
            _ => Self::UnsupportedSequence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number_and_a_message_of_its_own() {
        for (code, status) in MbertStatus::ALL.into_iter().enumerate() {
            assert_eq!(MbertStatus::of(code as i32), Some(status));
            let same = MbertStatus::ALL.into_iter().filter(|other| other.message() == status.message());
            assert_eq!(same.count(), 1);
        }
        assert_eq!(MbertStatus::of(-1), None);
        assert_eq!(MbertStatus::of(MbertStatus::ALL.len() as i32), None);
    }
}
