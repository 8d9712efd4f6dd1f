//! Schedulers against tables that were worked out by hand, the papers' rules as written, and random worlds.

mod asha;
mod auto;
mod population;
mod rules;
mod world;
