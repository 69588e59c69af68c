//! `mbert device fill-mask`: the answers of `mbert fill-mask`, from the board.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_device::protocol::messages::{Answer as Reply, MaskItem, Request, items};

use super::client::Client;
use crate::cli::device::DeviceFillMaskArgs;
use crate::cli::questions::MaskArgs;
use crate::fill_mask::{Answer, print, probability};
use crate::inspect::hex;

/// Runs the command.
///
/// # Errors
///
/// What the board says.
pub fn run(client: &mut Client, args: &DeviceFillMaskArgs, out: &mut impl Write) -> Result<ExitCode> {
    let MaskArgs { special_tokens, json, trace_hash, ref text } = args.mask;
    let request = Request::FillMask { text, top_k: args.top_k, special_tokens, trace: trace_hash };
    let (answers, trace) = fill_mask(client, &request)?;
    print(&answers, trace.as_deref(), json, out)?;
    Ok(ExitCode::SUCCESS)
}

/// The best answers for each mask, and the hash if it was asked for.
///
/// # Errors
///
/// What the board says.
pub fn fill_mask(client: &mut Client, request: &Request<'_>) -> Result<(Vec<Vec<Answer>>, Option<String>)> {
    let head = |answer: &Reply<'_>| match *answer {
        Reply::Masks { masks, total, trace_sha256 } => Some((total as usize, (masks, trace_sha256))),
        _ => None,
    };
    let read = |bytes: &[u8], list: &mut Vec<(u8, Answer)>| {
        for item in items::<MaskItem<'_>>(bytes) {
            let item = item?;
            let answer = Answer {
                score: probability(item.probability()),
                token: item.token,
                token_str: item.token_str.to_owned(),
                sequence: item.sequence.to_owned(),
            };
            list.push((item.mask, answer));
        }
        Ok(())
    };
    let ((masks, trace), list) = client.ask_for_all(request, head, read)?;
    let mut answers = vec![Vec::new(); masks.into()];
    for (mask, answer) in list {
        if let Some(answers) = answers.get_mut(usize::from(mask)) {
            answers.push(answer);
        }
    }
    Ok((answers, trace.map(|trace| hex(&trace))))
}
