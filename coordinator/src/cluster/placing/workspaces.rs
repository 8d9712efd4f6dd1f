//! Workspaces: the weight of their share and their quota, as people set them. A workspace that nobody has
//! set anything for has weight 1 and no quota.

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply, WorkspaceChange, WorkspaceSummary};
use crate::cluster::model::{WorkspaceRecord, workspace_key};
use crate::placement::queue::Terms;

/// Workspaces that can have a weight or a quota.
const MAX_WORKSPACES: usize = 1_000;

const MAX_NAME: usize = 63;

/// Weights that are accepted.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

impl Machine {
    /// Sets what is given and leaves the rest as it is. Asked twice, nothing changes.
    pub(in crate::cluster) fn set_workspace(
        &mut self,
        workspace: &str,
        change: WorkspaceChange,
    ) -> Result<(), Rejection> {
        self.check_workspace(workspace, &change)?;
        let before = self.workspaces.get(workspace).cloned();
        let mut record = before
            .clone()
            .unwrap_or_else(|| WorkspaceRecord::new(workspace));
        record.weight = change.weight.unwrap_or(record.weight);
        if change.no_quota {
            record.max_cpu_slots = None;
            record.max_cuda_slots = None;
        }
        record.max_cpu_slots = change.max_cpu_slots.or(record.max_cpu_slots);
        record.max_cuda_slots = change.max_cuda_slots.or(record.max_cuda_slots);
        if before.as_ref() != Some(&record) {
            self.workspaces.insert(workspace.to_owned(), record);
            self.draft.workspaces.insert(workspace.to_owned());
            self.take_terms(workspace);
        }
        self.reply(Reply::Workspace(self.own_summary(workspace)));
        Ok(())
    }

    /// Takes back what was set, if anything was.
    pub(in crate::cluster) fn remove_workspace(&mut self, workspace: &str) {
        if self.workspaces.remove(workspace).is_some() {
            self.draft.step.removed.push(workspace_key(workspace));
            self.take_terms(workspace);
        }
        self.reply(Reply::Workspace(self.own_summary(workspace)));
    }

    fn check_workspace(&self, workspace: &str, change: &WorkspaceChange) -> Result<(), Rejection> {
        let refused = |field: &'static str, message: String| {
            Err(Rejection::Workspace {
                workspace: workspace.to_owned(),
                field,
                message,
            })
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let named = (1..=MAX_NAME).contains(&workspace.len())
            && workspace.chars().all(fits)
            && workspace.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !named {
            let text = "accepted: letters, digits, `-` and `_`, beginning with a letter or digit, at most 63";
            return refused("name", text.to_owned());
        }
        if let Some(weight) = change.weight.filter(|weight| !WEIGHTS.contains(weight)) {
            let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
            let text = format!("{weight} given; accepted: from {least} to {most}");
            return refused("weight", text);
        }
        let nothing = change.weight.is_none() && change.max_cpu_slots.is_none();
        if nothing && change.max_cuda_slots.is_none() && !change.no_quota {
            return refused(
                "weight",
                "neither a weight nor a quota was given".to_owned(),
            );
        }
        let new = !self.workspaces.contains_key(workspace);
        if new && self.workspaces.len() >= MAX_WORKSPACES {
            let text = format!("{MAX_WORKSPACES} workspaces have terms already; remove one first");
            return refused("name", text);
        }
        Ok(())
    }

    /// The queue goes by what was set from now on.
    pub(in crate::cluster) fn take_terms(&mut self, workspace: &str) {
        let record = self.workspaces.get(workspace);
        let terms = record.map_or_else(Terms::default, |record| Terms {
            weight: record.weight,
            most: [record.max_cpu_slots, record.max_cuda_slots],
        });
        self.slots.queue_mut().set_terms(workspace, terms);
        let jobs = self.slots.queue().jobs();
        let own = jobs.filter(|(_, queued)| queued.workspace == workspace);
        let own: Vec<_> = own.map(|(job, _)| job.clone()).collect();
        self.untold.extend(own);
        self.dirty = true;
    }

    pub(in crate::cluster) fn workspace_summary(
        &self,
        workspace: &str,
        jobs_active: u32,
        jobs_waiting: u32,
    ) -> WorkspaceSummary {
        let terms = self.slots.queue().terms(workspace);
        let [cpu, cuda] = self.slots.queue().used(workspace);
        WorkspaceSummary {
            workspace: workspace.to_owned(),
            weight: terms.weight,
            max_cpu_slots: terms.most[0],
            max_cuda_slots: terms.most[1],
            cpu_slots_used: cpu,
            cuda_slots_used: cuda,
            share: self.slots.queue().share(workspace).value() * terms.weight,
            jobs_active,
            jobs_waiting,
        }
    }

    /// The summary of one.
    fn own_summary(&self, workspace: &str) -> WorkspaceSummary {
        let active = self.jobs.active();
        let own = active.filter(|job| job.record.workspace == workspace);
        let waiting = self.slots.queue().jobs();
        let waiting = waiting.filter(|(_, queued)| queued.workspace == workspace);
        let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
        self.workspace_summary(workspace, count(own.count()), count(waiting.count()))
    }
}
