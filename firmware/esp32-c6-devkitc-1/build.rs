//! The linker script is that of the HAL; defmt.x keeps the words of the log in the ELF file, out of the board's memory.

fn main() {
    println!("cargo::rustc-link-arg=-Tlinkall.x");
    println!("cargo::rustc-link-arg=-Tdefmt.x");
}
