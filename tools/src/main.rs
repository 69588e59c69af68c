//! The `mbert` program.
fn main() {}
