//! What searchers compute beside the loop: asked for as an effect, taken in as an event.
//!
//! The log says when a searcher was asked. What it proposes follows from what it had heard by then, whoever works
//! it out and how long that takes: an answer that is lost is asked for again, and is the same. It is the next trial's,
//! whenever that begins.

use std::sync::Arc;

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::Effect;
use crate::cluster::model::{
    Computation, Expected, JobState, SearchEntry, SearchTask, Thought, Ticket, Told,
};

impl Machine {
    /// Asks the searcher for a trial that takes long to find.
    pub(in crate::cluster) fn think(
        &mut self,
        job: &JobId,
        trial: TrialId,
        first_resource: Option<u64>,
    ) {
        let ticket = self.ticket();
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let Some(searcher) = found.mind.send(ticket) else {
            return;
        };
        let ask = Told::Asked {
            trial,
            first_resource,
            known: None,
        };
        let task = SearchTask::ask(searcher, Arc::clone(&found.document), ask);
        self.log_search(job, SearchEntry::Asked { trial });
        self.compute(job, ticket, Computation::Search(Box::new(task)));
    }

    /// After a restart: asks for the searches that are to be made from their logs.
    pub(in crate::cluster) fn ask_unread(&mut self) {
        for (job, ticket, task) in std::mem::take(&mut self.unread) {
            let found = self.jobs.get(&job);
            if found.is_some_and(|found| found.mind.awaits(ticket)) {
                self.compute(&job, ticket, Computation::Search(task));
            }
        }
    }

    /// A searcher is back, or will never be. Nothing, where nobody waits for it any more.
    pub(in crate::cluster) fn searched(
        &mut self,
        job: &JobId,
        ticket: Ticket,
        thought: Result<Thought, String>,
    ) {
        let found = self.jobs.get_mut(job);
        let Some(found) = found.filter(|found| found.mind.awaits(ticket)) else {
            return;
        };
        let thought = match thought {
            Ok(thought) => thought,
            Err(error) if found.record.state.ended() => {
                // Nobody needs it: whoever extends the job is told.
                found.mind.rest();
                found.record.note = format!("its search cannot be read: {error}");
                self.draft.jobs.insert(job.clone());
                return;
            }
            Err(error) => return self.stop_job(job, JobState::Failed, error),
        };
        let loaded = found.mind.loads();
        let exhausted = found.mind.back(thought);
        if loaded {
            self.loaded(job);
        }
        if exhausted {
            self.exhausted(job);
        }
        self.touched.insert(job.clone());
        self.dirty = true;
    }

    /// A search was made from its log: what older records lack is known now.
    fn loaded(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.record.expected.is_none()
            && let Some(searcher) = found.mind.searcher()
        {
            found.record.expected = Some(Expected::of(searcher.expected_trials()));
            self.draft.jobs.insert(job.clone());
        }
        if self.unknown.remove(job) {
            self.draft.specs.insert(job.clone());
        }
        self.rest(job);
        // Whoever watches sees that it is there.
        let trials = Vec::new();
        let job = job.clone();
        self.draft
            .step
            .effects
            .push(Effect::Changed { job, trials });
    }
}
