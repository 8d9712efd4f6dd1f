//! Answers in pages, cut before they are copied: a look at the machine makes no more than one answer holds,
//! however much there is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use serde_json::Value;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, TrialId, WorkerId};

use super::query::{job_summary, trial_summary, used, worker_summary};
use crate::cluster::Machine;
use crate::cluster::api::{TrialSummary, WorkerState, WorkerSummary, WorkspaceSummary};
use crate::cluster::model::{JobSummary, Lost, Metrics, Worker};

/// How much one page holds at most.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub entries: usize,
    /// Roughly; the entry that comes to more is the last one.
    pub bytes: usize,
}

impl Most {
    /// Everything.
    pub const ALL: Self = Self {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
}

/// A worker that is there, or was.
enum Known<'a> {
    Here(&'a Worker),
    Lost(&'a Lost),
}

/// Some of the entries, and whether others follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub entries: Vec<T>,
    pub more: bool,
}

impl<T> Page<T> {
    /// As many as fit; no more than one beyond them is made.
    pub fn cut(
        found: impl IntoIterator<Item = T>,
        most: Most,
        bytes: impl Fn(&T) -> usize,
    ) -> Self {
        let (mut entries, mut held) = (Vec::new(), 0_usize);
        for entry in found {
            if entries.len() >= most.entries || held >= most.bytes {
                return Self {
                    entries,
                    more: true,
                };
            }
            held = held.saturating_add(bytes(&entry));
            entries.push(entry);
        }
        Self {
            entries,
            more: false,
        }
    }
}

impl Machine {
    /// Jobs that are not archived, in the order of submission.
    pub fn jobs(&self) -> Vec<JobSummary> {
        let page = self.jobs_page(u64::MAX, "", false, Most::ALL);
        let newest_first = page.entries.into_iter().map(|(_, summary)| summary);
        newest_first.rev().collect()
    }

    /// The job's trials in order; `None` without such a job.
    pub fn trials(&self, job: &JobId) -> Option<Vec<TrialSummary>> {
        let page = self.trials_page(job, TrialId(0), Most::ALL)?;
        Some(page.entries)
    }

    /// In the order of their ids, lost ones among them.
    pub fn workers(&self) -> Vec<WorkerSummary> {
        self.workers_page("", Most::ALL).entries
    }

    /// Workspaces with terms of their own, and those whose jobs have not ended or still hold slots.
    pub fn workspaces(&self) -> Vec<WorkspaceSummary> {
        self.workspaces_page("", Most::ALL).entries
    }

    /// Numbers and summaries of archived jobs, or of the others, the newest first: those of `workspace`
    /// (empty: of all) with a number below `before`.
    pub fn jobs_page(
        &self,
        before: u64,
        workspace: &str,
        archived: bool,
        most: Most,
    ) -> Page<(u64, JobSummary)> {
        let of = |found: &str| workspace.is_empty() || found == workspace;
        let size = |(_, summary): &(u64, JobSummary)| summary.bytes();
        if archived {
            let kept = self.retention.before(before);
            let kept = kept.filter(|kept| of(&kept.summary.workspace));
            let found = kept.map(|kept| (kept.number, kept.summary.clone()));
            return Page::cut(found, most, size);
        }
        let jobs = self.jobs.before(before);
        let mut jobs = jobs
            .filter(|job| of(&job.record.workspace))
            .map(|job| (job.record.number, job_summary(job)))
            .peekable();
        let aside = self.aside.before(before);
        let mut aside = aside
            .filter(|job| of(&job.summary.workspace))
            .map(|job| (job.number, job.summary.clone()))
            .peekable();
        let found = std::iter::from_fn(|| {
            let first = |next: Option<&(u64, JobSummary)>| next.map(|(number, _)| *number);
            match first(aside.peek()) > first(jobs.peek()) {
                true => aside.next(),
                false => jobs.next(),
            }
        });
        Page::cut(found, most, size)
    }

    /// The job's trials from `first` on; `None` without such a job.
    pub fn trials_page(
        &self,
        job: &JobId,
        first: TrialId,
        most: Most,
    ) -> Option<Page<TrialSummary>> {
        if self.aside.get(job).is_some() {
            let (entries, more) = (Vec::new(), false);
            return Some(Page { entries, more });
        }
        let count = self.jobs.get(job)?.trials.len();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.some_trials(job, (first.0..count).map(TrialId), most)
    }

    /// Of the named trials those that there are; `None` without such a job.
    pub fn some_trials(
        &self,
        job: &JobId,
        named: impl IntoIterator<Item = TrialId>,
        most: Most,
    ) -> Option<Page<TrialSummary>> {
        let job = self.jobs.get(job)?;
        let found = named.into_iter().filter_map(|trial| job.trial(trial));
        let found = found.map(|trial| trial_summary(job.objective(), trial));
        Some(Page::cut(found, most, TrialSummary::bytes))
    }

