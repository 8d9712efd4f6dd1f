//! The coordinator: turns jobs into trials, trials into attempts, and places them on workers.
//!
//! `cluster`, `search`, `schedule` and `placement` decide and are pure; `driver`, `store` and `grpc`
//! carry out.

mod archive;
mod bundles;
mod clients;
pub mod cluster;
pub mod config;
mod driver;
mod grpc;
pub mod placement;
mod server;
pub mod store;

pub use config::CoordinatorConfig;
pub use driver::DriverError;
pub use server::{CoordinatorError, run, run_with};
pub use trainyard_search::{insight, schedule, search, study};

/// Fuzz targets measure what an input takes.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: trainyard_fuzz::Counting = trainyard_fuzz::Counting;
