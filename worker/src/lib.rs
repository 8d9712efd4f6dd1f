//! A worker: trains trials on its slots for a coordinator, and the training engine that it uses.
//!
//! `train`, `weights`, `data`, `collective` and `checkpoint` are a library that knows nothing of the
//! cluster; networks are a package of their own, `trainyard-network`. `attempt <- outbox <- runner <- agent` join it to one, and know each other in this direction
//! only.

pub mod agent;
mod attempt;
pub mod bundle;
pub mod checkpoint;
pub mod collective;
pub mod config;
pub mod data;
pub mod devices;
mod machine;
mod outbox;
pub mod runner;
pub mod train;
pub mod weights;

/// Fuzz targets measure what an input takes.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: trainyard_fuzz::Counting = trainyard_fuzz::Counting;
