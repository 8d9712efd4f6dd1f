//! What a scheduler has to work out before a promotion: at once where that is little, and else beside the loop.
//!
//! What is chosen follows from the log up to the ranking, whoever works it out: an answer that is lost is asked for
//! again, and is the same. Promotions keep their order and wait for it.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::{Computation, JobState, Ticket};
use crate::schedule::Chosen;

impl Machine {
    /// Whether the next promotion can be made now; else what it lacks is asked for.
    pub(in crate::cluster) fn settled(&mut self, job: &JobId) -> bool {
        let quick_ms = self.config.quick_ms;
        let Some(found) = self.jobs.get(job) else {
            return true;
        };
        let Some(choices) = found.scheduler.choices() else {
            return true;
        };
        // The promotion works it out itself.
        if choices.effort_ms() < quick_ms {
            return true;
        }
        if found.choosing.is_none() {
            let task = Computation::Choose(choices.clone());
            let ticket = self.ticket();
            if let Some(found) = self.jobs.get_mut(job) {
                found.choosing = Some(ticket);
            }
            self.compute(job, ticket, task);
        }
        false
    }

    /// The scheduler's choices are there, or will never be. Nothing, where nobody waits for them any more.
    pub(in crate::cluster) fn chosen(
        &mut self,
        job: &JobId,
        ticket: Ticket,
        chosen: Result<Chosen, String>,
    ) {
        let found = self.jobs.get_mut(job);
        let Some(found) = found.filter(|found| found.choosing == Some(ticket)) else {
            return;
        };
        found.choosing = None;
        match chosen {
            Ok(chosen) => found.scheduler.chosen(chosen),
            Err(_) if found.record.state.ended() => return,
            Err(error) => return self.stop_job(job, JobState::Failed, error),
        }
        self.touched.insert(job.clone());
        self.dirty = true;
    }
}
