//! Finds out what the target can run beyond what `cfg(target_feature)` tells on stable Rust: for Arm's
//! microcontrollers, whether it has Helium (`kernel_helium`), else the DSP extension (`kernel_dsp`), else Armv7-M (`kernel_thumb2`). One
//! instruction of each is assembled with the flags of this build.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// The best of these that the core has, told by an instruction.
const INSTRUCTION_SETS: [(&str, &str); 3] = [
    ("kernel_helium", "vmladav.s8 r0, q0, q1"),
    ("kernel_dsp", "smlad r0, r0, r0, r0"),
    ("kernel_thumb2", "sxtb r0, r0, ror #8"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (name, _) in INSTRUCTION_SETS {
        println!("cargo::rustc-check-cfg=cfg({name})");
    }
    if env::var("TARGET").is_ok_and(|target| target.starts_with("thumb"))
        && let Some((name, _)) = INSTRUCTION_SETS.into_iter().find(|(_, instruction)| assembles(instruction))
    {
        println!("cargo::rustc-cfg={name}");
    }
}

fn assembles(instruction: &str) -> bool {
    let assembly = format!("global_asm!(\"{instruction}\");");
    // Where the core library is built too, there is none yet: then the compiler is one that lets a program do without it.
    let with_core = format!("#![no_std] use core::arch::global_asm; {assembly}");
    let without =
        "#![feature(no_core, rustc_attrs)] #![no_core] #[rustc_builtin_macro] macro_rules! global_asm { () => {} }";
    compiles("with_core", &with_core) || compiles("without_core", &format!("{without} {assembly}"))
}

fn compiles(name: &str, source: &str) -> bool {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let folder = variable("OUT_DIR");
    let file = Path::new(&folder).join(name).with_extension("rs");
    if std::fs::write(&file, source).is_err() {
        return false;
    }
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    Command::new(variable("RUSTC"))
        .args(["--crate-type=lib", "--emit=obj", "--target", &variable("TARGET"), "--out-dir", &folder])
        .args(flags.split('\x1f').filter(|flag| !flag.is_empty()))
        .arg(&file)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
