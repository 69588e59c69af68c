//! stub
use crate::cli::*;
/// .
pub fn run(_: &CompareArgs) -> anyhow::Result<std::process::ExitCode> { todo!() }
