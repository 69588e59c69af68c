//! All scratch memory of a forward pass, in one slice that the caller owns.
//!
//! The residual stream, `2 · N · H` bytes, and the largest magnitude of each of its rows, 2 N, stay; the rest is divided anew by each
//! stage. With R rows at work and b = min(R, 64):
//!
//! | stage        | bytes beside the residual stream                                                                       |
//! |--------------|--------------------------------------------------------------------------------------------------------|
//! | every one    | `R · (H + 5) + 64 b`: int8 rows of the linear layer at work, their scales, the sums of a tile          |
//! | attention    | R = N, and `N · (2 H + 7 d + 48) + 4 d`, key, value and scores up to a multiple of 16 tokens: context, and one head                                         |
//! | feed-forward | R = T, and `T · (4 ⌈F / 256⌉ + F + 256)`: activations                                                  |
//!
//! H, F, d are hidden size, intermediate size and head dimension, N the tokens, T the tokens that go through the feed-forward block
//! together: all of them in one pass, ⌈N / P⌉ in P passes. Passes trade memory for reading the block's weights P times; the bits are
//! the same. What must stay between two of them is what always stays. Attention takes no part in it: a value's
//! scale is taken over all tokens, so all are needed at once, and what more passes could save there is little.

use core::fmt;

use bytemuck::Pod;

use crate::config::BertConfig;
use crate::error::ForwardError;
use crate::format::layout::TILE_CHANNELS;
use crate::model::GROUP_SIZE;
use crate::ops::linear::{BLOCK_ROWS, QuantizedRows, normalize_scales, part_mut};

/// Query rows whose scores are computed together.
pub const QUERY_ROWS: usize = 8;
/// Every region begins on a multiple of it.
const ALIGNMENT: usize = 8;

/// Scratch memory for one sequence.
pub struct Workspace<'w> {
    pub(crate) residual: &'w mut [i16],
    /// The largest magnitude of each row that a layer norm has left there.
    pub(crate) largest: &'w mut [u16],
    /// What each stage divides for itself.
    pub(crate) arena: &'w mut [u8],
    /// Tokens: of a share of a sequence, those of the share.
    pub(crate) seq_len: usize,
    pub(crate) passes: usize,
}

impl fmt::Debug for Workspace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The memory itself would fill pages.
        f.debug_struct("Workspace")
            .field("seq_len", &self.seq_len)
            .field("passes", &self.passes)
            .finish_non_exhaustive()
    }
}

impl<'w> Workspace<'w> {
    /// Bytes that a sequence of `seq_len` tokens needs in one pass, whatever the alignment of the slice.
    pub const fn bytes(config: &BertConfig, seq_len: usize) -> usize {
        Self::bytes_in_passes(config, seq_len, 1)
    }

    /// Bytes that a sequence needs in `passes` passes over the weights of the feed-forward blocks; 0 is taken as 1.
    pub const fn bytes_in_passes(config: &BertConfig, seq_len: usize, passes: usize) -> usize {
        round_up(2 * seq_len * config.hidden_size as usize)
            + round_up(2 * seq_len)
            + arena_bytes(config, seq_len, passes)
            + ALIGNMENT
    }

    /// The fewest passes for which `bytes` are enough; `None` if they never are.
    pub const fn passes(config: &BertConfig, seq_len: usize, bytes: usize) -> Option<usize> {
        let mut passes = 1;
        while passes <= seq_len {
            if Self::bytes_in_passes(config, seq_len, passes) <= bytes {
                return Some(passes);
            }
            passes += 1;
        }
        None
    }

