//! The tokenizer with its vocabulary in memory.
#![no_std]
#![no_main]

use no_panic::{some, tokenizer};

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    tokenizer::everything(&*some::<u8>());
}
