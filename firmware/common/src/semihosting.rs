//! Semihosting: the debugger, or QEMU, serves the program on the target with a console, a command line and an exit status.
//!
//! Specification: Arm's "Semihosting for AArch32 and AArch64", which RISC-V has taken over. Without a debugger the first call stops
//! the CPU: a board that runs alone is built without the feature `semihosting`, and every call is refused.

use core::fmt;

const SYS_OPEN: usize = 0x01;
const SYS_WRITE: usize = 0x05;
const SYS_GET_CMDLINE: usize = 0x15;
const SYS_EXIT_EXTENDED: usize = 0x20;
const ADP_STOPPED_APPLICATION_EXIT: usize = 0x20026;

/// Asks the debugger for something; `block` holds the arguments, and what comes back in memory.
///
/// # Safety
///
/// Pointers and lengths in `block` are what the operation expects.
#[cfg(feature = "semihosting")]
unsafe fn call(operation: usize, block: &mut [usize]) -> usize {
    let result;
    // SAFETY: the trap that the specification names; the debugger touches only the block and what it points to.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!(
            "bkpt #0xab",
            inlateout("r0") operation => result, in("r1") block.as_mut_ptr(), options(nostack, preserves_flags),
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "hlt #0xf000",
            inlateout("x0") operation => result, in("x1") block.as_mut_ptr(), options(nostack, preserves_flags),
        );
        // The three must be uncompressed and in one page: they are how an `ebreak` says what it is for.
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!(
            ".balign 16", ".option push", ".option norvc",
            "slli x0, x0, 0x1f", "ebreak", "srai x0, x0, 7",
            ".option pop",
            inlateout("a0") operation => result, in("a1") block.as_mut_ptr(), options(nostack, preserves_flags),
        );
    }
    result
}

/// Nobody listens.
///
/// # Safety
///
/// None.
#[cfg(not(feature = "semihosting"))]
unsafe fn call(_operation: usize, _block: &mut [usize]) -> usize {
    usize::MAX
}

/// Where the debugger takes text: its console, or a file.
#[derive(Debug)]
pub struct Console {
    handle: usize,
}

impl Console {
    /// Its standard output.
    pub fn out() -> Self {
        Self::open(b":tt\0", 4)
    }

    /// Its standard error.
    pub fn err() -> Self {
        Self::open(b":tt\0", 8)
    }

    /// A file of the debugger's, written anew; `None` if it cannot be opened or its name has more than 255 bytes.
    pub fn file(path: &str) -> Option<Self> {
        let mut name = [0; 256];
        name.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
        let file = Self::open(name.get(..=path.len())?, 5);
        (file.handle != usize::MAX).then_some(file)
    }

    /// Opens a name that ends with a zero byte.
    fn open(name: &[u8], mode: usize) -> Self {
        // SAFETY: a name with its length (without the zero byte) and a mode.
        let handle = unsafe { call(SYS_OPEN, &mut [name.as_ptr() as usize, mode, name.len() - 1]) };
        Self { handle }
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// If the debugger does not take them.
    pub fn write(&self, bytes: &[u8]) -> fmt::Result {
        // SAFETY: a handle, and bytes with their length. A handle that could not be opened is refused by the debugger.
        let left = unsafe { call(SYS_WRITE, &mut [self.handle, bytes.as_ptr() as usize, bytes.len()]) };
        if left == 0 { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes())
    }
}

/// The command line that the debugger holds, or `None` if it has none or it does not fit.
pub fn command_line(buffer: &mut [u8]) -> Option<&[u8]> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: a buffer with its length.
    let failed = unsafe { call(SYS_GET_CMDLINE, &mut block) };
    // The length that comes back counts the closing zero byte in some debuggers and not in others.
    let line = buffer.get(..block[1]).filter(|_| failed == 0)?;
    Some(line.strip_suffix(b"\0").unwrap_or(line))
}

/// Ends the program with an exit status; where nobody listens, it stops there.
pub fn exit(status: usize) -> ! {
    loop {
        // SAFETY: a reason and a status. It does not return; a debugger that lets it return is asked again.
        unsafe { call(SYS_EXIT_EXTENDED, &mut [ADP_STOPPED_APPLICATION_EXIT, status]) };
    }
}
