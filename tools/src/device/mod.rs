//! `mbert device`: asks a board over its serial line what the other commands ask a model on this machine, and gives it another model.

pub mod port;
pub mod client;
pub mod info;
pub mod tokenize;
pub mod fill_mask;
pub mod next_sentence;
pub mod features;
pub mod bench;
pub mod self_test;
pub mod upload;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use mbert_device::protocol::link::host::Timing;

use crate::cli::device::{DeviceArgs, DeviceCommand};
use client::Client;

/// Runs the command.
///
/// # Errors
///
/// If the port fails, the board does not answer, or says that it cannot.
pub fn run(args: &DeviceArgs, out: &mut impl Write) -> Result<ExitCode> {
    let timing = Timing { silence_ms: args.timeout * 1000, ..Timing::default() };
    let mut client = Client::open(port::open(&args.port, args.baud)?, timing)?;
    client.cancel_after(args.cancel_after.map(Duration::from_secs));
    client.show_progress(true);
    match &args.command {
        DeviceCommand::Info { json } => info::run(&client, *json, out),
        DeviceCommand::Tokenize(args) => tokenize::run(&mut client, args, out),
        DeviceCommand::FillMask(args) => fill_mask::run(&mut client, args, out),
        DeviceCommand::NextSentence(args) => next_sentence::run(&mut client, args, out),
        DeviceCommand::Features(args) => features::run(&mut client, args, out),
        DeviceCommand::Bench { tokens, json } => bench::run(&mut client, *tokens, *json, out),
        DeviceCommand::SelfTest { json } => self_test::run(&mut client, *json, out),
        DeviceCommand::Upload { model, json } => upload::run(&mut client, model, *json, out),
    }
}
