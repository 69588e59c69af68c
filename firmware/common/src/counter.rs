//! Counting instructions.
//!
//! QEMU with `-icount shift=0` lets one nanosecond of virtual time pass for each instruction, so every clock of a board counts
//! instructions, the same number in every run. On silicon the same clocks count time.

#[cfg(target_arch = "arm")]
use core::sync::atomic::{AtomicU32, Ordering};

use crate::mmio::Mmio;

/// A running count of instructions.
pub trait InstructionCounter: Sync {
    /// Instructions since some moment in the past. Only differences mean anything.
    fn instructions(&self) -> u64;
}

/// Instructions of the loop by which [`counted_loop`] checks a counter.
pub const LOOP_INSTRUCTIONS: u64 = 2_000_000;

/// What a counter says of a loop of [`LOOP_INSTRUCTIONS`]: the same but for the two readings and a tick, where it counts instructions.
#[inline(never)]
pub fn counted_loop(counter: &dyn InstructionCounter) -> u64 {
    let begin = counter.instructions();
    // SAFETY: counts a register of its own down to zero.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("2:", "subs {0}, #1", "bne 2b", inout(reg) LOOP_INSTRUCTIONS as u32 / 2 => _);
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("2:", "subs {0}, {0}, #1", "b.ne 2b", inout(reg) LOOP_INSTRUCTIONS / 2 => _);
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!("2:", "addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) LOOP_INSTRUCTIONS as u32 / 2 => _);
    }
    counter.instructions() - begin
}

/// The free-running counter of the MPS2 and MPS3 boards, of 25 MHz or 20 MHz. It wraps after 171 thousand million instructions or more.
#[derive(Debug)]
pub struct FpgaIo {
    registers: Mmio<u32>,
    instructions_per_tick: u64,
}

impl FpgaIo {
    const COUNTER: usize = 0x18;

    /// The counter of the FPGA system control block at an address, and the nanoseconds of its tick: each is an instruction.
    ///
    /// # Safety
    ///
    /// Such a block is there.
    pub const unsafe fn new(base: usize, instructions_per_tick: u64) -> Self {
        // SAFETY: the caller's promise; the counter is only read, which changes nothing.
        Self { registers: unsafe { Mmio::new(base) }, instructions_per_tick }
    }
}

impl InstructionCounter for FpgaIo {
    fn instructions(&self) -> u64 {
        u64::from(self.registers.read(Self::COUNTER)) * self.instructions_per_tick
    }
}

/// The system timer that every Cortex-M has, clocked by the CPU: 24 bits, and the rest counted by its interrupt.
#[cfg(target_arch = "arm")]
#[derive(Debug)]
pub struct SysTick {
    periods: AtomicU32,
    instructions_per_tick: u64,
}

#[cfg(target_arch = "arm")]
impl SysTick {
    const CONTROL: *mut u32 = 0xe000_e010 as *mut u32;
    const RELOAD: *mut u32 = 0xe000_e014 as *mut u32;
    const CURRENT: *mut u32 = 0xe000_e018 as *mut u32;
    const INTERRUPT_STATE: *const u32 = 0xe000_ed04 as *const u32;

    const CLOCKED_BY_CPU: u32 = 0b100;
    /// With its interrupt.
    const ENABLED: u32 = 0b011;
    const PENDING: u32 = 1 << 26;
    const LAST: u32 = 0xff_ffff;

    /// A timer that is still to be [started](Self::start), and the nanoseconds of its tick: each is an instruction.
    ///
    /// # Safety
    ///
    /// There is one of them in the program, which nobody else uses.
    pub const unsafe fn new(instructions_per_tick: u64) -> Self {
        Self { periods: AtomicU32::new(0), instructions_per_tick }
    }

    /// Starts it. From then on the board's `SysTick` exception calls [`period_ended`](Self::period_ended).
    pub fn start(&self) {
        // SAFETY: every Cortex-M has these registers, and whoever made this promised that they are ours.
        unsafe {
            Self::CONTROL.write_volatile(Self::CLOCKED_BY_CPU);
            Self::RELOAD.write_volatile(Self::LAST);
            Self::CURRENT.write_volatile(0);
            Self::CONTROL.write_volatile(Self::CLOCKED_BY_CPU | Self::ENABLED);
        }
    }

