//! Who has won a search that came to its end, worked out anew from what its trials told.

use trainyard_common::spec::search::Mode;
use trainyard_coordinator::cluster::api::TrialSummary;
use trainyard_coordinator::cluster::model::{JobState, JobSummary, TrialState};

use super::jobs::{Fate, Variant, variant_of};
use super::spaces::ALLOWED_OF_FEW;
use super::stats::Hit;
use super::world::World;

impl World {
    /// Looks at each search that has come to its end.
    ///
    /// # Errors
    /// A trial's best value is not the best that it told, another has won than should have, or
    /// configurations of a small space are left.
    pub(super) fn check_winners(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        let mut exhausted = 0;
        for job in leader.machine.jobs() {
            let Some(variant) = variant_of(&job.job) else {
                continue;
            };
            if job.state != JobState::Completed {
                continue;
            }
            let trials = leader.machine.trials(&job.job).unwrap_or_default();
            if variant.shape.is_few() {
                exhausted += 1;
                if trials.len() != ALLOWED_OF_FEW {
                    let (job, tried) = (&job.job, trials.len());
                    return Err(format!(
                        "{job} tried {tried} of {ALLOWED_OF_FEW} configurations"
                    ));
                }
            }
            for trial in &trials {
                let told = self.best_told(variant, trial);
                if trial.best_value != told {
                    let (job, trial, best) = (&job.job, trial.trial, trial.best_value);
                    return Err(format!(
                        "trial {trial} of {job} has {best:?}, and told {told:?}"
                    ));
                }
            }
            won(variant, &job, &trials)?;
        }
        for _ in 0..exhausted {
            self.stats.hit(Hit::SpaceExhausted);
        }
        Ok(())
    }

    /// The best value of the first objective that a trial told at the ends of its epochs.
    fn best_told(&self, variant: &Variant, trial: &TrialSummary) -> Option<f64> {
        let number = trial.trial;
        if variant.fate(number) == Fate::Mute {
            return None;
        }
        let decisions = &self.store.jobs.get(&trial.job)?.decisions;
        let points = self.store.points.get(&(trial.job.clone(), number))?;
        let ends = points.iter().filter(|(_, _, ends)| *ends);
        let told = ends.map(|(epoch, ..)| *epoch);
        let told = told.filter(|epoch| !variant.breaks_off(number, *epoch));
        let values = told.map(|epoch| {
            let params = decisions.params_until(number, epoch);
            variant.value(params.unwrap_or(&trial.params), epoch)
        });
        values.reduce(|best, next| match better(variant, next, best) {
            true => next,
            false => best,
        })
    }
}

fn better(variant: &Variant, a: f64, b: f64) -> bool {
    let first = variant.job().objectives.first();
    match first.map(|objective| objective.mode) {
        Some(Mode::Maximize) => a > b,
        _ => a < b,
    }
}

/// The first of the best of those that were not in vain has won.
fn won(variant: &Variant, job: &JobSummary, trials: &[TrialSummary]) -> Result<(), String> {
    let completed = trials
        .iter()
        .filter(|trial| trial.state == TrialState::Completed);
    let known = completed.filter_map(|trial| Some((trial.trial, trial.best_value?)));
    let best = known.reduce(|best, next| match better(variant, next.1, best.1) {
        true => next,
        false => best,
    });
    let said = job.best_trial.zip(job.best_value);
    match said == best {
        true => Ok(()),
        false => Err(format!(
            "{} says {said:?} has won, and it is {best:?}",
            job.job
        )),
    }
}
