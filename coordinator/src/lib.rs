//! The coordinator: turns jobs into trials, trials into attempts, and places them on workers.
//!
//! `cluster`, `search`, `schedule` and `placement` decide and are pure; `driver`, `store` and `grpc`
//! carry out.

pub mod cluster;
pub mod config;
pub mod driver;
pub mod grpc;
pub mod placement;
pub mod schedule;
pub mod search;
mod server;
pub mod store;

pub use config::CoordinatorConfig;
pub use server::{CoordinatorError, run};
