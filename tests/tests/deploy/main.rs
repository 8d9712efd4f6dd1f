//! What `deploy/` ships is true: it renders, fits the published schemas, and sets nothing that the
//! programs do not read. No cluster and no container engine is asked.

mod chart;
mod image;
mod programs;
mod tools;
mod units;