    /// Divides `memory`, for the fewest passes that it allows.
    ///
    /// # Errors
    ///
    /// If it is too small for any number of passes.
    pub fn new(memory: &'w mut [u8], config: &BertConfig, seq_len: usize) -> Result<Self, ForwardError> {
        if seq_len == 0 {
            return Err(ForwardError::EmptySequence);
        }
        let given_bytes = memory.len();
        let needed_bytes = Self::bytes_in_passes(config, seq_len, seq_len);
        let too_small = ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes };
        let passes = Self::passes(config, seq_len, given_bytes).ok_or(too_small)?;
        let skip = memory.as_ptr().align_offset(ALIGNMENT);
        let mut rest = memory.get_mut(skip..).unwrap_or_default();
        let residual = take(&mut rest, seq_len * usize::from(config.hidden_size));
        let largest = take(&mut rest, seq_len);
        Ok(Self { residual, largest, arena: take(&mut rest, arena_bytes(config, seq_len, passes)), seq_len, passes })
    }

    /// The residual stream, `[seq_len, hidden_size]`.
    pub fn residual(&self) -> &[i16] {
        self.residual
    }

    /// Passes over the weights of the feed-forward blocks.
    pub fn pass_count(&self) -> usize {
        self.passes
    }

    /// Tokens of a pass, but for the last.
    pub(crate) fn pass_tokens(&self) -> usize {
        self.seq_len.div_ceil(self.passes.max(1))
    }
}

/// The rows of the linear layer at work, and room for the sums of a tile.
#[derive(Debug)]
pub(crate) struct Rows<'w> {
    /// int8 `[rows, width]`.
    pub input: &'w mut [i8],
    pub scales: &'w mut [i32],
    pub shifts: &'w mut [u8],
    /// `[min(rows, BLOCK_ROWS), 16]`.
    pub acc: &'w mut [i32],
    width: usize,
}

impl<'w> Rows<'w> {
    pub fn take(rest: &mut &'w mut [u8], rows: usize, width: usize) -> Self {
        Self {
            input: take(rest, rows * width),
            scales: take(rest, rows),
            shifts: take(rest, rows),
            acc: take(rest, block_rows(rows) * TILE_CHANNELS),
            width,
        }
    }

    /// Some of the rows.
    pub fn part(self, first: usize, rows: usize) -> Self {
        let Self { input, scales, shifts, acc, width } = self;
        Self {
            input: part_mut(input, first * width, rows * width),
            scales: part_mut(scales, first, rows),
            shifts: part_mut(shifts, first, rows),
            acc,
            width,
        }
    }

    /// `rows` rows, and the context `[N, H]`, which lies behind the rows of all N tokens.
    pub fn before_context(arena: &'w mut [u8], n: usize, rows: usize, h: usize) -> (Self, &'w mut [i16]) {
        let (mut front, mut behind) = arena.split_at_mut_checked(Self::bytes(n, h)).unwrap_or_default();
        (Self::take(&mut front, rows, h), take(&mut behind, n * h))
    }

    const fn bytes(rows: usize, width: usize) -> usize {
        round_up(rows * width) + round_up(4 * rows) + round_up(rows) + round_up(4 * block_rows(rows) * TILE_CHANNELS)
    }

    /// Quantises every row: `quantize` is given its number and its int8, and returns its scale.
    pub fn quantize(&mut self, mut quantize: impl FnMut(usize, &mut [i8]) -> i32) {
        let rows = self.input.chunks_exact_mut(self.width.max(1)).zip(self.scales.iter_mut());
        for (index, (row, scale)) in rows.enumerate() {
            *scale = quantize(index, row);
        }
        normalize_scales(self.scales, self.shifts);
    }

    /// As the input of a linear layer, and the memory for its sums.
    pub fn split(&mut self) -> (QuantizedRows<'_>, &mut [i32]) {
        let rows =
            QuantizedRows { values: self.input, scales: self.scales, shifts: self.shifts, group_size: self.width };
        (rows, self.acc)
    }
}

const fn block_rows(rows: usize) -> usize {
    if rows < BLOCK_ROWS { rows } else { BLOCK_ROWS }
}

/// The next `count` elements of an 8-byte aligned region, which is left 8-byte aligned; none where it is too small, which would be a
/// mistake in the formulas above.
pub(crate) fn take<'w, T: Pod>(rest: &mut &'w mut [u8], count: usize) -> &'w mut [T] {
    let bytes = count * size_of::<T>();
    let region = core::mem::take(rest);
    debug_assert!(round_up(bytes) <= region.len(), "{bytes} bytes of {}", region.len());
    let Some((taken, after)) = region.split_at_mut_checked(round_up(bytes)) else { return &mut [] };
    *rest = after;
    bytemuck::try_cast_slice_mut(taken.get_mut(..bytes).unwrap_or_default()).unwrap_or_default()
}

const fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Tokens up to a whole tile, as kernels that pack keys and values want them; the same for all, so that a size is one number.
pub(crate) const fn padded(n: usize) -> usize {
    n.next_multiple_of(TILE_CHANNELS)
}

/// Scales of one token at the input of `output.dense`.
pub(crate) const fn groups(config: &BertConfig) -> usize {
    (config.intermediate_size as usize).div_ceil(GROUP_SIZE)
}

pub(crate) const fn arena_bytes(config: &BertConfig, n: usize, passes: usize) -> usize {
    let (h, d) = (config.hidden_size as usize, config.head_dim());
    let attention = Rows::bytes(n, h)
        + round_up(2 * n * h) // context
        + round_up(4 * max(n, QUERY_ROWS) * d) // one head before it is quantised
        + round_up(n * d) // query
        + 2 * round_up(padded(n) * d) // key, value
        + 2 * round_up(4 * n) // scales
        + round_up(4 * d)
        + round_up(4 * QUERY_ROWS * padded(n)) // scores
        + round_up(QUERY_ROWS * padded(n)); // probabilities
    // A group is int16 before it is narrowed in place, so the last one needs room for its double width; later the sums of all
    // groups lie there.
    let tokens = n.div_ceil(max(passes, 1));
    let feed_forward = Rows::bytes(tokens, h)
        + round_up(4 * tokens * groups(config))
        + round_up(tokens * groups(config) * GROUP_SIZE + tokens * GROUP_SIZE);
    // Masked LM for every token: int16 rows, the logits of a tile, and what layer norms keep. The pooler needs less.
    let heads =
        Rows::bytes(n, h) + round_up(2 * n * h) + round_up(4 * n * TILE_CHANNELS) + round_up(8 * n) + round_up(2 * n);
    // A layer norm keeps two numbers of each row.
    let norm = round_up(8 * n);
    max(max(attention, feed_forward), max(heads, norm))
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
        for tokens in 1..=512 {
            // A second pass is needed from 149 tokens on.
            let passes = Workspace::passes(&MBERT, tokens, 5632 * tokens + 12 * 1024).unwrap();
            assert_eq!(passes, if tokens < 149 { 1 } else { 2 }, "{tokens}");
        }
    }

    #[test]
    fn two_passes_need_three_quarters_of_the_memory() {
        assert!(Workspace::bytes_in_passes(&MBERT, 128, 2) * 100 <= Workspace::bytes(&MBERT, 128) * 77);
    }

    #[test]
    fn the_stated_size_is_enough_at_any_alignment_and_one_byte_less_is_another_pass() {
        for seq_len in [1, 2, 7, 128] {
            for passes in [1, 2, seq_len] {
                let bytes = Workspace::bytes_in_passes(&MBERT, seq_len, passes);
                let fewest = Workspace::passes(&MBERT, seq_len, bytes).unwrap();
                assert!(fewest <= passes && Workspace::bytes_in_passes(&MBERT, seq_len, fewest) <= bytes);
                let mut memory = std::vec![0; bytes + ALIGNMENT];
                for skip in 0..ALIGNMENT {
                    let workspace = Workspace::new(&mut memory[skip..skip + bytes], &MBERT, seq_len).unwrap();
                    assert_eq!(workspace.pass_count(), fewest);
                    assert_eq!(workspace.arena.len(), arena_bytes(&MBERT, seq_len, fewest));
                }
            }
            let needed_bytes = Workspace::bytes_in_passes(&MBERT, seq_len, seq_len);
            let error = Workspace::new(&mut std::vec![0; needed_bytes - 1], &MBERT, seq_len).unwrap_err();
            assert_eq!(error, ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes: needed_bytes - 1 });
        }
    }
}
