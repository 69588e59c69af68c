//! Messages over a line that flips, loses and doubles bytes.
//!
//! ```text
//! host                                        board
//!   Part 0, Part 1, Part 2 (last)      →        1 was damaged
//!                                      ←      Have {0, 2}
//!   Part 1 (last)                      →        the request is whole: it is worked on
//!   Poll, from time to time            →
//!                                      ←      Working 40 of 100
//!                                      ←      Part 0 (last)       the answer
//! ```
//!
//! Only what is missing is sent again. Where nothing comes, the host asks with `Poll`, and what the board says then tells how far both are.
//! A request is known by its session and its number: a board that has answered it sends the same answer again, and never works twice.
//! A frame of an earlier request is refused, and so is one of a session that the board does not know, because it was started since.
//!
//! Memory: two messages and a frame at each end, whatever comes over the line.

pub mod parts;
pub mod board;
pub mod host;

#[cfg(test)]
mod noise;
