//! `mbert device tokenize`: lines from standard input to ids, tokens and byte offsets, on the board.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use mbert_device::protocol::messages::{Answer, Request, TokenItem, items};

use super::client::Client;
use super::features;
use crate::cli::questions::LineArgs;
use crate::tokenize::{Line, each_line};

/// Runs the command.
///
/// # Errors
///
/// A line that is not UTF-8 or too long, or what the board says.
pub fn run(client: &mut Client, args: &LineArgs, out: &mut impl Write) -> Result<ExitCode> {
    each_line(|number, text| {
        let line = tokenize(client, text).with_context(|| format!("line {number}"))?;
        let trace = if args.trace_hash {
            let features = features::ask(client, text, false, true).with_context(|| format!("line {number}"))?;
            features.trace
        } else {
            None
        };
        line.print(trace, args.json, out)
    })
}

/// The tokens of a text.
///
/// # Errors
///
/// What the board says.
pub fn tokenize(client: &mut Client, text: &str) -> Result<Line> {
    let mut line = Line::default();
    let mut first = 0;
    loop {
        let (answer, bytes) = client.ask(&Request::Tokenize { text, first })?;
        let Answer::Tokens { total } = answer else { return Err(super::client::unexpected(&answer)) };
        let before = first;
        for item in items(bytes) {
            let TokenItem { id, start, end, token } = item?;
            line.push(id, [start, end], token);
            first += 1;
        }
        if first == total {
            return Ok(line);
        }
        ensure!(first > before && first < total, "the board has told {first} of {total} tokens");
    }
}
