//! Asks a board thousands of times over a line that hurts one byte in so many, and compares every answer with the host's:
//!
//!     cargo run --release -p mbert-tests --example noisy_line -- PORT MODEL REQUESTS ONE_IN

use anyhow::{Context, Result};
use mbert::device::port;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, model, requests, one_in] = &arguments[..] else {
        anyhow::bail!("noisy_line PORT MODEL REQUESTS ONE_IN");
    };
    let model = std::fs::read(model).with_context(|| format!("cannot read {model}"))?;
    let port = port::open(port, 115_200)?;
    let summary = mbert_tests::noisy_line::run(port, &model, requests.parse()?, one_in.parse()?)?;
    let repeated = summary.repeated;
    println!(
        "{} requests, every answer the host's; frames damaged on their way to the host {}, to the board {}",
        summary.requests, repeated.damaged, repeated.refused
    );
    Ok(())
}
