//! The shapes of what `checkpoint verify` and `trial verify` find.

use serde::Serialize;

/// `checkpoint verify`: one line for each checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verified {
    pub(crate) trial_id: u32,
    pub(crate) manifest: String,
    pub(crate) step: u64,
    /// Tensors in it; 0 when it is not whole, and of a program's checkpoint.
    pub(crate) tensors: usize,
    /// Files in a program's checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<usize>,
    pub(crate) whole: bool,
    pub(crate) error: Option<String>,
}

impl Verified {
    /// What is in one that is whole.
    pub(crate) fn held(&self) -> String {
        match self.files {
            Some(files) => format!("{files} files"),
            None => format!("{} tensors", self.tensors),
        }
    }
}

/// `trial verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TrialVerified {
    pub(crate) job_id: String,
    pub(crate) trial_id: u32,
    /// Kind of this machine's processor.
    pub(crate) processor: String,
    pub(crate) checkpoints: Vec<Verified>,
    /// With `--replay`, newest first.
    pub(crate) replayed: Vec<ReplayedStretch>,
}

/// Steps between two checkpoints that were trained once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ReplayedStretch {
    pub(crate) from_step: u64,
    pub(crate) to_step: u64,
    /// Kinds of processor on which it was trained, in order; `null` where that was not kept.
    pub(crate) processors: Vec<Option<String>>,
    /// `null`: not compared, as it was trained on another kind of processor.
    pub(crate) same: Option<bool>,
    /// Values that were compared.
    pub(crate) values: Option<u64>,
    pub(crate) difference: Option<Different>,
}

/// Where a checkpoint and a replay differ first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Different {
    pub(crate) place: String,
    pub(crate) stored: String,
    pub(crate) replayed: String,
    /// How many values differ in all.
    pub(crate) values: u64,
}

impl From<trainyard_worker::train::Difference> for Different {
    fn from(found: trainyard_worker::train::Difference) -> Self {
        Self {
            place: found.place,
            stored: found.stored,
            replayed: found.replayed,
            values: found.values,
        }
    }
}
