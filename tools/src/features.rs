//! stub
use crate::cli::*;
/// .
pub fn run(_: &FeaturesArgs) -> anyhow::Result<std::process::ExitCode> { todo!() }
