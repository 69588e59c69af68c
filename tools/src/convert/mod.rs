//! From a checkpoint to a blob, one file a step: checkpoint → vocab → units → calibrate → smooth → residual → quantize → assemble → blob.

use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::manifest::{Manifest, Provenance, Quantization};
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::{GROUP_SIZE, Model};
use sha2::{Digest, Sha256};

pub mod checkpoint;
pub mod vocab;
pub mod units;
pub mod calibrate;
pub mod smooth;
pub mod residual;
pub mod quantize;
pub mod assemble;
pub mod blob;
pub mod report;
mod self_test;
mod sequences;

use assemble::{Assembled, Assembly, TensorNoise, wide_units};
use blob::ALIGNMENT_BYTES;
use calibrate::{Statistics, calibrate};
use checkpoint::Checkpoint;
use sequences::Sequences;

/// What the smoothing factors are computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Calibration {
    /// Fifty sentences in some forty languages that the program carries.
    #[default]
    BuiltIn,
    /// Lines of a UTF-8 text file.
    Text(PathBuf),
    /// Token ids in a safetensors file, `N.input_ids` and `N.token_type_ids`.
    Ids(PathBuf),
}

/// How a checkpoint is converted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Calibration.
    pub calibration: Calibration,
    /// Order of the weights.
    pub layout: WeightLayout,
    /// Every section begins on a multiple of it: a power of two of at least 64, which is the default.
    pub alignment_bytes: Option<usize>,
    /// Counter against roll-back.
    pub rollback_counter: u32,
}

/// A converted model.
pub struct Converted {
    /// The blob.
    pub blob: Vec<u8>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Quantisation error of every tensor.
    pub noise: Vec<TensorNoise>,
}

/// Converts a checkpoint.
///
/// The blob depends on the checkpoint, the calibration and the options alone: it is the same on every machine.
///
/// # Errors
///
/// Anything wrong with the calibration file, or weights that do not fit the fixed-point form.
pub fn convert(checkpoint: &Checkpoint, options: &Options, progress: &ProgressBar) -> Result<Converted> {
    let mut notes = checkpoint.notes.clone();
    let vocabulary =
        vocab::build_vocabulary(&checkpoint.vocabulary).context("the vocabulary cannot be made searchable")?;
    let checkpoint_sha256 = checkpoint.sha256()?;
    let converter_version = env!("CARGO_PKG_VERSION");
    let mut manifest = Manifest {
        config: checkpoint.config,
        tokenizer: checkpoint.tokenizer,
        quantization: Quantization { smoothed: false, calibration_tokens: 0, group_size: GROUP_SIZE as u16 },
        heads: checkpoint.heads,
    };
    let mut provenance = Provenance {
        model_name: &checkpoint.model_name,
        licence: &checkpoint.licence,
        architecture: &checkpoint.architecture,
        converter_version,
        checkpoint_sha256,
        calibration_sha256: [0; 32],
        rollback_counter: options.rollback_counter,
    };
    let alignment_bytes = options.alignment_bytes.unwrap_or(ALIGNMENT_BYTES);
    let wide = wide_units(checkpoint)?;
    let sequences = Sequences::read(&options.calibration, checkpoint, &vocabulary, &mut notes)?;

    let weights = assemble::weights(checkpoint);
    let builds = if sequences.is_some() { 2 } else { 1 };
    progress.set_length(builds * weights);
    let build = |manifest: &Manifest, provenance: &Provenance<'_>, statistics: Option<&Statistics>, layout| {
        let (wide_units, vocabulary) = (&wide, &vocabulary[..]);
        Assembly { checkpoint, statistics, wide_units, vocabulary, manifest, provenance, layout, alignment_bytes }
            .build(|weights| progress.inc(weights))
    };
    let statistics = match &sequences {
        None => None,
        Some(sequences) => {
            progress.set_message("quantising for calibration");
            let Assembled { blob, residual, .. } =
                build(&manifest, &provenance, None, Kernels::native().weight_layout)?;
            let blob = blob.finish();
            let model = Model::open(&blob[..]).context("the converter wrote a blob that cannot be opened: a bug")?;
            progress.set_message(format!("calibrating on {} sequences", sequences.sequences.len()));
            let statistics = calibrate(&model, (&wide, &residual), &sequences.sequences, || progress.tick())
                .context("calibration")?;
            manifest.quantization.smoothed = true;
            manifest.quantization.calibration_tokens = statistics.tokens as u32;
            provenance.calibration_sha256 = sequences.sha256;
            Some(statistics)
        }
    };
    progress.set_message("quantising");
    let Assembled { blob: mut builder, noise, .. } =
        build(&manifest, &provenance, statistics.as_ref(), options.layout)?;
    progress.set_message("answering the self-test");
    let self_test = self_test::section(&builder.finish())?;
    builder.replace(SectionKind::SelfTest, self_test);
    let blob = builder.finish();
    Model::open(&blob[..]).context("the converter wrote a blob that cannot be opened: a bug")?;
    progress.finish_and_clear();
    Ok(Converted { blob, notes, noise })
}

/// The progress bar of a conversion, on stderr where that is a terminal.
pub fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg}").expect("the template is well formed");
    ProgressBar::new(1).with_style(style)
}

/// SHA-256 of some bytes.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
