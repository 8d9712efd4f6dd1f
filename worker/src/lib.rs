//! A worker: trains trials on its slots for a coordinator, and the training engine that it uses.
//!
//! `train`, `model`, `data`, `collective` and `checkpoint` are a library that knows nothing of the
//! cluster; `agent` and `runner` join it to one.

pub mod agent;
pub mod checkpoint;
pub mod collective;
pub mod config;
pub mod data;
pub mod devices;
pub mod model;
pub mod runner;
pub mod train;
