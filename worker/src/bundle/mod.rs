//! Bundles of programs' code on this machine: fetched once, kept while there is room, unpacked for each attempt.
//!
//! What is in one may be hostile: its digest tells that it is what was submitted, not what that is.

mod cache;
mod unpack;

pub(crate) use cache::Cache;
pub use unpack::{Unpacked, unpack};
