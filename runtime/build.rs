//! Finds out what the target can run beyond what `cfg(target_feature)` tells on stable Rust: for Arm, whether it has the DSP
//! instructions (`kernel_dsp`) and Helium (`kernel_helium`). One instruction of each is assembled with the flags of this build.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (name, instruction) in [("kernel_dsp", "smlad r0, r0, r0, r0"), ("kernel_helium", "vmladav.s8 r0, q0, q1")] {
        println!("cargo::rustc-check-cfg=cfg({name})");
        // The kernels are written for Cortex-M4 and M7; those of Armv8-M are still to be made of them.
        if env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv7em")) && assembles(instruction) {
            println!("cargo::rustc-cfg={name}");
        }
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
