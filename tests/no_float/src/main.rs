//! The whole path from text to answer, linked for a core without FPU. It is never run: `.ci/no-float` looks at what was linked.
#![no_std]
#![no_main]

use core::hint::black_box;

use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline};
use mbert_runtime::trace::TraceHash;

static mut MEMORY: [u8; 32768] = [0; 32768];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Where the linker starts: opens a model in flash, fills a mask, judges a pair, runs features with a trace.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    // SAFETY: nothing else uses the memory, and this function is entered once.
    let memory = unsafe { &mut *core::ptr::addr_of_mut!(MEMORY) };
    // SAFETY: stands for memory-mapped flash; this program is linked, not run.
    let blob = unsafe { core::slice::from_raw_parts(black_box(0x0800_0000 as *const u8), black_box(1 << 20)) };
    if let Ok(model) = Model::open(blob)
        && model.verify().is_ok()
        && let Ok(mut pipeline) = Pipeline::new(&model, Kernels::native(), memory)
    {
        let mut answers = [MaskAnswer::<5>::default(); 1];
        if let Ok([answer]) = pipeline.fill_mask(black_box("Paris is the [MASK] of France."), &mut answers) {
            for &best in answer.best() {
                black_box((best.id, answer.probability(best).q31()));
            }
        }
        black_box(pipeline.next_sentence(black_box("One."), black_box("Two.")).ok());
        let mut trace = TraceHash::default();
        if pipeline.encode(black_box("Features."), None).is_ok() && let Ok(encoded) = pipeline.forward(&mut trace) {
            black_box(encoded.last_hidden_state());
        }
        black_box(trace.finish());
    }
    #[cfg(feature = "float")]
    black_box(black_box(1.5f32) * black_box(2.5f32));
    loop {}
}
