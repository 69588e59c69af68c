//! `mbert device bench`: what a sequence takes on the board.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_device::protocol::messages::{Answer, Bench, Request};
use serde_json::json;

use super::client::Client;
use crate::inspect::grouped;

/// Runs the command.
///
/// # Errors
///
/// What the board says.
pub fn run(client: &mut Client, tokens: u16, as_json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let bench = client.ask_for(&Request::Bench { tokens }, |answer| match *answer {
        Answer::Bench(bench) => Some(bench),
        _ => None,
    })?;
    if as_json {
        let object = json!({ "kernels": client.hello()?.kernels, "rows": [bench] });
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Bench { tokens, passes, workspace_bytes, stack_bytes, .. } = bench;
    let passes = if passes == 1 { "one pass".to_owned() } else { format!("{passes} passes") };
    writeln!(out, "{tokens} tokens in {passes}, instructions where the board counts those, else ticks")?;
    let rows = [
        ("encoder", Some(bench.encoder_instructions)),
        ("masked LM, one mask", bench.masked_lm_instructions),
        ("next sentence", bench.next_sentence_instructions),
        ("longest step", Some(bench.longest_step_instructions)),
        ("workspace bytes", Some(workspace_bytes.into())),
        ("deepest stack bytes", Some(stack_bytes.into())),
    ];
    for (name, number) in rows {
        if let Some(number) = number {
            writeln!(out, "  {name:<20} {:>18}", grouped(number))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
