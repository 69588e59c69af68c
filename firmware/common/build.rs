//! Gives boards that run from RAM their linker script. Cortex-M boards have that of cortex-m-rt, of the same name.

fn main() {
    println!("cargo::rerun-if-changed=link.x");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch != "arm") {
        println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    }
}
