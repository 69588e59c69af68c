//! The `mbert` program: exits with 0 for success, 1 for a comparison that fails, 2 for bad input.

use std::process::ExitCode;

use clap::Parser;
use mbert::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Convert(args) => mbert::convert::report::run(&args),
        Command::Inspect(args) => mbert::inspect::run(&args),
        Command::FillMask(args) => mbert::fill_mask::run(&args),
        Command::Features(args) => mbert::features::run(&args),
        Command::NextSentence(args) => mbert::next_sentence::run(&args),
        Command::Tokenize(args) => mbert::tokenize::run(&args),
        Command::Compare(args) => mbert::compare::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mbert: {error:#}");
            ExitCode::from(2)
        }
    }
}
