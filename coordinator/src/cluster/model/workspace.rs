//! What was set for a workspace.

use serde::{Deserialize, Serialize};

/// What was set for a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    pub workspace: String,
    /// Of its share, above 0.
    pub weight: f64,
    /// Most slots at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu_slots: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cuda_slots: Option<u32>,
}

impl WorkspaceRecord {
    /// Of one for which nothing was set.
    pub fn new(workspace: &str) -> Self {
        Self {
            workspace: workspace.to_owned(),
            weight: 1.0,
            max_cpu_slots: None,
            max_cuda_slots: None,
        }
    }
}
