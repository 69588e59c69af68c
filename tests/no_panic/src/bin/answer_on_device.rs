//! From text to answer, the model on a device.
#![no_std]
#![no_main]

use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::model::Model;
use mbert_runtime::storage::{BlockCache, BlockSource, Blocks};
use mbert_runtime::pipeline::{MaskAnswer, Pipeline};
use no_panic::{any, look, some, text};

#[derive(Debug)]
struct Device;

impl BlockSource for Device {
    type Error = u32;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), u32> {
        look((offset, buffer));
        *any()
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let cache = BlockCache::new(Device, *any(), Blocks::<10, 512>::new());
    let Ok(model) = Model::open(cache.section(*any(), *any())) else { return };
    look(model.verify());
    let Ok(mut pipeline) = Pipeline::new(&model, &SCALAR, some()) else { return };
    let answers: &mut [MaskAnswer<5>; 4] = any();
    look(pipeline.fill_mask(text(), answers));
    look(pipeline.next_sentence(text(), text()));
}
