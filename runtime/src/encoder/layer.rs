//! What both blocks of an encoder layer do: quantise the residual stream, and project, add and normalise.

use super::attention::attention;
use super::feed_forward::feed_forward;
use super::workspace::Workspace;
use crate::format::tensor::I16s;
use crate::kernels::Kernels;
use crate::model::{LayerNorm, Model};
use crate::ops::fixed_point::{rounding_shift_right, saturate_i16};
use crate::ops::layer_norm::layer_norm_i16;
use crate::ops::linear::{Linear, QuantizedRows, normalize_scales};
use crate::ops::quantize::quantize_row;
use crate::trace::{Observer, Site};

/// One encoder layer, on the residual stream in place.
pub(super) fn layer(
    model: &Model<'_>,
    kernels: &Kernels,
    layer: usize,
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) {
    attention(model, kernels, layer, workspace, observer);
    feed_forward(model, kernels, layer, workspace, observer);
}

/// Quantises rows of the residual stream for a linear layer, through that layer's smoothing multipliers.
pub(crate) fn quantize_residual(
    smoothing: &I16s<'_>,
    residual: &[i16],
    out: &mut [i8],
    scales: &mut [i32],
    shifts: &mut [u8],
    h: usize,
) {
    for ((row, out), scale) in residual.chunks_exact(h).zip(out.chunks_exact_mut(h)).zip(&mut *scales) {
        *scale = quantize_row(out, |c| i32::from(row[c]) * i32::from(smoothing.get(c)));
    }
    normalize_scales(scales, shifts);
}

/// `residual ← layer_norm((residual + linear(rows)) · 2^−sum_shift)`.
#[allow(clippy::too_many_arguments)] // The borrowed parts of one block.
pub(super) fn add_and_norm(
    kernels: &Kernels,
    rows: &QuantizedRows<'_>,
    linear: &Linear<'_>,
    residual: &mut [i16],
    sum_shift: u32,
    norm: &LayerNorm<'_>,
    (sum_site, norm_site): (Site, Site),
    observer: &mut impl Observer,
) {
    let h = residual.len() / rows.shifts.len();
    linear.forward(kernels, rows, 0..h, |row, channel, out| {
        for (residual, &out) in residual[row * h + channel..].iter_mut().zip(out) {
            let sum = out.saturating_add(i32::from(*residual));
            *residual = saturate_i16(rounding_shift_right(sum, sum_shift));
        }
    });
    for row in residual.chunks_exact_mut(h) {
        observer.row(sum_site, row);
        layer_norm_i16(row, norm.parameters(), norm.scale);
        observer.row(norm_site, row);
    }
}
