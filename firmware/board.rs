//! The build script of every board: its memory.x is found by link.x, the linker script of the start-up code; defmt.x keeps the words
//! of the log in the ELF file, out of the board's memory.

fn main() {
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rustc-link-arg=-Tdefmt.x");
}
