//! `mbert convert`: runs the conversion, writes the file, and tells what quantisation cost.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use mbert_runtime::model::Model;

use super::assemble::TensorNoise;
use super::checkpoint::Checkpoint;
use super::quantize::Noise;
use super::{Calibration, Options, convert, progress_bar};
use crate::atomic_file::write_atomically;
use crate::cli::ConvertArgs;
use crate::inspect::{megabytes, section_groups};

/// Tensors named in the table, worst first.
const WORST_TENSORS: usize = 10;

/// Runs the command.
///
/// # Errors
///
/// Bad input, or a file that cannot be written.
pub fn run(args: &ConvertArgs, out: &mut impl Write) -> Result<ExitCode> {
    let calibration = match (&args.calibrate, &args.calibrate_ids) {
        (Some(path), _) => Calibration::Text(path.clone()),
        (None, Some(path)) => Calibration::Ids(path.clone()),
        (None, None) => Calibration::BuiltIn,
    };
    let options = Options {
        calibration,
        layout: args.target.layout,
        alignment_bytes: Some(args.align),
        rollback_counter: args.rollback_counter,
    };
    let start = Instant::now();
    let progress = progress_bar();
    progress.set_message("reading the checkpoint");
    let checkpoint = Checkpoint::open(args.checkpoint.clone());
    let converted = checkpoint.and_then(|checkpoint| convert(&checkpoint, &options, &progress));
    let converted = converted.inspect_err(|_| progress.finish_and_clear())?;
    write_atomically(&args.output, |file| file.write_all(&converted.blob))?;

    for note in &converted.notes {
        writeln!(out, "note: {note}")?;
    }
    let model = Model::open(&converted.blob[..])?;
    print_noise(&converted.noise, out)?;
    writeln!(out, "\nsize by section")?;
    for (name, bytes) in section_groups(&model) {
        writeln!(out, "  {name:<24} {:>9}", megabytes(bytes))?;
    }
    let quantization = model.manifest().quantization;
    let smoothing = match quantization.smoothed {
        true => format!("smoothed on {} tokens", quantization.calibration_tokens),
        false => "not smoothed".to_owned(),
    };
    writeln!(
        out,
        "\nwrote {}: {}, {smoothing}, in {:.1} s",
        args.output.display(),
        megabytes(converted.blob.len() as u64),
        start.elapsed().as_secs_f64()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// SNR per tensor and per layer, worst first.
fn print_noise(noise: &[TensorNoise], out: &mut impl Write) -> Result<()> {
    let mut tensors: Vec<(&str, f64)> = noise.iter().map(|t| (t.name.as_str(), t.noise.decibels())).collect();
    tensors.sort_by(|a, b| a.1.total_cmp(&b.1));
    writeln!(out, "quantisation error of the weights, signal to noise in dB, worst first ({} tensors)", tensors.len())?;
    for (name, decibels) in tensors.iter().take(WORST_TENSORS) {
        writeln!(out, "  {name:<48} {decibels:6.1}")?;
    }
    if let (Some(worst), Some(best)) = (tensors.get(WORST_TENSORS), tensors.last()) {
        writeln!(
            out,
            "  {:<48} {:6.1} to {:.1}",
            format!("the other {}", tensors.len() - WORST_TENSORS),
            worst.1,
            best.1
        )?;
    }
    let mut layers: Vec<(String, Noise)> = Vec::new();
    for tensor in noise {
        let name = tensor.layer.map_or("embeddings and heads".to_owned(), |layer| format!("encoder.layer.{layer}"));
        match layers.iter_mut().find(|(found, _)| *found == name) {
            Some((_, sum)) => sum.add(tensor.noise),
            None => layers.push((name, tensor.noise)),
        }
    }
    layers.sort_by(|a, b| a.1.decibels().total_cmp(&b.1.decibels()));
    writeln!(out, "\nper layer")?;
    for (name, noise) in layers {
        writeln!(out, "  {name:<48} {:6.1}", noise.decibels())?;
    }
    Ok(())
}
