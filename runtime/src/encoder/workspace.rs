//! All scratch memory of a forward pass, in one slice that the caller owns.
//!
//! | region     | bytes                                                                                         |
//! |------------|-----------------------------------------------------------------------------------------------|
//! | `residual` | `2 · N · H`                                                                                   |
//! | `input`    | `N · H`: int8 rows of the linear layer at work                                                |
//! | `scales`   | `N · (5 + 4 · ⌈F / 256⌉)`                                                                     |
//! | `scratch`  | the larger of attention, `N · (2 H + 7 d + 48) + 4 d`, and feed-forward, `N · (F + 256)` (H, F, d: hidden and intermediate size, head dimension) |

use bytemuck::Pod;

use crate::config::BertConfig;
use crate::error::ForwardError;
use crate::model::GROUP_SIZE;

/// Query rows whose scores are computed together.
pub(crate) const QUERY_ROWS: usize = 8;
/// Every region begins on a multiple of it.
const ALIGNMENT: usize = 8;

/// Scratch memory for one sequence length.
#[derive(Debug)]
pub struct Workspace<'w> {
    pub(crate) residual: &'w mut [i16],
    pub(crate) input: &'w mut [i8],
    pub(crate) input_scales: &'w mut [i32],
    pub(crate) shifts: &'w mut [u8],
    pub(crate) group_scales: &'w mut [i32],
    pub(crate) scratch: &'w mut [u8],
    pub(crate) seq_len: usize,
}

impl<'w> Workspace<'w> {
    /// Bytes that a sequence of `seq_len` tokens needs, whatever the alignment of the slice.
    pub const fn bytes(config: &BertConfig, seq_len: usize) -> usize {
        let h = config.hidden_size as usize;
        round_up(2 * seq_len * h)
            + round_up(seq_len * h)
            + round_up(4 * seq_len)
            + round_up(seq_len)
            + round_up(4 * seq_len * groups(config))
            + round_up(scratch_bytes(config, seq_len))
            + ALIGNMENT
    }

    /// Divides `memory` into the regions.
    ///
    /// # Errors
    ///
    /// If it is smaller than [`bytes`](Self::bytes).
    pub fn new(memory: &'w mut [u8], config: &BertConfig, seq_len: usize) -> Result<Self, ForwardError> {
        let needed_bytes = Self::bytes(config, seq_len);
        let given_bytes = memory.len();
        if given_bytes < needed_bytes {
            return Err(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes });
        }
        let skip = memory.as_ptr().align_offset(ALIGNMENT);
        let mut rest = &mut memory[skip..];
        let h = usize::from(config.hidden_size);
        Ok(Self {
            residual: take(&mut rest, seq_len * h),
            input: take(&mut rest, seq_len * h),
            input_scales: take(&mut rest, seq_len),
            shifts: take(&mut rest, seq_len),
            group_scales: take(&mut rest, seq_len * groups(config)),
            scratch: take(&mut rest, scratch_bytes(config, seq_len)),
            seq_len,
        })
    }
}

impl Workspace<'_> {
    /// The residual stream, `[seq_len, hidden_size]`.
    pub fn residual(&self) -> &[i16] {
        self.residual
    }
}

/// The next `count` elements of an 8-byte aligned region, which is left 8-byte aligned.
///
/// # Panics
///
/// If the region is too small: a mistake in the formulas above.
pub(crate) fn take<'w, T: Pod>(rest: &mut &'w mut [u8], count: usize) -> &'w mut [T] {
    let bytes = count * size_of::<T>();
    let (taken, after) = core::mem::take(rest).split_at_mut(round_up(bytes));
    *rest = after;
    bytemuck::cast_slice_mut(&mut taken[..bytes])
}

const fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Scales of one token at the input of `output.dense`.
const fn groups(config: &BertConfig) -> usize {
    (config.intermediate_size as usize).div_ceil(GROUP_SIZE)
}

const fn scratch_bytes(config: &BertConfig, n: usize) -> usize {
    let (h, d) = (config.hidden_size as usize, config.head_dim());
    let attention = round_up(2 * n * h) // context
        + round_up(4 * max(n, QUERY_ROWS) * d) // one head before it is quantised
        + 3 * round_up(n * d) // query, key, value
        + 2 * round_up(4 * n) // their scales
        + round_up(4 * d)
        + round_up(4 * QUERY_ROWS * n) // scores
        + round_up(QUERY_ROWS * n); // probabilities
    // A group is int16 before it is narrowed in place, so the last one needs room for its double width.
    let feed_forward = n * groups(config) * GROUP_SIZE + n * GROUP_SIZE;
    // Pooler or masked-LM transform: int16 and int8 rows.
    let heads = round_up(2 * h) + round_up(n * h) + round_up(8 * n) + round_up(2 * h);
    round_up(max(max(attention, feed_forward), heads))
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::config::HiddenAct;

    const MBERT: BertConfig = BertConfig {
        vocab_size: 119_547,
        hidden_size: 768,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        intermediate_size: 3072,
        max_position_embeddings: 512,
        type_vocab_size: 2,
        hidden_act: HiddenAct::Gelu,
    };

    #[test]
    fn whole_mbert_needs_at_most_716_kib_for_128_tokens_and_188_for_32() {
        const { assert!(Workspace::bytes(&MBERT, 128) <= 716 * 1024) };
        const { assert!(Workspace::bytes(&MBERT, 32) <= 188 * 1024) };
    }

    #[test]
    fn the_stated_size_is_enough_at_any_alignment_and_one_byte_less_is_refused() {
        for seq_len in [1, 2, 7, 128] {
            let bytes = Workspace::bytes(&MBERT, seq_len);
            let mut memory = std::vec![0; bytes + ALIGNMENT];
            for skip in 0..ALIGNMENT {
                let workspace = Workspace::new(&mut memory[skip..skip + bytes], &MBERT, seq_len).unwrap();
                assert_eq!(workspace.scratch.len(), scratch_bytes(&MBERT, seq_len));
            }
            let error = Workspace::new(&mut memory[..bytes - 1], &MBERT, seq_len).unwrap_err();
            assert_eq!(error, ForwardError::WorkspaceTooSmall { needed_bytes: bytes, given_bytes: bytes - 1 });
        }
    }
}
