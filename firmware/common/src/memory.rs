//! How much code there is, and how deep the stack has been.

unsafe extern "C" {
    // From the linker script; only their addresses mean anything.
    static __stext: u8;
    static __etext: u8;
    static __srodata: u8;
    static __erodata: u8;
    static __sdata: u8;
    static __edata: u8;
    static __sbss: u8;
    static __ebss: u8;
    static mut _stack_end: usize;
    static _stack_start: u8;
}

/// What an untouched word of the stack holds: unlikely as a value, an address or a length.
const PAINT: usize = 0x5afe_57ac_5afe_57ac_u64 as usize;
/// Left alone below the caller's frame, for the frames of the painting itself.
const MARGIN_BYTES: usize = 1024;

/// Machine code, constants and initial values: what the program takes of the flash, without the model.
pub fn code_bytes() -> usize {
    (&raw const __etext as usize - &raw const __stext as usize)
        + (&raw const __erodata as usize - &raw const __srodata as usize)
        + (&raw const __edata as usize - &raw const __sdata as usize)
}

/// Variables that are there from the start to the end, workspace and caches among them.
pub fn static_bytes() -> usize {
    (&raw const __edata as usize - &raw const __sdata as usize)
        + (&raw const __ebss as usize - &raw const __sbss as usize)
}

/// Paints the stack that is not in use yet, so that [`stack_bytes`] can see later how deep it has been.
#[inline(never)]
pub fn paint_stack() {
    let here = 0usize;
    let words = (&raw const here as usize - MARGIN_BYTES - &raw const _stack_end as usize) / size_of::<usize>();
    for word in 0..words {
        // SAFETY: the words between the end of the stack and well below the frames in use belong to nobody. Volatile, because the compiler
        // knows of no object there.
        unsafe { (&raw mut _stack_end).add(word).write_volatile(PAINT) };
    }
}

/// The deepest stack since it was painted.
pub fn stack_bytes() -> usize {
    let bottom = &raw const _stack_end;
    let top = &raw const _stack_start as usize;
    let words = (top - bottom as usize) / size_of::<usize>();
    // SAFETY: these words are stack memory, readable as a whole; volatile as above.
    let untouched = (0..words).take_while(|&word| unsafe { bottom.add(word).read_volatile() } == PAINT).count();
    (words - untouched) * size_of::<usize>()
}
