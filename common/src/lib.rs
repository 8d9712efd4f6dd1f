//! What coordinator, worker and command line agree on: identifiers, the job spec and its validation,
//! networks, search spaces, the counter-based random source, object-store URLs, text for terminals, and telemetry.
//!
//! This crate knows nothing of gRPC services, stores of records or training.

pub mod backoff;
pub mod bundle;
pub mod checkpoint;
pub mod config;
pub mod files;
pub mod ids;
pub mod leader;
mod listed;
pub mod network;
pub mod process;
pub mod rng;
pub mod space;
pub mod spec;
pub mod store_url;
pub mod telemetry;
#[doc(hidden)]
pub mod testing;
pub mod text;
