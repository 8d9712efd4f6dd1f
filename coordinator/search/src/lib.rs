//! The search: who proposes configurations, and who decides which trials go on. Pure, and a package of its
//! own so that it knows neither the cluster nor a store, and is compiled and tested alone.

pub mod insight;
mod kendall;
pub mod pareto;
pub mod schedule;
pub mod search;
pub mod study;

/// Fuzz targets measure what an input takes.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: trainyard_fuzz::Counting = trainyard_fuzz::Counting;
