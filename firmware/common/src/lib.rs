//! Everything of the firmware that is not pins and memory: a board hands in its memory and a counter, and never comes back.
//!
//! [`run`] opens the model, reads a `command` from the debugger, answers it, and reports what that took: instructions, workspace,
//! stack, code. There is no heap. Text goes through [`semihosting`]; what comes in from there is checked, never trusted. What happens
//! meanwhile goes to the `log`.
#![no_std]

mod answer;
#[cfg(feature = "kernel-suite")]
mod bench;
mod board;
mod command;
pub mod counter;
#[cfg(feature = "kernel-suite")]
mod damage;
#[cfg(feature = "kernel-suite")]
pub mod damage_on_device;
mod error;
#[cfg(feature = "sd-card")]
mod fat_volume;
mod log;
pub mod memory;
pub mod mmio;
mod panic;
#[cfg(feature = "sd-card")]
pub mod pl022;
mod print;
#[cfg(feature = "profile")]
mod profile;
#[cfg(feature = "sd-card")]
pub mod sd_card;
#[cfg(feature = "kernel-suite")]
mod questions;
pub mod semihosting;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
pub mod uart;

#[cfg(feature = "kernel-suite")]
pub use board::kernel_suite;
pub use board::{Board, answer, begin, end, open_model, region, run};
pub use command::{Command, SEPARATOR, command_line};
pub use error::Failure;
#[cfg(feature = "serve")]
pub use mbert_device::flash::{CfiFlash, MappedFlash, RamNor, SerialBus, SerialFlash};
pub use panic::unexpected_trap;
#[cfg(feature = "serve")]
pub use serve::Serving;
pub use static_cell::{ConstStaticCell, StaticCell};
