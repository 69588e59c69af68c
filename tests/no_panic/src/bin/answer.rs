//! From text to answer.
#![no_std]
#![no_main]

use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline};
use no_panic::{any, look, some, text};

#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let blob: &[u8] = some();
    let Ok(model) = Model::open(blob) else { return };
    look(model.verify());
    let Ok(mut pipeline) = Pipeline::new(&model, &SCALAR, some()) else { return };
    let answers: &mut [MaskAnswer<5>; 4] = any();
    look(pipeline.fill_mask(text(), answers));
    look(pipeline.next_sentence(text(), text()));
}
