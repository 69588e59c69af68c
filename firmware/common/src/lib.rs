//! Everything of the firmware that is not pins and memory: a board hands in its memory and a counter, and never comes back.
//!
//! [`run`] opens the model, reads a `command` from the debugger, answers it, and reports what that took: instructions, workspace,
//! stack, code. There is no heap. Text goes through [`semihosting`]; what comes in from there is checked, never trusted.
#![no_std]

mod answer;
#[cfg(feature = "kernel-suite")]
mod bench;
mod board;
mod command;
pub mod counter;
mod error;
mod memory;
mod panic;
mod print;
pub mod semihosting;

pub use board::{Board, region, run};
pub use panic::unexpected_trap;
pub use static_cell::ConstStaticCell;