    /// Counts a period.
    pub fn period_ended(&self) {
        // Nothing else writes it, and a Cortex-M0+ has no instruction for both.
        self.periods.store(self.periods.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(target_arch = "arm")]
impl InstructionCounter for SysTick {
    fn instructions(&self) -> u64 {
        loop {
            let periods = self.periods.load(Ordering::Relaxed);
            // SAFETY: as above; reading these two changes nothing.
            let (left, state) = unsafe { (Self::CURRENT.read_volatile(), Self::INTERRUPT_STATE.read_volatile()) };
            if periods == self.periods.load(Ordering::Relaxed) {
                // It counts down, and a period begins with 0.
                let ticks = left.wrapping_neg() & Self::LAST;
                // This one may have begun without the interrupt having been served yet.
                let not_counted = state & Self::PENDING != 0 && ticks <= Self::LAST / 2;
                let periods = u64::from(periods) + u64::from(not_counted);
                return (periods * u64::from(Self::LAST + 1) + u64::from(ticks)) * self.instructions_per_tick;
            }
        }
    }
}

/// The cycle counter of a Cortex-M with a debug unit: 32 bits, and the rest counted where it is seen to have wrapped. It is to be read more
/// often than it wraps, every 5 seconds at 800 MHz.
#[cfg(target_arch = "arm")]
#[derive(Debug)]
pub struct CycleCounter {
    last: AtomicU32,
    wraps: AtomicU32,
}

#[cfg(target_arch = "arm")]
impl CycleCounter {
    const DEBUG_CONTROL: *mut u32 = 0xe000_edfc as *mut u32;
    const TRACE: u32 = 1 << 24;
    const CONTROL: *mut u32 = 0xe000_1000 as *mut u32;
    const ENABLED: u32 = 1;
    const COUNT: *const u32 = 0xe000_1004 as *const u32;
    const LOCK: *mut u32 = 0xe000_1fb0 as *mut u32;
    const UNLOCKED: u32 = 0xc5ac_ce55;

    /// A counter that is still to be [started](Self::start).
    #[allow(clippy::new_without_default)] // There is one of them.
    pub const fn new() -> Self {
        Self { last: AtomicU32::new(0), wraps: AtomicU32::new(0) }
    }

    /// Starts it.
    pub fn start(&self) {
        // SAFETY: registers that every Cortex-M has or ignores; what is set there enables the counter and nothing else.
        unsafe {
            Self::DEBUG_CONTROL.write_volatile(Self::DEBUG_CONTROL.read_volatile() | Self::TRACE);
            Self::LOCK.write_volatile(Self::UNLOCKED);
            Self::CONTROL.write_volatile(Self::CONTROL.read_volatile() | Self::ENABLED);
        }
    }
}

#[cfg(target_arch = "arm")]
impl InstructionCounter for CycleCounter {
    fn instructions(&self) -> u64 {
        // SAFETY: as above; reading it changes nothing.
        let cycles = unsafe { Self::COUNT.read_volatile() };
        // One core, and no interrupt of the boards reads it.
        let has_wrapped = cycles < self.last.load(Ordering::Relaxed);
        self.last.store(cycles, Ordering::Relaxed);
        let wraps = self.wraps.load(Ordering::Relaxed) + u32::from(has_wrapped);
        self.wraps.store(wraps, Ordering::Relaxed);
        u64::from(wraps) << 32 | u64::from(cycles)
    }
}

/// The RISC-V counter of retired instructions.
#[cfg(target_arch = "riscv32")]
#[derive(Debug)]
pub struct Minstret;

#[cfg(target_arch = "riscv32")]
impl InstructionCounter for Minstret {
    fn instructions(&self) -> u64 {
        loop {
            let (high, low, again): (u32, u32, u32);
            // SAFETY: reads three control registers, which machine mode may always do.
            unsafe {
                core::arch::asm!(
                    "csrr {}, minstreth",
                    "csrr {}, minstret",
                    "csrr {}, minstreth",
                    out(reg) high, out(reg) low, out(reg) again,
                    options(nomem, nostack, preserves_flags),
                );
            }
            // The low half may wrap between the reads.
            if high == again {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }
}

/// The generic timer of AArch64: 62.5 MHz in QEMU, so 16 instructions a tick.
#[cfg(target_arch = "aarch64")]
#[derive(Debug)]
pub struct GenericTimer;

#[cfg(target_arch = "aarch64")]
impl InstructionCounter for GenericTimer {
    fn instructions(&self) -> u64 {
        let ticks: u64;
        // SAFETY: reads a counter; the barrier keeps the read from moving ahead of the instructions to be counted.
        unsafe {
            core::arch::asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks, options(nostack, preserves_flags));
        }
        ticks * 16
    }
}
