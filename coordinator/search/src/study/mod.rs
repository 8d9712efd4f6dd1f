//! A whole search without a cluster: searcher and scheduler, and which trials are under way.
//!
//! Pure: the same calls give the same answers. Whoever asks trains the trials; the cluster, which places
//! them, does its own bookkeeping with the same searcher and scheduler.

pub mod protocol;
pub mod simulate;

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::{JobSpec, ObjectiveSpec, Params};

use crate::schedule::{CloneOf, Scheduler, Verdict};
use crate::search::{Observation, Outcome, SearchError, Searcher};

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Train(Stretch),
    /// Results of trials under way are needed first.
    Wait,
    /// The search is over.
    Done,
}

/// A trial that is to be trained now.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    pub trial: TrialId,
    pub params: Params,
    /// The resource that it has and the one until which it is to be trained; `None` without a scheduler.
    pub from: Option<u64>,
    pub until: Option<u64>,
    /// Whose checkpoint it goes on from, where that is not its own.
    pub clone: Option<CloneOf>,
}

/// What becomes of a trial after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Continue,
    Pause,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StudyError {
    #[error("trial: there is no trial {0}")]
    UnknownTrial(TrialId),
    #[error(
        "trial: {0} {1}; accepted are trials that were asked for and have not been paused, stopped or ended"
    )]
    NotUnderWay(TrialId, &'static str),
    #[error("trial: {0} was told already")]
    ToldTwice(TrialId),
    #[error("resource: {given} given; accepted for trial {trial} are whole numbers {accepted}")]
    Resource {
        trial: TrialId,
        given: u64,
        accepted: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    /// Was taken its place; is asked for again.
    Preempted,
    Paused,
    Ended,
}

#[derive(Debug, Clone)]
struct Member {
    params: Params,
    state: State,
    /// The newest that was reported, or that it had when it began.
    resource: u64,
    told: bool,
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Study {
    searcher: Searcher,
    scheduler: Scheduler,
    objectives: Vec<ObjectiveSpec>,
    members: Vec<Member>,
    preempted: BTreeSet<TrialId>,
    under_way: usize,
    most_under_way: usize,
    /// No new trial will begin.
    closed: bool,
    goal_reached: bool,
}

impl Study {
    /// The search of a job as accepted.
    ///
    /// # Errors
    /// As [`Searcher::of`].
    pub fn of(job: &JobSpec) -> Result<Self, SearchError> {
        Ok(Self {
            searcher: Searcher::of(job)?,
            scheduler: Scheduler::of(job),
            objectives: job.objectives.clone(),
            members: Vec::new(),
            preempted: BTreeSet::new(),
            under_way: 0,
            most_under_way: job
                .searcher
                .max_concurrent_trials
                .map_or(usize::MAX, |most| most.max(1) as usize),
            closed: false,
            goal_reached: false,
        })
    }

    pub fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    pub fn objectives(&self) -> &[ObjectiveSpec] {
        &self.objectives
    }

    /// Whether trials are compared on the way, at resources.
    pub fn has_resources(&self) -> bool {
        !self.scheduler.is_fifo()
    }

    /// What to train next: who lost its place, then who is promoted, then a new trial.
    pub fn ask(&mut self) -> Ask {
        if self.goal_reached {
            return Ask::Done;
        }
        if self.under_way >= self.most_under_way {
            return Ask::Wait;
        }
        if let Some(trial) = self.preempted.pop_first() {
            return Ask::Train(self.begin(trial, None));
        }
        loop {
            if let Some(stretch) = self.promote() {
                return Ask::Train(stretch);
            }
            if !self.closed && self.scheduler.admits() {
                if let Some(params) = self.suggest() {
                    return Ask::Train(self.new_trial(params));
                }
                self.close();
                continue;
            }
            if self.under_way > 0 {
                return Ask::Wait;
            }
            if self.closed {
                return Ask::Done;
            }
            // Nobody is left who could make room.
            self.close();
        }
    }

    /// A trial has come to values, in the order of the objectives, at a resource.
    ///
    /// # Errors
    /// Where the trial is not under way, or the resource not beyond what it had.
    pub fn report(
        &mut self,
        trial: TrialId,
        resource: u64,
        values: &[Option<f64>],
    ) -> Result<Decision, StudyError> {
        let member = self.under_way(trial)?;
        let had = member.resource;
        let until = self.scheduler.until(trial);
        if resource <= had || until.is_some_and(|until| resource > until) {
            let most = until.map_or(String::new(), |until| format!(" to {until}"));
            return Err(StudyError::Resource {
                trial,
                given: resource,
                accepted: format!("from {}{most}", had + 1),
            });
        }
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.resource = resource;
        }
        self.check_goal(values);
        let value = first(values);
        if self.goal_reached {
            self.end(trial, Outcome::Stopped { value }, values);
            return Ok(Decision::Stop);
        }
        if self.scheduler.reaches(trial, resource).is_none() {
            return Ok(Decision::Continue);
        }
        self.searcher.reached(trial, resource, value);
        let all = several(values);
        Ok(
            match self.scheduler.reached_with(trial, resource, value, &all) {
                Verdict::Continue => Decision::Continue,
                Verdict::Pause => {
                    self.leave(trial, State::Paused);
                    Decision::Pause
                }
                Verdict::Stop => {
                    self.end(trial, Outcome::Stopped { value }, values);
                    Decision::Stop
                }
                Verdict::Done => {
                    self.end(trial, Outcome::Completed { value }, values);
                    Decision::Stop
                }
            },
        )
    }

    /// A trial has ended its stretch with values: at its rung, if it was on the way to one, else for good.
    /// Of a trial that was paused or stopped it is accepted, once, and changes nothing.
    ///
    /// # Errors
    /// Where the trial is unknown or was told before.
    pub fn tell(&mut self, trial: TrialId, values: &[Option<f64>]) -> Result<(), StudyError> {
        let member = self.member(trial)?;
        match member.state {
            State::UnderWay => {
                let until = self.scheduler.until(trial);
                if let Some(until) = until.filter(|until| *until > member.resource) {
                    self.report(trial, until, values)?;
                }
                if self.member(trial)?.state == State::UnderWay {
                    self.check_goal(values);
                    let value = first(values);
                    self.end(trial, Outcome::Completed { value }, values);
                }
            }
            State::Preempted => {
                return Err(StudyError::NotUnderWay(trial, "was preempted"));
            }
            State::Paused | State::Ended if member.told => {
                return Err(StudyError::ToldTwice(trial));
            }
            State::Paused | State::Ended => {}
        }
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.told = true;
        }
        Ok(())
    }

    /// A trial has ended without a value.
    ///
    /// # Errors
    /// Where the trial is not under way.
    pub fn fail(&mut self, trial: TrialId, outcome: Outcome) -> Result<(), StudyError> {
        self.under_way(trial)?;
        self.end(trial, outcome, &[]);
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.told = true;
        }
        Ok(())
    }

    /// A trial has lost its place: it is asked for again, from the last resource that it reported.
    ///
    /// # Errors
    /// Where the trial is not under way.
    pub fn preempt(&mut self, trial: TrialId) -> Result<(), StudyError> {
        self.under_way(trial)?;
        self.leave(trial, State::Preempted);
        self.preempted.insert(trial);
        Ok(())
    }

    fn member(&self, trial: TrialId) -> Result<&Member, StudyError> {
        let found = self.members.get(trial.0 as usize);
        found.ok_or(StudyError::UnknownTrial(trial))
    }

    fn under_way(&self, trial: TrialId) -> Result<&Member, StudyError> {
        let member = self.member(trial)?;
        let why = match member.state {
            State::UnderWay => return Ok(member),
            State::Preempted => "was preempted",
            State::Paused => "is paused",
            State::Ended => "has ended",
        };
        Err(StudyError::NotUnderWay(trial, why))
    }

    fn suggest(&mut self) -> Option<Params> {
        let number = u32::try_from(self.members.len()).ok()?;
        let first_resource = self.scheduler.first_resource();
        self.searcher.suggest(TrialId(number), first_resource)
    }

    fn new_trial(&mut self, params: Params) -> Stretch {
        let trial = TrialId(self.members.len() as u32);
        self.scheduler.begun(trial, &params);
        self.members.push(Member {
            params,
            state: State::Paused,
            resource: 0,
            told: false,
        });
        self.begin(trial, None)
    }

    fn promote(&mut self) -> Option<Stretch> {
        let trial = self.scheduler.promotable()?.trial;
        let promotion = self.scheduler.promote(trial)?;
        self.searcher.promoted(trial);
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            if let Some(source) = &promotion.clone {
                member.resource = source.resource;
            }
            if let Some(params) = promotion.params {
                member.params = params;
            }
        }
        Some(self.begin(trial, promotion.clone))
    }

    fn begin(&mut self, trial: TrialId, clone: Option<CloneOf>) -> Stretch {
        self.under_way += 1;
        let has_resources = self.has_resources();
        let until = self.scheduler.until(trial);
        let mut stretch = Stretch {
            trial,
            params: Params::new(),
            from: None,
            until,
            clone,
        };
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.state = State::UnderWay;
            member.told = false;
            stretch.params = member.params.clone();
            stretch.from = has_resources.then_some(member.resource);
        }
        stretch
    }

    fn leave(&mut self, trial: TrialId, state: State) {
        self.under_way -= 1;
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.state = state;
        }
    }

    fn end(&mut self, trial: TrialId, outcome: Outcome, values: &[Option<f64>]) {
        self.leave(trial, State::Ended);
        let values = several(values);
        self.scheduler.ended_with(trial, outcome.value(), &values);
        self.searcher.observe(&Observation {
            trial,
            outcome,
            values,
        });
    }

    /// No new trial begins any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.scheduler.close();
    }

    fn check_goal(&mut self, values: &[Option<f64>]) {
        let reached = self
            .objectives
            .iter()
            .zip(values)
            .any(|(objective, value)| {
                let goal = objective.goal.zip(*value);
                goal.is_some_and(|(goal, value)| !objective.mode.better(goal, value))
            });
        self.goal_reached |= reached;
    }
}

/// The values of several objectives, if all are numbers.
fn several(values: &[Option<f64>]) -> Vec<f64> {
    let all: Option<Vec<f64>> = values.iter().copied().collect();
    let finite =
        |values: &Vec<f64>| values.len() > 1 && values.iter().all(|value| value.is_finite());
    all.filter(finite).unwrap_or_default()
}

/// The first objective's value, if it is a number.
fn first(values: &[Option<f64>]) -> Option<f64> {
    let value = values.first().copied().flatten();
    value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod fuzz_lines;
#[cfg(test)]
mod tests;
