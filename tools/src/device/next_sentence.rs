//! `mbert device next-sentence`: whether the second text follows the first, from the board.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_device::protocol::messages::{Answer, Request};

use super::client::Client;
use crate::cli::questions::PairArgs;
use crate::inspect::hex;
use crate::next_sentence::print;

/// Runs the command.
///
/// # Errors
///
/// What the board says.
pub fn run(client: &mut Client, args: &PairArgs, out: &mut impl Write) -> Result<ExitCode> {
    let request = Request::NextSentence { text: &args.text, pair: &args.pair, trace: args.trace_hash };
    let (logits, trace) = client.ask_for(&request, |answer| match *answer {
        Answer::NextSentence { logits, trace_sha256 } => Some((logits, trace_sha256)),
        _ => None,
    })?;
    print(logits, trace.map(|trace| hex(&trace)), args.json, out)?;
    Ok(ExitCode::SUCCESS)
}
