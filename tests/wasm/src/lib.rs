//! What `run.mjs` asks of the runtime. It gives the memory: behind the module's own, which ends at `__heap_base`.
#![no_std]

use core::fmt::{self, Write};

use mbert_runtime::kernels::{COMPILED, Kernels, suite};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use mbert_runtime::trace::TraceHash;

/// Masks in one text.
const MASKS: usize = 4;

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Prints UTF-8.
    fn print(text: *const u8, bytes: usize);
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is where it says.
        unsafe { print(text.as_ptr(), text.len()) };
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    core::arch::wasm32::unreachable()
}

/// Memory that the host has made room for.
///
/// # Safety
///
/// Nobody else uses it while it is borrowed.
unsafe fn memory<'a>(address: usize, bytes: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(address as *mut u8, bytes) }
}

/// Compares every table of kernels that the module has with the scalar one, and names those compiled in that it cannot run.
#[unsafe(no_mangle)]
extern "C" fn kernel_suite(address: usize, bytes: usize) {
    // SAFETY: the host gives memory for this call alone.
    let memory = unsafe { memory(address, bytes) };
    for &name in COMPILED {
        match Kernels::named(name).map(|kernels| suite::run(kernels, memory)) {
            None => writeln!(Console, "kernels {name}: this machine cannot run them"),
            Some(Ok(compared)) => writeln!(Console, "kernels {name}: {compared} calls, all equal to scalar"),
            Some(Err(error)) => panic!("{error}"),
        }
        .expect("the console takes everything");
    }
}

/// Answers a masked text, and prints the trace.
#[unsafe(no_mangle)]
extern "C" fn fill_mask(
    model: usize,
    model_bytes: usize,
    text: usize,
    text_bytes: usize,
    workspace: usize,
    workspace_bytes: usize,
) {
    // SAFETY: the host gives memory for this call alone.
    let (model, text, workspace) =
        unsafe { (memory(model, model_bytes), memory(text, text_bytes), memory(workspace, workspace_bytes)) };
    let model = Model::open(&*model).expect("a model");
    model.verify().expect("a whole model");
    let mut pipeline = Pipeline::new(&model, Kernels::native(), workspace).expect("a model packed for every CPU");
    pipeline.encode(str::from_utf8(text).expect("UTF-8"), None).expect("a text that is not too long");
    let mut positions = [0; MASKS];
    let masks = pipeline.mask_positions(&mut positions).expect("a text with masks");
    let mut trace = TraceHash::default();
    let mut encoded = pipeline.forward(&mut trace).expect("enough memory");
    encoded.masked_lm(&positions[..masks], &mut trace, |_, _, _| {}).expect("a model with this head");
    if model.manifest().heads.next_sentence {
        encoded.next_sentence(&mut trace).expect("a model with this head");
    }
    write!(Console, "trace ").expect("the console takes everything");
    for byte in trace.finish() {
        write!(Console, "{byte:02x}").expect("the console takes everything");
    }
    writeln!(Console).expect("the console takes everything");
}

/// Takes the first so many tokens of the vocabulary through the encoder: for the clock of the host.
#[unsafe(no_mangle)]
extern "C" fn encode(model: usize, model_bytes: usize, tokens: usize, workspace: usize, workspace_bytes: usize) {
    // SAFETY: the host gives memory for this call alone.
    let (model, workspace) = unsafe { (memory(model, model_bytes), memory(workspace, workspace_bytes)) };
    let model = Model::open(&*model).expect("a model");
    let mut pipeline = Pipeline::new(&model, Kernels::native(), workspace).expect("a model packed for every CPU");
    let mut ids = [0; 512];
    ids.iter_mut().zip(0..).for_each(|(id, index)| *id = index);
    pipeline.set_ids(&ids[..tokens], &[0; 512][..tokens]).expect("a sequence that is not too long");
    pipeline.forward(&mut ()).expect("enough memory");
}
