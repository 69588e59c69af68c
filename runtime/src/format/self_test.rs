//! Questions with known answers that every blob carries, so that any machine can check itself, encoded with postcard.
//!
//! The section is a count (varint) and then that many [`SelfTestCase`]s.

use serde::{Deserialize, Serialize};

use crate::error::FormatError;

/// Longest case, in tokens: it must fit into the memory of small boards.
pub const MAX_TOKENS: usize = 24;
/// Best answers kept per case.
pub const TOP_K: usize = 5;

/// One question with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTestCase<'a> {
    /// The text; empty where the case is ids alone.
    pub text: &'a str,
    /// Token ids, u32 little-endian; all token types are 0.
    #[serde(with = "serde_bytes_slice")]
    pub input_ids: &'a [u8],
    /// Position of the mask token whose logits are part of the trace; `None` for none.
    pub mask_position: Option<u16>,
    /// SHA-256 of the trace: see [`TraceHash`](crate::trace::TraceHash).
    pub trace_sha256: [u8; 32],
    /// The best ids at the mask position with their logits (16 fraction bits), best first; zero without one.
    pub top: [(u32, i32); TOP_K],
}

/// Borrowed bytes in postcard's own form.
mod serde_bytes_slice {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

impl SelfTestCase<'_> {
    /// The token ids.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.input_ids.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]))
    }
}

/// The cases of a self-test section, in order.
///
/// # Errors
///
/// If the count cannot be read; each item is an error if that case cannot.
pub fn cases(section: &[u8]) -> Result<impl Iterator<Item = Result<SelfTestCase<'_>, FormatError>>, FormatError> {
    let (count, mut rest) = postcard::take_from_bytes::<u32>(section).map_err(|_| FormatError::BadSelfTest)?;
    let mut failed = false;
    Ok((0..count).map_while(move |_| {
        if failed {
            return None;
        }
        Some(match postcard::take_from_bytes(rest) {
            Ok((case, after)) => {
                rest = after;
                Ok(case)
            }
            Err(_) => {
                failed = true;
                Err(FormatError::BadSelfTest)
            }
        })
    }))
}
