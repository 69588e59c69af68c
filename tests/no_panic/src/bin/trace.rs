//! The trace hash, with SHA-256.
#![no_std]
#![no_main]

use mbert_runtime::trace::{Observer, TraceHash};
use no_panic::{any, look, some};

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let mut trace = TraceHash::default();
    trace.row(*any(), some());
    trace.prediction_logit(*any());
    trace.seq_relationship_logit(*any());
    look(trace.finish());
    #[cfg(feature = "panic")]
    look(some::<u8>()[*any::<usize>()]);
}
