//! The network from outside: its numbers, and what it promises about threads, shards and errors.

// Helpers of tests unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod frozen;
mod images;
mod losses;
mod noise;
mod reference;
