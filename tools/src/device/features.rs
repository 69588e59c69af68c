//! `mbert device features`: hidden states of the last layer to a safetensors file, from the board.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use mbert_device::protocol::messages::{Answer, Request};

use super::client::Client;
use crate::cli::device::DeviceFeaturesArgs;
use crate::cli::questions::Pool;
use crate::features::mean;
use crate::golden::OutputFile;
use crate::inspect::hex;

/// What the board has told of a text.
pub struct Features {
    /// Tokens of the sequence.
    pub tokens: usize,
    /// Values of a row.
    pub columns: usize,
    /// Row after row: of each token, or one.
    pub values: Vec<f32>,
    /// The hash over hidden states.
    pub trace: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// What the board says, or a file that cannot be written.
pub fn run(client: &mut Client, args: &DeviceFeaturesArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut output = OutputFile::new();
    let layer = client.hello()?.model.map_or(0, |model| model.config.num_hidden_layers);
    for (number, text) in args.text.iter().enumerate() {
        let is_pooled = args.pool == Pool::Pooler;
        let features = ask(client, text, is_pooled, args.trace_hash).with_context(|| format!("text {number}"))?;
        let Features { tokens, columns, values, trace } = features;
        let hidden = format!("{number}.hidden.{layer}");
        match args.pool {
            Pool::None => output.insert_f32(hidden, &[tokens, columns], &values),
            Pool::Cls => output.insert_f32(hidden, &[columns], &values[..columns]),
            Pool::Mean => output.insert_f32(hidden, &[columns], &mean(&values, columns)),
            Pool::Pooler => output.insert_f32(format!("{number}.pooler_output"), &[columns], &values),
        }
        let ids = super::tokenize::tokenize(client, text)?.into_ids();
        ensure!(ids.len() == tokens, "the board has told {tokens} hidden states, but {} tokens", ids.len());
        output.insert_i32(format!("{number}.input_ids"), &[tokens], &ids);
        output.insert_i32(format!("{number}.token_type_ids"), &[tokens], &vec![0; tokens]);
        if let Some(trace) = trace {
            writeln!(out, "trace {number} {trace}")?;
        }
    }
    output.write(&args.output)?;
    Ok(ExitCode::SUCCESS)
}

/// The last hidden states of a text, or its pooled output.
///
/// # Errors
///
/// What the board says.
pub fn ask(client: &mut Client, text: &str, pooled: bool, trace: bool) -> Result<Features> {
    let head = |answer: &Answer<'_>| match *answer {
        Answer::Features { tokens, columns, total, fraction_bits, trace_sha256 } => {
            Some((total as usize, (tokens, columns, fraction_bits, trace_sha256)))
        }
        _ => None,
    };
    let read = |bytes: &[u8], list: &mut Vec<i16>| {
        list.extend(bytes.as_chunks().0.iter().map(|&two| i16::from_le_bytes(two)));
        Ok(())
    };
    let request = Request::Features { text, pooled, trace };
    let ((tokens, columns, fraction_bits, trace), values) = client.ask_for_all(&request, head, read)?;
    let rows = if pooled { 1 } else { usize::from(tokens) };
    ensure!(
        rows > 0 && columns > 0 && values.len() == rows * usize::from(columns),
        "the board has told {} values, not {rows} rows of {columns}",
        values.len()
    );
    // A power of two times int16: exact.
    let step = libm::ldexp(1.0, -i32::from(fraction_bits)) as f32;
    let values = values.into_iter().map(|value| f32::from(value) * step).collect();
    Ok(Features { tokens: tokens.into(), columns: columns.into(), values, trace: trace.map(|trace| hex(&trace)) })
}
