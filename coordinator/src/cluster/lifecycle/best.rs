//! The best trial of a job, and the best checkpoint of a trial.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::ObjectiveSpec;

use crate::cluster::Machine;
use crate::cluster::model::{Best, Job, Trial, TrialState};

impl Machine {
    /// A trial has a better value than it had: it may be the job's best now.
    pub(in crate::cluster) fn better_trial(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let Some((value, step)) = found.trials.get(trial.0 as usize).and_then(|t| t.best()) else {
            return;
        };
        if beats(found, trial, value, found.record.best) {
            found.record.best = Some(Best { trial, value, step });
            self.draft.jobs.insert(job.clone());
        }
    }

    /// A failed trial does not win, however good it was before.
    pub(in crate::cluster) fn forget_best(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.record.best.is_some_and(|best| best.trial == trial) {
            found.record.best = best_among(found, |state| state != TrialState::Failed);
            self.draft.jobs.insert(job.clone());
        }
    }
}

/// Whether a value takes the first place; of equal ones the lower trial has it.
fn beats(job: &Job, trial: TrialId, value: f64, best: Option<Best>) -> bool {
    let Some(mode) = job.objective().map(|objective| objective.mode) else {
        return false;
    };
    match best {
        None => true,
        Some(best) if best.trial == trial => mode.better(value, best.value),
        Some(best) => {
            mode.better(value, best.value)
                || (!mode.better(best.value, value) && trial < best.trial)
        }
    }
}

pub(in crate::cluster) fn best_among(
    job: &Job,
    counts: impl Fn(TrialState) -> bool,
) -> Option<Best> {
    let mut best = None;
    for (number, slot) in (0u32..).zip(&job.trials) {
        let trial = TrialId(number);
        if let Some((value, step)) = slot.best().filter(|_| counts(slot.state()))
            && beats(job, trial, value, best)
        {
            best = Some(Best { trial, value, step });
        }
    }
    best
}

/// The checkpoint with the best objective value, of equal ones the earliest; without values the
/// newest.
pub(in crate::cluster) fn best_checkpoint(
    objective: Option<&ObjectiveSpec>,
    trial: &Trial,
) -> Option<CheckpointRef> {
    let known = &trial.record.checkpoints;
    let valued = objective.and_then(|objective| {
        let valued = known.iter().filter_map(|checkpoint| {
            let value = checkpoint.metric(&objective.metric)?;
            value.is_finite().then_some((value, checkpoint))
        });
        valued.reduce(|best, next| {
            if objective.mode.better(next.0, best.0) {
                next
            } else {
                best
            }
        })
    });
    valued
        .map(|(_, checkpoint)| checkpoint)
        .or(known.last())
        .cloned()
}
