//! What a job would do with free slots, and how much that may ask of others. Decides nothing.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::JobState;

/// What a job would do with free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Want {
    Judge(TrialId),
    Resume(TrialId),
    /// The trial that the scheduler promotes next.
    Promote,
    New,
}

/// What a job would do, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Would {
    Do(Want),
    /// Begin a trial that is being found.
    Think,
}

impl Machine {
    pub(in crate::cluster) fn want(&self, job: &JobId) -> Option<Want> {
        match self.would(job)? {
            Would::Do(want) => Some(want),
            Would::Think => None,
        }
    }

    /// Whether the job has nothing to do but to find its next trial.
    pub(in crate::cluster) fn thinks(&self, job: &JobId) -> bool {
        self.would(job) == Some(Would::Think)
    }

    fn would(&self, job: &JobId) -> Option<Would> {
        let found = self.jobs.get(job)?;
        match found.record.state {
            JobState::Evaluating => {
                let evaluation = found.record.evaluation.as_ref()?;
                let live = found.live(evaluation.trial);
                let busy = live.is_some_and(|t| t.attempts.iter().any(|a| a.outcome.is_none()));
                (!busy && evaluation.retry_at_ms <= self.now)
                    .then_some(Would::Do(Want::Judge(evaluation.trial)))
            }
            JobState::Pending | JobState::Running => {
                let mut ready = found.turns.iter().filter(|trial| {
                    let live = found.live(*trial);
                    live.is_some_and(|trial| trial.record.retry_at_ms <= self.now)
                });
                if let Some(trial) = ready.next() {
                    return Some(Would::Do(Want::Resume(trial)));
                }
                if found.is_logical() {
                    // Its logical workers have taken what comes next already.
                    return None;
                }
                let most = found.document.job().searcher.max_concurrent_trials;
                let under_way = found.pending.len() + found.running.len();
                if most.is_some_and(|most| under_way >= most.max(1) as usize) {
                    None
                } else if found.scheduler.promotable().is_some() {
                    Some(match found.choosing {
                        Some(_) => Would::Think,
                        None => Would::Do(Want::Promote),
                    })
                } else {
                    let open = found.record.search_closed.is_none();
                    let admits = found.scheduler.admits();
                    let next = match found.mind.thinks() {
                        true => Would::Think,
                        false => Would::Do(Want::New),
                    };
                    (open && admits).then_some(next)
                }
            }
            _ => None,
        }
    }

    /// Whether what the job wants is a trial that exists and waits, or the only one that would run. A
    /// search that runs might want one more for ever; that is no reason to stop its equals.
    pub(in crate::cluster) fn pushes(&self, job: &JobId) -> bool {
        let runs = self
            .jobs
            .get(job)
            .is_some_and(|found| !found.running.is_empty());
        match self.would(job) {
            Some(Would::Do(Want::Resume(_) | Want::Judge(_))) => true,
            Some(Would::Do(Want::New | Want::Promote) | Would::Think) => !runs,
            None => false,
        }
    }

    /// Whether slots are kept for the job once it has waited for long: for whatever pushes, and for gangs,
    /// which would never meet so many free slots at once.
    pub(in crate::cluster) fn is_bounded(&self, job: &JobId) -> bool {
        let gang = self.slots.queue().get(job).is_some_and(|q| q.ask.ranks > 1);
        gang || self.pushes(job)
    }
}
