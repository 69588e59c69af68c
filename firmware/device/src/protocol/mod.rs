//! What goes over the serial line: a request, and its answer.
//!
//! A message ([`messages`]) is encoded with postcard, cut into parts, and each part put into a frame ([`frame`]) of at most 128 bytes; the
//! [`link`] sends again what did not arrive. The host leads: a board speaks only when it has been spoken to, and needs no clock.

pub mod messages;
pub mod frame;
pub mod link;
