//! What a job spec's text can do: fuzz targets, one a file. How they run is in `tests/fuzz/README.md`.

#![allow(clippy::unwrap_used)]

mod expression;
mod reference;
mod spec;

use trainyard_fuzz::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
