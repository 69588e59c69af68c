//! The encoder: token ids to hidden states.

use crate::error::ForwardError;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::trace::Observer;
use workspace::Workspace;

pub(crate) mod attention;
pub mod embeddings;
pub(crate) mod feed_forward;
pub(crate) mod layer;
pub mod workspace;

/// Runs one sequence through the embeddings and every layer; the residual stream of the last layer stays in the workspace.
///
/// `input_ids` and `token_type_ids` are the sequence without padding.
///
/// # Errors
///
/// An empty or too long sequence, an id out of range, lengths that differ, or a workspace of another length.
///
/// # Panics
///
/// If the weights are packed for other kernels: see [`Model::check_layout`].
pub fn forward(
    model: &Model<'_>,
    kernels: &Kernels,
    input_ids: &[u32],
    token_type_ids: &[u8],
    workspace: &mut Workspace<'_>,
    observer: &mut impl Observer,
) -> Result<(), ForwardError> {
    check(model, input_ids, token_type_ids)?;
    let config = &model.manifest().config;
    if workspace.seq_len != input_ids.len() {
        return Err(ForwardError::WorkspaceTooSmall {
            needed_bytes: Workspace::bytes(config, input_ids.len()),
            given_bytes: Workspace::bytes(config, workspace.seq_len),
        });
    }
    embeddings::embeddings(model, input_ids, token_type_ids, workspace.residual, observer);
    for index in 0..usize::from(config.num_hidden_layers) {
        layer::layer(model, kernels, index, workspace, observer);
    }
    Ok(())
}

/// Checks a sequence against the model.
fn check(model: &Model<'_>, input_ids: &[u32], token_type_ids: &[u8]) -> Result<(), ForwardError> {
    let config = &model.manifest().config;
    let (tokens, max) = (input_ids.len(), usize::from(config.max_position_embeddings));
    if tokens == 0 {
        return Err(ForwardError::EmptySequence);
    }
    if tokens > max {
        return Err(ForwardError::SequenceTooLong { tokens, max });
    }
    if token_type_ids.len() != tokens {
        return Err(ForwardError::LengthMismatch { input_ids: tokens, token_type_ids: token_type_ids.len() });
    }
    let vocab_size = config.vocab_size;
    if let Some(position) = input_ids.iter().position(|&id| id >= vocab_size) {
        return Err(ForwardError::TokenOutOfRange { position, id: input_ids[position], vocab_size });
    }
    let type_vocab_size = config.type_vocab_size;
    if let Some(position) = token_type_ids.iter().position(|&id| id >= type_vocab_size) {
        return Err(ForwardError::TokenTypeOutOfRange { position, id: token_type_ids[position], type_vocab_size });
    }
    Ok(())
}
