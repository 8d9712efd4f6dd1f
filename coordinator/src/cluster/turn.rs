//! The machine's turn: one event in, one step out.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::{Effect, Event, Rejection, Step};
use crate::cluster::model::{Computed, JobState, Record, SpecRecord, Ticket};

/// Ended trials that are packed with one event after a restart: some milliseconds' worth at most.
const FROZEN_A_STEP: u32 = 32;

impl Machine {
    /// Takes in one event. `now_ms` is Unix time that never goes back (a steady clock, set by the
    /// wall clock when the process started).
    ///
    /// # Errors
    /// What was asked cannot be; nothing has changed.
    pub fn apply(&mut self, now_ms: u64, event: Event) -> Result<Step, Rejection> {
        self.now = self.now.max(now_ms);
        self.take(event).map_err(|why| self.explained(why))?;
        for (job, error) in std::mem::take(&mut self.broken) {
            self.stop_job(&job, JobState::Failed, error);
        }
        self.ask_unread();
        if self.now >= self.wake {
            self.expire();
        }
        self.tend();
        self.dispatch();
        let step = self.finish_step();
        // Only what has its record may be packed.
        self.freeze_some();
        Ok(step)
    }

    /// A job that is set aside is known, though nothing can be asked of it.
    fn explained(&self, why: Rejection) -> Rejection {
        let Rejection::UnknownJob(job) = &why else {
            return why;
        };
        match self.aside.get(job) {
            Some(aside) => Rejection::SetAside {
                job: job.clone(),
                why: aside.summary.error.clone(),
            },
            None => why,
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::Submit { request, document } => self.submit(&request, *document)?,
            Event::Cancel { request, job } => self.cancel(&request, &job)?,
            Event::Pause {
                request,
                job,
                trial,
            } => self.pause(&request, &job, trial)?,
            Event::Resume {
                request,
                job,
                trial,
            } => self.resume(&request, &job, trial)?,
            fleet @ (Event::WorkerJoined { .. }
            | Event::ForgetWorker { .. }
            | Event::Drain { .. }) => self.fleet_event(fleet)?,
            Event::WorkerLost { session } => self.worker_disconnected(session),
            Event::Heartbeat { session } => {
                self.seen(session);
            }
            Event::Pulses { session, pulses } => self.pulses(session, &pulses),
            Event::Leaving { session } => self.leaving(session),
            Event::Retry {
                request,
                job,
                trial,
            } => self.retry(&request, &job, trial)?,
            Event::Searched {
                job,
                ticket,
                computed,
            } => self.computed(&job, ticket, computed),
            more @ (Event::Extend { .. } | Event::Wake { .. }) => self.extending_event(more)?,
            Event::SetWorkspace { workspace, change } => self.set_workspace(&workspace, change)?,
            Event::RemoveWorkspace { workspace } => self.remove_workspace(&workspace),
            Event::Knocked {
                worker,
                session,
                refused,
            } => self.knocked(&worker, session, refused),
            Event::Reports { session, reports } => self.reports(session, reports),
            Event::Logs {
                session,
                rank,
                first,
                lines,
            } => self.log_lines(session, &rank, first, lines),
            Event::StoreProbed {
                worker,
                path,
                error,
            } => self.store_probed(&worker, &path, error),
            Event::Stalled { ms } => self.stalled(ms),
            Event::Tick => {}
            leaving @ (Event::Delete { .. }
            | Event::Archive { .. }
            | Event::Archived { .. }
            | Event::Removed { .. }) => self.leaving_event(leaving)?,
        }
        Ok(())
    }

    /// What was computed beside the loop is there, or will never be.
    fn computed(&mut self, job: &JobId, ticket: Ticket, computed: Result<Computed, String>) {
        match computed {
            Ok(Computed::Thought(thought)) => self.searched(job, ticket, Ok(*thought)),
            Ok(Computed::Chosen(chosen)) => self.chosen(job, ticket, Ok(chosen)),
            // Who waits for that ticket knows itself.
            Err(error) => {
                self.searched(job, ticket, Err(error.clone()));
                self.chosen(job, ticket, Err(error));
            }
        }
    }

    /// Packs some of the trials that had ended before this machine was restored. Doing it for all of them
    /// then would make a take-over longer.
    fn freeze_some(&mut self) {
        let Some((id, from)) = self.thawed.pop_first() else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let all = u32::try_from(job.trials.len()).unwrap_or(u32::MAX);
        let to = from.saturating_add(FROZEN_A_STEP).min(all);
        (from..to).for_each(|trial| job.freeze(TrialId(trial)));
        if to < all {
            self.thawed.insert(id, to);
        }
    }

    /// Collects the records that the step has changed, each once, and puts ended trials away.
    fn finish_step(&mut self) -> Step {
        let draft = std::mem::take(&mut self.draft);
        draft.touch(&mut self.touched);
        let mut step = draft.step;
        let records = &mut step.records;
        if draft.counters {
            records.push(Record::Counters(self.counters.clone()));
        }
        for job in &draft.specs {
            if let Some(found) = self.jobs.get(job) {
                records.push(Record::Spec(Box::new(SpecRecord {
                    job: job.clone(),
                    document: found.document.to_json(),
                    space: Some(found.document.space().known()),
                })));
            }
        }
        let drained = draft.workers.iter().filter_map(|id| self.drains.get(id));
        records.extend(drained.cloned().map(Record::Worker));
        records.extend(self.identities.take_changed());
        let set = draft.workspaces.iter();
        let set = set.filter_map(|name| self.workspaces.get(name));
        records.extend(set.cloned().map(Record::Workspace));
        let mut changed: BTreeMap<JobId, BTreeSet<_>> = BTreeMap::new();
        for job in &draft.jobs {
            changed.entry(job.clone()).or_default();
            if let Some(found) = self.jobs.get(job) {
                records.push(Record::Job(Box::new(found.record.clone())));
            }
        }
        records.extend(draft.search.into_iter().map(Record::Search));
        for (job, trial) in &draft.trials {
            changed.entry(job.clone()).or_default().insert(*trial);
            if let Some(found) = self.jobs.get(job).and_then(|found| found.live(*trial)) {
                records.push(Record::Trial(Box::new(found.record.clone())));
            }
        }
        for (job, trial, attempt) in &draft.attempts {
            changed.entry(job.clone()).or_default().insert(*trial);
            let found = self.jobs.get(job).and_then(|found| found.live(*trial));
            if let Some(found) = found.and_then(|trial| trial.attempt(*attempt)) {
                records.push(Record::Attempt(Box::new(found.clone())));
            }
        }
        for (job, trials) in changed {
            if let Some(found) = self.jobs.get_mut(&job) {
                trials.iter().for_each(|trial| found.freeze(*trial));
            }
            let trials = trials.into_iter().collect();
            step.effects.push(Effect::Changed { job, trials });
        }
        self.keeping.stored(&step);
        step
    }
}
