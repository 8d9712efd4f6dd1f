//! What a job's search computes beside the loop: plain data that goes there, and what comes of it.

use super::told::{SearchTask, Thought};
use crate::schedule::{Choices, Chosen};

/// A choice of this effort may take seconds.
const LONG_MS: u64 = 1_000;

/// Something that a job's search waits for.
#[derive(Debug, Clone)]
pub enum Computation {
    /// Its searcher has something to work out.
    Search(Box<SearchTask>),
    /// Its scheduler has.
    Choose(Choices),
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Computed {
    Thought(Box<Thought>),
    Chosen(Chosen),
}

impl Computation {
    /// Whether it may take seconds: such tasks leave room for others.
    pub fn is_long(&self) -> bool {
        match self {
            Self::Search(task) => task.is_long(),
            Self::Choose(choices) => choices.effort_ms() >= LONG_MS,
        }
    }

    /// Whether it is of the scheduler. Of a job's searcher and of its scheduler only the newest is waited for.
    pub fn chooses(&self) -> bool {
        matches!(self, Self::Choose(_))
    }

    /// Computes it, however long that takes. The same wherever and whenever it is done.
    ///
    /// # Errors
    /// The log of a search does not replay, or the spec makes no searcher any more.
    pub fn run(self) -> Result<Computed, String> {
        match self {
            Self::Search(task) => Ok(Computed::Thought(Box::new(task.run()?))),
            Self::Choose(choices) => Ok(Computed::Chosen(choices.work_out())),
        }
    }
}
