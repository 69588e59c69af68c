//! `mbert device self-test`: whether the board's kernels and its model answer as they must.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use mbert_device::protocol::messages::{Answer, Request};

use super::client::{Client, unexpected};

/// How long it may take on a slow board.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the command: exit status 1 where the test fails.
///
/// # Errors
///
/// What the board says.
pub fn run(client: &mut Client, as_json: bool, out: &mut impl Write) -> Result<ExitCode> {
    // What is compared has no steps between which the board could listen.
    client.be_patient(PATIENCE);
    let (answer, _) = client.ask(&Request::SelfTest)?;
    let Answer::SelfTest(test) = answer else { return Err(unexpected(&answer)) };
    let has_passed = test.has_passed();
    if as_json {
        let mut object = serde_json::to_value(test)?;
        object["passed"] = has_passed.into();
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
    } else {
        match test.wrong_kernel {
            None => writeln!(out, "kernels {}: {} calls, all equal to scalar", test.kernels, test.kernel_calls)?,
            Some(entry) => writeln!(out, "kernels {}: {entry} differs from scalar", test.kernels)?,
        }
        match (test.cases, test.wrong_case) {
            (0, _) => writeln!(out, "model: none")?,
            (cases, None) => writeln!(out, "model: {cases} known answers, each to the bit")?,
            (_, Some(case)) => writeln!(out, "model: answer {case} differs from the one that it carries")?,
        }
    }
    Ok(ExitCode::from(u8::from(!has_passed)))
}
