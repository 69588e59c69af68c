//! The tokenizer with its vocabulary on a device.
#![no_std]
#![no_main]

use mbert_runtime::storage::{BlockCache, BlockSource, Blocks};
use no_panic::{any, look, tokenizer};

/// A device that does anything.
#[derive(Debug)]
struct Device;

impl BlockSource for Device {
    type Error = u32;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), u32> {
        look((offset, buffer));
        *any()
    }
}

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let cache = BlockCache::new(Device, *any(), Blocks::<8, 512>::new());
    tokenizer::everything(cache.section(*any(), *any()));
    look((cache.bytes_read(), cache.take_error()));
    look(cache.into_source());
}
