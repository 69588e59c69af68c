//! The pooler: the first token through a linear layer and tanh. Source: `BertPooler`.

use crate::encoder::layer::quantize_residual;
use crate::encoder::workspace::{Workspace, take};
use crate::error::{ForwardError, Head};
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::activation::tanh;
use crate::ops::linear::QuantizedRows;

/// Fraction bits of the pooled output.
pub const POOLED_FRACTION_BITS: i32 = 15;

/// Pools the sequence whose last hidden states lie in the workspace: `[H]`, int16, 15 fraction bits.
///
/// # Errors
///
/// If the model has no pooler.
pub fn pool<'w>(
    model: &Model<'_>,
    kernels: &Kernels,
    workspace: &'w mut Workspace<'_>,
) -> Result<&'w [i16], ForwardError> {
    Ok(pool_and_spare_row(model, kernels, workspace)?.0)
}

/// The pooled output, and an int8 row of the same length for the layer that reads it.
pub(super) fn pool_and_spare_row<'w>(
    model: &Model<'_>,
    kernels: &Kernels,
    workspace: &'w mut Workspace<'_>,
) -> Result<(&'w [i16], &'w mut [i8]), ForwardError> {
    use SectionKind::{PoolerInput, PoolerParameters, PoolerWeight};
    let manifest = model.manifest();
    if !manifest.heads.pooler {
        return Err(ForwardError::MissingHead(Head::Pooler));
    }
    let h = usize::from(manifest.config.hidden_size);
    let Workspace { residual, input, input_scales, shifts, scratch, .. } = workspace;
    let mut rest = &mut **scratch;
    let pooled: &mut [i16] = take(&mut rest, h);
    let (input, scales, shifts) = (&mut input[..h], &mut input_scales[..1], &mut shifts[..1]);
    quantize_residual(&model.i16s(PoolerInput, 0), &residual[..h], input, scales, shifts, h);
    let rows = QuantizedRows { values: input, scales, shifts, group_size: h };
    let linear = model.linear(PoolerParameters, PoolerWeight, 0, 2, model.constants().pooler);
    linear.forward(kernels, &rows, 0..h, |_, channel, out| {
        for (pooled, &out) in pooled[channel..].iter_mut().zip(out) {
            *pooled = tanh(out);
        }
    });
    Ok((pooled, input))
}
