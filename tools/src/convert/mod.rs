//! From a checkpoint to a blob, one file a step: checkpoint → calibrate → smooth → quantize → assemble → blob.

pub mod vocab;
