//! Sleep until a line of interrupts is raised. No handler runs: interrupts stay off, and what is pending wakes the core all the same.

use core::arch::asm;

#[cfg(target_arch = "riscv32")]
use crate::mmio::Mmio;

/// An interrupt of a Cortex-M.
///
/// Source: Armv7-M Architecture Reference Manual, B1.5.17 and B3.4.
#[cfg(target_arch = "arm")]
#[derive(Debug)]
pub struct Interrupt {
    pending: *mut u32,
    mask: u32,
}

#[cfg(target_arch = "arm")]
impl Interrupt {
    const SET_ENABLE: usize = 0xe000_e100;
    const CLEAR_PENDING: usize = 0xe000_e280;

    /// The interrupt of this number, which wakes the core from now on. All others are off.
    ///
    /// # Safety
    ///
    /// Nobody else uses it, nor needs interrupts.
    pub unsafe fn new(number: usize) -> Self {
        let (word, mask) = (number / 32 * 4, 1 << (number % 32));
        // SAFETY: no handler is called, since interrupts are off; the register is one of every Cortex-M.
        unsafe {
            asm!("cpsid i", options(nomem, nostack, preserves_flags));
            ((Self::SET_ENABLE + word) as *mut u32).write_volatile(mask);
        }
        Self { pending: (Self::CLEAR_PENDING + word) as *mut u32, mask }
    }

    /// Forgets that it was raised, where it is not any more.
    pub fn clear(&self) {
        // SAFETY: the register that `new` names, and no other interrupt in it.
        unsafe { self.pending.write_volatile(self.mask) };
    }
}

/// An interrupt of a platform-level interrupt controller, for the first context of machine mode.
///
/// Source: RISC-V Platform-Level Interrupt Controller Specification 1.0.0.
#[cfg(target_arch = "riscv32")]
#[derive(Debug)]
pub struct Interrupt {
    controller: Mmio<u32>,
}

#[cfg(target_arch = "riscv32")]
impl Interrupt {
    const ENABLE: usize = 0x2000;
    const CLAIM: usize = 0x20_0004;
    /// In the register `mie`: interrupts from outside the core.
    const EXTERNAL: usize = 1 << 11;

    /// The interrupt of this number, which wakes the core from now on. All others are off.
    ///
    /// # Safety
    ///
    /// Such a controller is at this address, nobody else uses it, nor needs interrupts.
    pub unsafe fn new(controller: usize, number: usize) -> Self {
        let word = number / 32 * 4;
        // SAFETY: no handler is called, since interrupts are off; the registers are the caller's promise.
        let controller = unsafe {
            asm!("csrci mstatus, 8", "csrw mie, {0}", in(reg) Self::EXTERNAL, options(nomem, nostack));
            Mmio::new(controller)
        };
        controller.write(4 * number, 1);
        controller.write(Self::ENABLE + word, 1 << (number % 32));
        Self { controller }
    }

    /// Forgets that it was raised, where it is not any more.
    pub fn clear(&self) {
        // What is claimed there is this interrupt, the only one, or none.
        self.controller.write(Self::CLAIM, self.controller.read(Self::CLAIM));
    }
}

/// An interrupt of the Raspberry Pi's controller.
///
/// Source: BCM2835 ARM Peripherals, chapter 7.
#[cfg(target_arch = "aarch64")]
#[derive(Debug)]
pub struct Interrupt(());

#[cfg(target_arch = "aarch64")]
impl Interrupt {
    const ENABLE: usize = 0x210;

    /// The interrupt of this number, which wakes the core from now on. All others are off.
    ///
    /// # Safety
    ///
    /// Such a controller is at this address, nobody else uses it, nor needs interrupts.
    pub unsafe fn new(controller: usize, number: usize) -> Self {
        let enable = controller + Self::ENABLE + number / 32 * 4;
        // SAFETY: no handler is called, since interrupts are off; whoever calls promised that the register is there.
        unsafe {
            asm!("msr daifset, #15", options(nomem, nostack, preserves_flags));
            (enable as *mut u32).write_volatile(1 << (number % 32));
        }
        Self(())
    }

    /// Nothing is kept: it is raised for as long as the device raises it.
    pub fn clear(&self) {}
}

impl Interrupt {
    /// Sleeps until it is raised, or returns at once if it has been.
    pub fn wait(&self) {
        // SAFETY: waits, and does nothing else: no handler is called.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}
