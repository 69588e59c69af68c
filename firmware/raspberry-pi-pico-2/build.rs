//! Chooses the script of the memory, which the start-up code of the core looks for by the name of memory.x: both kinds of core have the same
//! memory, and tell the boot ROM of it in their own way.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let script = if variable("CARGO_CFG_TARGET_ARCH") == "arm" { "arm.x" } else { "riscv.x" };
    let out = PathBuf::from(variable("OUT_DIR"));
    std::fs::copy(script, out.join("memory.x"))?;
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-search={}", out.display());
    if script == "riscv.x" {
        // Its link.x does not include the memory, which its first line asks for, nor the chip's interrupts.
        println!("cargo::rustc-link-arg=-Tmemory.x");
        println!("cargo::rustc-link-arg=-Tdevice.x");
    }
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rustc-link-arg=-Tdefmt.x");
    Ok(())
}
