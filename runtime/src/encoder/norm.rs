//! Layer norm of the residual stream, a few channels of every row at a time.

use super::workspace::take;
use crate::format::contents::LAYER_NORM_HEADER_BYTES;
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::layer_norm::Normalizer;
use crate::storage::{Storage, Unreadable};

/// Normalises the channels of one chunk of every row, in place, and writes down the largest magnitude of each row so far; returns whether all
/// channels are done.
///
/// The arena keeps what the first chunk finds out about each row, before it is changed.
#[allow(clippy::too_many_arguments)] // The borrowed parts of one layer norm.
pub(crate) fn norm<S: Storage>(
    model: &Model<S>,
    kernels: &Kernels,
    (kind, layer): (SectionKind, usize),
    chunk: usize,
    chunk_channels: usize,
    rows: &mut [i16],
    largest: &mut [u16],
    arena: &mut [u8],
) -> Result<bool, Unreadable> {
    let h = usize::from(model.config().hidden_size).max(1);
    let mut arena = arena;
    let kept: &mut [[i32; 2]] = take(&mut arena, rows.len() / h);
    if chunk == 0 {
        let epsilon = model.layer_norm(kind, layer)?.epsilon;
        for ((row, kept), largest) in rows.chunks_exact(h).zip(&mut *kept).zip(&mut *largest) {
            let Normalizer { inverse, offset } = Normalizer::new(h, (kernels.layer_norm_sums)(row), epsilon);
            *kept = [inverse, offset];
            *largest = 0;
        }
    }
    let first = chunk * chunk_channels;
    let channels = chunk_channels.min(h.saturating_sub(first));
    let offset = model.offset(kind, layer) + (LAYER_NORM_HEADER_BYTES + 8 * first) as u32;
    model.values(offset, channels, |parameters: &[[i32; 2]]| {
        for ((row, &[inverse, offset]), largest) in rows.chunks_exact_mut(h).zip(&*kept).zip(largest) {
            let row = row.get_mut(first..).and_then(|row| row.get_mut(..channels)).unwrap_or_default();
            let of_chunk = (kernels.layer_norm)(row, parameters, &Normalizer { inverse, offset });
            // At most 32768.
            *largest = (*largest).max(of_chunk as u16);
        }
    })?;
    Ok(first + channels >= h)
}
