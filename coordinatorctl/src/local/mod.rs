//! A coordinator and a worker in this process, on a data directory, for `run` and for looking at what
//! it left. They talk through the same gRPC services that a cluster uses.

mod coordinator;
mod interrupt;
mod resume;
mod worker;

use std::path::PathBuf;

use crate::exit::{Failure, Outcome};

pub(crate) use coordinator::{LocalCoordinator, StartError, has_state, in_use};
pub(crate) use interrupt::Interrupt;
pub(crate) use resume::{Plan, Wanted, changes, plan};
pub(crate) use worker::{LocalWorker, Programs, Slots, choose_slots};

/// Where `run` keeps its jobs unless told otherwise.
pub(crate) const DEFAULT_DATA_DIR: &str = "./trainyard-data";

/// A data directory as an absolute path: checkpoint URLs are made of it.
pub(crate) fn absolute(directory: &std::path::Path) -> Outcome<PathBuf> {
    std::path::absolute(directory).map_err(|error| {
        Failure::usage(format!(
            "--data-dir: cannot find {}: {error}",
            directory.display()
        ))
    })
}