    /// Workers in the order of their ids, above `after`; lost ones among them.
    pub fn workers_page(&self, after: &str, most: Most) -> Page<WorkerSummary> {
        let after = WorkerId::from(after);
        let medians = self.medians();
        let here = self.workers.values();
        let here = here.map(|worker| (&worker.info.worker, Known::Here(worker)));
        let lost = self.workers.lost();
        let lost = lost.map(|lost| (&lost.info.worker, Known::Lost(lost)));
        let known = lost.chain(here).filter(|(id, _)| **id > after);
        let known: BTreeMap<&WorkerId, Known<'_>> = known.collect();
        let found = known.into_values().map(|known| {
            let worker = match known {
                Known::Here(worker) => worker,
                Known::Lost(lost) => {
                    return WorkerSummary {
                        state: WorkerState::Lost,
                        since_ms: lost.lost_ms,
                        note: lost.why.clone(),
                        ..worker_summary(&lost.info, lost.seen_ms)
                    };
                }
            };
            let (state, since_ms, note) = self.worker_state(worker, &medians);
            let kept = self.slots.index().kept_free(&worker.info.worker);
            WorkerSummary {
                slots_used: used(&worker.slots),
                slots_kept: u32::try_from(kept).unwrap_or(u32::MAX),
                connected: worker.session.is_some(),
                draining: worker.draining,
                state,
                since_ms,
                note,
                ..worker_summary(&worker.info, worker.last_seen_ms)
            }
        });
        Page::cut(found, most, WorkerSummary::bytes)
    }

    /// Workspaces with terms of their own, and those whose jobs have not ended or still hold slots, in the
    /// order of their names, above `after`.
    pub fn workspaces_page(&self, after: &str, most: Most) -> Page<WorkspaceSummary> {
        // Counted in one go: there may be many jobs and many workspaces.
        let mut active = BTreeMap::<&str, u32>::new();
        for job in self.jobs.active() {
            *active.entry(&job.record.workspace).or_default() += 1;
        }
        let mut waiting = BTreeMap::<&str, u32>::new();
        for (_, queued) in self.slots.queue().jobs() {
            *waiting.entry(&queued.workspace).or_default() += 1;
        }
        let mut names: BTreeSet<&str> = active.keys().copied().collect();
        names.extend(self.slots.queue().workspaces());
        names.extend(self.workspaces.keys().map(String::as_str));
        let names = names.range::<str, _>((Excluded(after), Unbounded));
        let found = names.map(|name| {
            let count = |of: &BTreeMap<&str, u32>| of.get(name).copied().unwrap_or(0);
            self.workspace_summary(name, count(&active), count(&waiting))
        });
        Page::cut(found, most, |summary| 128 + summary.workspace.len())
    }
}

impl JobSummary {
    fn bytes(&self) -> usize {
        let texts = [
            &self.name,
            &self.workspace,
            &self.objective,
            &self.error,
            &self.note,
            &self.chosen,
            &self.checkpoint_url,
        ];
        256 + lengths(texts) + metric_bytes(&self.test_metrics)
    }
}

impl TrialSummary {
    /// Roughly what it holds.
    pub fn bytes(&self) -> usize {
        let params = self.params.iter().chain(self.suggested.iter().flatten());
        let params: usize = params
            .map(|(name, value)| name.len() + json_bytes(value))
            .sum();
        let marked = [&self.best_checkpoint, &self.latest_checkpoint];
        let checkpoints = self.checkpoints.iter().chain(marked.into_iter().flatten());
        let checkpoints: usize = checkpoints.map(checkpoint_bytes).sum();
        let attempts = self.attempts.iter().map(|attempt| {
            128 + 256 * attempt.ranks.len() + attempt.error.len() + attempt.reason.len()
        });
        let texts = lengths([&self.error, &self.reason]);
        let metrics = metric_bytes(&self.metrics);
        256 + params + checkpoints + attempts.sum::<usize>() + texts + metrics
    }
}

impl WorkerSummary {
    fn bytes(&self) -> usize {
        let texts = [&self.host, &self.version, &self.note, &self.cpu_kind];
        256 + lengths(texts) + lengths(&self.devices)
    }
}

fn lengths<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| 32 + text.len()).sum()
}

fn metric_bytes(metrics: &Metrics) -> usize {
    metrics.iter().map(|(name, _)| 48 + name.len()).sum()
}

fn checkpoint_bytes(reference: &CheckpointRef) -> usize {
    let texts = lengths([&reference.manifest, &reference.digest]);
    64 + texts + metric_bytes(&reference.metrics)
}

/// Roughly what a parameter's value holds.
fn json_bytes(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json_bytes).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| name.len() + json_bytes(value))
                .sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::json_bytes;

    #[test]
    fn text_counts_wherever_it_lies() {
        let text = "x".repeat(1_000);
        for value in [
            json!(text),
            json!([1, text]),
            json!({"a": text}),
            json!({text.clone(): 1}),
        ] {
            let bytes = json_bytes(&value);
            assert!((1_000..1_200).contains(&bytes), "{bytes}: {value}");
        }
        assert!(json_bytes(&json!(0.5)) > 0);
    }
}
