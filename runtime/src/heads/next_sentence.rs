//! Next sentence: the pooled output through a linear layer of two. Source: `BertOnlyNSPHead`.

use super::pooler::pool_and_spare_row;
use crate::encoder::workspace::Workspace;
use crate::error::{ForwardError, Head};
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::fixed_point::rounding_multiply_high;
use crate::ops::linear::QuantizedRows;
use crate::ops::quantize::{ROW_SHIFT, quantize_row};
use crate::trace::Observer;

/// The logits "sentence B follows A" and "it does not", 16 fraction bits, of the sequence in the workspace.
///
/// # Errors
///
/// If the model has no such head.
pub fn next_sentence(
    model: &Model<'_>,
    kernels: &Kernels,
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) -> Result<[i32; 2], ForwardError> {
    if !model.manifest().heads.next_sentence {
        return Err(ForwardError::MissingHead(Head::NextSentence));
    }
    let (pooled, input) = pool_and_spare_row(model, kernels, workspace)?;
    let scale = [quantize_row(input, |c| i32::from(pooled[c]) << ROW_SHIFT)];
    let rows = QuantizedRows { values: input, scales: &scale, rows: 1, group_size: input.len() };
    let linear = model.linear(SectionKind::SeqRelationshipParameters, SectionKind::SeqRelationshipWeight, 0, 2);
    let mut logits = [0; 2];
    linear.forward(kernels, &rows, 0..2, |_, channel, t| {
        for (i, &t) in t.iter().enumerate() {
            logits[channel + i] = rounding_multiply_high(t, linear.multiplier(channel + i));
        }
    });
    for logit in logits {
        observer.seq_relationship_logit(logit);
    }
    Ok(logits)
}
