//! What a board says and keeps: the protocol of its serial line, the server behind it, the store of its models.
//!
//! There is no operating system, no heap and no hardware in it, so that all of it is tested on a host; the host's own program speaks the
//! same protocol through the same code.
#![no_std]
#![deny(unsafe_code)]

pub mod protocol;
pub mod server;
pub mod self_test;
pub mod flash;
pub mod slots;
pub mod signature;
pub mod store;
