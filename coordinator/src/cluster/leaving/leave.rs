//! How ended jobs leave the records: into an archive, or for good.
//!
//! An archive is written while the job's records stand; only the step that names it lets them go. It holds
//! what was stored when it was asked for: where more was stored of the job meanwhile, such as the last log
//! lines of a worker that comes back, it is not named, and another is asked for. What
//! goes, goes in pieces: first the job itself, in one step, which leaves a record of what is still to be
//! removed; then the records of its trials, a piece a turn. Series, objects and checkpoints go by an
//! effect. Whatever a restart cuts is done again. One effect is under way at a time.

use trainyard_common::ids::{JobId, RequestId};

use crate::cluster::Machine;
use crate::cluster::api::{Effect, Event, Rejection, Reply};
use crate::cluster::lifecycle::requests::fnv1a;
use crate::cluster::model::{
    ArchiveRef, ArchivedRecord, JobState, Leaving, Record, RemovalRecord, TrialSlot, archived_key,
    job_key, removal_key, spec_key,
};
use crate::cluster::parts::{Removal, Task};
use crate::cluster::view::query::job_summary;

/// Jobs whose time is over that one turn takes up.
const MAX_EXPIRED: usize = 100;

impl Machine {
    /// What is asked and told of jobs that leave.
    pub(in crate::cluster) fn leaving_event(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::Delete {
                request,
                job,
                force,
                checkpoints,
            } => self.delete(&request, &job, force, checkpoints)?,
            Event::Archive { request, job } => self.archive(&request, &job)?,
            Event::Archived { job, archive } => self.archive_written(&job, archive),
            Event::Removed { job, error } => self.remainder_removed(&job, error),
            // Every other is the caller's.
            _ => {}
        }
        Ok(())
    }

    /// Removes an ended job for good. Each request id acts once.
    fn delete(
        &mut self,
        request: &RequestId,
        job: &JobId,
        force: bool,
        checkpoints: bool,
    ) -> Result<(), Rejection> {
        let flags = format!("{force} {checkpoints}");
        let digest = fnv1a(["delete", job.as_str(), &flags]);
        if self.known_request(request, digest)?.is_none() {
            if let Some(found) = self.jobs.get(job) {
                let state = found.record.state;
                if !state.ended() && !force {
                    let hint =
                        "ended jobs alone can be deleted; cancel it first, or delete it by force";
                    return Err(not_ended(job, state, hint));
                }
                let before = found.record.leaving;
                if !state.ended() {
                    self.stop_job(job, JobState::Cancelled, String::new());
                }
                let checkpoints =
                    checkpoints || before == Some(Leaving::Delete { checkpoints: true });
                self.leave(job, Leaving::Delete { checkpoints });
            } else {
                self.delete_archived(job, checkpoints)?;
            }
            self.remember(request, digest, job);
            self.dirty = true;
        }
        self.reply(Reply::Deleted { job: job.clone() });
        Ok(())
    }

    fn delete_archived(&mut self, job: &JobId, checkpoints: bool) -> Result<(), Rejection> {
        let Some(archived) = self.retention.take(job) else {
            return Err(Rejection::UnknownJob(job.clone()));
        };
        self.draft.step.removed.push(archived_key(job));
        // Its records may still be on their way out, and its bundle.
        let left = self.removals.remove(job);
        let (attempts, entries, bundle_url) = left.map_or_else(Default::default, |left| {
            (left.attempts, left.entries, left.record.bundle_url)
        });
        let record = RemovalRecord {
            job: job.clone(),
            keep: None,
            checkpoint_url: checkpoints.then_some(archived.summary.checkpoint_url),
            bundle_url,
        };
        self.remove(Removal::new(record, attempts, entries));
        Ok(())
    }

    /// Moves an ended job into an archive. Each request id acts once.
    fn archive(&mut self, request: &RequestId, job: &JobId) -> Result<(), Rejection> {
        let digest = fnv1a(["archive", job.as_str()]);
        let known = self.known_request(request, digest)?.is_some();
        if let Some(found) = self.jobs.get(job) {
            let (state, leaving) = (found.record.state, found.record.leaving);
            if !known && !state.ended() {
                let hint = "ended jobs alone can be archived; cancel it first, or wait for its end";
                return Err(not_ended(job, state, hint));
            }
            if !known && matches!(leaving, Some(Leaving::Delete { .. })) {
                self.not_leaving(found, "archive it")?;
            }
            if !known && leaving.is_none() {
                self.leave(job, Leaving::Archive);
            }
        } else if self.retention.archived(job).is_none() {
            return Err(Rejection::UnknownJob(job.clone()));
        }
        if !known {
            self.remember(request, digest, job);
            self.dirty = true;
        }
        self.reply(Reply::Archiving {
            job: job.clone(),
            archived: self.retention.archived(job).is_some(),
        });
        Ok(())
    }

    fn leave(&mut self, job: &JobId, how: Leaving) {
        self.unretain(job);
        if let Some(found) = self.jobs.get_mut(job)
            && found.record.state.ended()
        {
            found.record.leaving = Some(how);
            self.retention.leave(job.clone());
            self.draft.jobs.insert(job.clone());
        }
    }

    /// Takes up jobs whose time is over, and removes a piece of those that are gone.
    pub(in crate::cluster) fn expire_leaving(&mut self) {
        for _ in 0..MAX_EXPIRED {
            let Some(job) = self.retention.pop_over(self.now) else {
                break;
            };
            self.leave(&job, Leaving::Archive);
        }
        let next = self.removals.values_mut().find(|left| left.has_records());
        if let Some(removal) = next {
            self.draft.step.removed.extend(removal.piece());
        }
    }

    pub(in crate::cluster) fn leaving_deadlines(&self) -> impl Iterator<Item = u64> {
        let soon = self.now + 1;
        let retained = self.retention.next_ms().map(|at| at.max(soon));
        let pieces = self.removals.values().any(Removal::has_records);
        let retries = self.keeping.retries.values().map(|(at, _)| *at);
        retained
            .into_iter()
            .chain(pieces.then_some(soon))
            .chain(retries)
    }

    /// Goes on with what can go on, whenever something has changed.
    pub(in crate::cluster) fn tend(&mut self) {
        if !self.dirty || (!self.retention.anybody_leaves() && self.removals.is_empty()) {
            return;
        }
        let ready: Vec<(JobId, bool)> = self
            .retention
            .leaving()
            .filter_map(|job| match self.jobs.get(job)?.record.leaving? {
                Leaving::Delete { checkpoints } => Some((job.clone(), checkpoints)),
                Leaving::Archive => None,
            })
            .filter(|(job, _)| !self.keeping.works_on(job) && !self.holds_slots(job))
            .collect();
        for (job, checkpoints) in ready {
            self.take_out(&job, None, checkpoints);
        }
        let done: Vec<JobId> = self
            .removals
            .iter()
            .filter(|(_, left)| left.swept && !left.has_records())
            .map(|(job, _)| job.clone())
            .collect();
        for job in done {
            self.removals.remove(&job);
            self.draft.step.removed.push(removal_key(&job));
        }
        self.ask_keeper();
    }

    /// Whether a rank of the job has slots: its last words are still to come, or its worker's lease runs.
    fn holds_slots(&self, job: &JobId) -> bool {
        self.slots.holds(job)
    }

    /// The job is gone but for what a record of its own names.
    fn take_out(&mut self, job: &JobId, keep: Option<String>, checkpoints: bool) {
        self.retention.left(job);
        self.keeping.retries.remove(job);
        let Some(found) = self.jobs.remove(job) else {
            return;
        };
        self.draft.step.removed.push(job_key(job));
        self.draft.step.removed.push(spec_key(job));
        // Those who watch it are told.
        self.draft.jobs.insert(job.clone());
        let attempts = found.trials.iter().map(TrialSlot::attempts).collect();
        let bundle = self.bundle_of(&found);
        let record = RemovalRecord {
            job: job.clone(),
            keep,
            checkpoint_url: checkpoints.then_some(found.record.checkpoint_url),
            bundle_url: bundle.filter(|bundle| !self.names_bundle(bundle)),
        };
        self.remove(Removal::new(record, attempts, found.next_entry));
    }

    fn remove(&mut self, removal: Removal) {
        let record = removal.record.clone();
        self.removals.insert(record.job.clone(), removal);
        self.draft.step.records.push(Record::Removal(record));
        self.wake_at(self.now + 1);
    }

    /// How many jobs are on their way out: those that go on, and those with which it has failed, which wait to be
    /// tried again.
    pub fn leaving_jobs(&self) -> (usize, usize) {
        let waits = |job: &&JobId| !self.keeping.may_try(job, self.now);
        let all = || self.retention.leaving().chain(self.removals.keys());
        let failed = all().filter(waits).count();
        (all().count() - failed, failed)
    }

    /// Asks for the next effect, if none is under way.
    fn ask_keeper(&mut self) {
        if self.keeping.task.is_some() {
            return;
        }
        let now = self.now;
        let unswept =
            |(job, left): &(&JobId, &Removal)| !left.swept && self.keeping.may_try(job, now);
        if let Some((job, left)) = self.removals.iter().find(unswept) {
            let (job, record) = (job.clone(), left.record.clone());
            self.draft.step.effects.push(Effect::Remove {
                job: job.clone(),
                keep: record.keep.clone(),
                checkpoint_url: record.checkpoint_url.clone(),
                bundle_url: record.bundle_url.clone(),
            });
            self.keeping.task = Some((job, Task::Remove(record)));
            return;
        }
        let mut waiting = self.retention.leaving().filter_map(|job| {
            let found = self.jobs.get(job)?;
            let ready = found.record.leaving == Some(Leaving::Archive)
                && self.keeping.may_try(job, now)
                && !self.holds_slots(job);
            ready.then(|| (job.clone(), found.trials.len()))
        });
        if let Some((job, trials)) = waiting.next() {
            let trials = u32::try_from(trials).unwrap_or(u32::MAX);
            let effect = Effect::Archive {
                job: job.clone(),
                trials,
            };
            self.draft.step.effects.push(effect);
            self.keeping.task = Some((job, Task::Archive { outdated: false }));
        }
    }

    /// The archive exists once the record that names it does: the job's own go in the same step.
    fn archive_written(&mut self, job: &JobId, archive: Result<ArchiveRef, String>) {
        let Some(Task::Archive { outdated }) = self.keeping.take(job) else {
            return;
        };
        self.dirty = true;
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.record.leaving != Some(Leaving::Archive) {
            // To be deleted since: that takes the archive along.
            return;
        }
        match archive {
            // Not at once: a worker that tells old lines tells more of them.
            Ok(_) if outdated => {
                let at = self.keeping.failed(job, now);
                self.wake_at(at);
            }
            Err(error) => {
                found.record.note = format!("cannot be archived, tried again later: {error}");
                self.draft.jobs.insert(job.clone());
                let at = self.keeping.failed(job, now);
                self.wake_at(at);
            }
            Ok(archive) => {
                let mut summary = job_summary(found);
                summary.archived_ms = now;
                let keep = archive.name.clone();
                let record = ArchivedRecord {
                    number: found.record.number,
                    summary,
                    archive,
                };
                let stored = Record::Archived(Box::new(record.clone()));
                self.draft.step.records.push(stored);
                self.retention.shelve(record);
                self.take_out(job, Some(keep), false);
            }
        }
    }

    /// All but records is gone of a job, or why it is not.
    fn remainder_removed(&mut self, job: &JobId, error: Option<String>) {
        let Some(Task::Remove(asked)) = self.keeping.take(job) else {
            return;
        };
        self.dirty = true;
        if error.is_some() {
            let at = self.keeping.failed(job, self.now);
            self.wake_at(at);
            return;
        }
        self.keeping.retries.remove(job);
        // More may have been asked for meanwhile.
        if let Some(left) = self.removals.get_mut(job) {
            left.swept = left.record == asked;
        }
    }
}

fn not_ended(job: &JobId, state: JobState, hint: &'static str) -> Rejection {
    let state = match state {
        JobState::Pending => "pending",
        JobState::Running => "running",
        JobState::Evaluating => "evaluating",
        JobState::Paused => "paused",
        JobState::Completed => "completed",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    };
    Rejection::NotEnded {
        job: job.clone(),
        state,
        hint,
    }
}
