//! The `mbert` program: exits with 0 for success, 1 for a comparison that fails, 2 for bad input.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use mbert::cli::{Cli, Command};

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = run(&Cli::parse().command, &mut out)
        .and_then(|code| out.flush().map(|()| code).context("cannot write to standard output"));
    match result {
        Ok(code) => code,
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // What was answered before the error is still told.
            let _ = out.flush();
            eprintln!("mbert: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command, out: &mut impl Write) -> Result<ExitCode> {
    match command {
        Command::Convert(args) => mbert::convert::report::run(args, out),
        Command::Inspect(args) => mbert::inspect::run(args, out),
        Command::FillMask(args) => mbert::fill_mask::run(args, out),
        Command::Features(args) => mbert::features::run(args, out),
        Command::NextSentence(args) => mbert::next_sentence::run(args, out),
        Command::Tokenize(args) => mbert::tokenize::run(args, out),
        Command::Demo(args) => mbert::demo::run(args, out),
        Command::Device(args) => mbert::device::run(args, out),
        Command::SdImage(args) => mbert::sd_image::run(args, out),
        Command::Flash(args) => mbert::flash::run(args, out),
        Command::Compare(args) => mbert::compare::run(args, out),
        Command::Eval(args) => mbert::eval::run(args, out),
        Command::Plan(args) => mbert::plan::run(args, out),
        Command::Boards(args) => mbert::boards::run(args, out),
        Command::Bench(args) => mbert::bench::run(args, out),
        Command::Keygen(args) => mbert::sign::keygen(args, out),
        Command::Sign(args) => mbert::sign::sign(args, out),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
