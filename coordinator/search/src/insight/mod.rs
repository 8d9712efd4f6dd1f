//! What a search has found out, for people: which hyperparameters matter, how the cost depends on them, how
//! good the results have become. Pure functions of points and costs; nothing here steers a search.

mod dependence;
mod fanova;
mod forest;
mod hypervolume;
mod ped_anova;
mod progress;
mod summary;
mod tree;

pub use dependence::{Curve, Surface, Ticks, curve, surface};
pub use fanova::{Effect, Importance, Interaction, fanova};
pub use forest::Forest;
pub use hypervolume::{hypervolume, reference};
pub use ped_anova::ped_anova;
pub use progress::{Best, best_so_far, hypervolume_so_far};
pub use summary::{Summary, Together, Tried, summary};

/// Trials from which [`ped_anova`] is the better default: it takes milliseconds where a forest takes seconds,
/// and asks what matters among the good, not what tells the bad from the very bad.
pub const MANY_TRIALS: usize = 1_000;
