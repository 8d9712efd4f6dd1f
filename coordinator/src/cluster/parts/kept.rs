//! Slots that are kept for a job, as plain data.

use std::collections::BTreeSet;

use crate::placement::{Needs, Place};

/// Slots that are named in a note.
const MAX_NAMED: usize = 8;

/// Why slots are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Cause {
    /// Others of lower priority were asked to leave at once.
    Preempts,
    /// It has waited for long: at this time those are asked to leave who still hold them.
    Starves { ask_at_ms: u64 },
    /// They were asked.
    Asked,
    /// A search that runs would have one more gang: nobody is asked who is its equal, and until this time
    /// alone.
    Hopes { until_ms: u64 },
}

/// Slots that are kept for a job.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Kept {
    pub(in crate::cluster) places: BTreeSet<Place>,
    pub(in crate::cluster) needs: Needs,
    /// Of one gang.
    pub(in crate::cluster) ranks: u32,
    /// How many gangs they are for.
    pub(in crate::cluster) gangs: usize,
    pub(in crate::cluster) cause: Cause,
    pub(in crate::cluster) why: String,
}

impl Kept {
    /// What is kept and why, for the job's note.
    pub(in crate::cluster) fn told(&self) -> String {
        let named = self.places.iter().take(MAX_NAMED);
        let named: Vec<String> = named.map(|p| format!("{}:{}", p.worker, p.slot)).collect();
        let more = match self.places.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("; {}{more} are kept for it: {}", named.join(", "), self.why)
    }
}
