//! Next sentence: the pooled output through a linear layer of two. Source: `BertOnlyNSPHead`.

use super::pooler::pool_and_spare_row;
use crate::encoder::workspace::Workspace;
use crate::error::{ForwardError, Head};
use crate::format::section::SectionKind;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::linear::{QuantizedRows, normalize_scales};
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
    let (mut scales, mut shifts) = ([quantize_row(input, |c| i32::from(pooled[c]) << ROW_SHIFT)], [0]);
    normalize_scales(&mut scales, &mut shifts);
    let rows = QuantizedRows { values: input, scales: &scales, shifts: &shifts, group_size: input.len() };
    let of_head = model.constants().seq_relationship;
    let linear =
        model.linear(SectionKind::SeqRelationshipParameters, SectionKind::SeqRelationshipWeight, 0, 2, of_head);
    let mut logits = [0; 2];
    linear.forward(kernels, &rows, 0..2, |_, channel, out| logits[channel..][..out.len()].copy_from_slice(out));
    for logit in logits {
        observer.seq_relationship_logit(logit);
    }
    Ok(logits)
}
