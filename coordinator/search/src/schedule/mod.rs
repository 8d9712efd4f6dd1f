//! Trial schedulers: who decides how far a trial goes, and which goes on. Pure.
//!
//! A scheduler sees what the job's search log holds, in its order, and nothing else: which trials were
//! begun, what they came to at a resource, how they ended, whom it promoted, that no more will begin. So its
//! decisions follow from the log, and replaying the log gives them again. What people hold and which slots
//! are free it never hears; nor that an attempt was preempted, which goes on from its checkpoint.
//!
//! One answers: until which resource an attempt of a trial runs (`until`), which results count (`reaches`)
//! and what they mean (`reached`), whether a trial that waits is to go on (`promotable`), and whether a new
//! one may begin (`admits`). The resource is the number of complete epochs that reports name.

mod agreement;
mod asha;
mod auto;
mod choices;
mod early;
mod explore;
mod halving;
mod hyperband;
pub mod logical;
mod median;
mod member;
mod net;
mod pace;
mod pb2;
mod pbt;
mod place;
mod rungs;
mod sha;

use std::collections::BTreeMap;
pub mod moasha;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::SchedulerName;
use trainyard_common::spec::{JobSpec, Params, SchedulerSpec};

pub use choices::{Choices, Chosen};
pub use member::Lineage;

use asha::Asha;
use auto::Auto;
use early::EarlyStopping;
use halving::Halving;
use median::MedianStopping;
use moasha::MoAsha;
use pbt::Pbt;

/// What becomes of a trial after a result that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// It waits at the rung, without slots, until it is promoted or the search ends.
    Pause,
    /// It has had all that a trial of this search may have.
    Done,
    /// It ends now: it had its chance.
    Stop,
}

/// A checkpoint of another trial, to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneOf {
    pub trial: TrialId,
    /// The resource at which it was made.
    pub resource: u64,
}

/// A trial that is to go on from where it waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Promotion {
    pub trial: TrialId,
    /// The rung at which it waits.
    pub rung: u32,
    pub reason: String,
    /// Whose weights it goes on with, if not its own.
    pub clone: Option<CloneOf>,
    /// Its hyperparameters from now on, if they change. Of one that is promotable: if they are known by now.
    pub params: Option<Params>,
}

/// Decides which trials go on.
#[derive(Debug, Clone)]
pub struct Scheduler {
    kind: Kind,
    /// No new trial begins.
    closed: bool,
    /// In logical time, where results come in an order of their own, a rule that judges trials on their way
    /// has them wait at each look. Who has been judged good, and under which number.
    steps: Option<BTreeMap<TrialId, u32>>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Every trial runs to its end, in the order of suggestion.
    Fifo,
    /// `asha` and `async_hyperband`.
    Asha(Box<Asha>),
    Auto(Box<Auto>),
    /// `sha` and `hyperband`.
    Halving(Box<Halving>),
    Median(Box<MedianStopping>),
    Early(Box<EarlyStopping>),
    /// `pbt` and `pb2`.
    Pbt(Box<Pbt>),
    /// `asha` with several objectives.
    MoAsha(Box<MoAsha>),
}

/// What each scheduler answers; what is given here is said by one that lets every trial run to its end.
/// The meanings are told at [`Scheduler`].
trait Rule {
    fn begun(&mut self, trial: TrialId, params: &Params);
    fn until(&self, trial: TrialId) -> Option<u64>;
    /// Of a rule that judges trials on their way: the resource at which it looks at this one next.
    fn next_look(&self, _trial: TrialId) -> Option<u64> {
        None
    }
    fn from(&self, trial: TrialId) -> u64;
    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32>;
    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict;
    fn ended(&mut self, trial: TrialId, value: Option<f64>);
    /// As long as the search is not closed.
    fn admits(&self) -> bool {
        true
    }
    fn close(&mut self) {}
    fn reopen(&mut self) {}
    fn waits(&self, _trial: TrialId) -> Option<u32> {
        None
    }
    fn at_top(&self, _trial: TrialId) -> bool {
        true
    }
    fn promotable(&self) -> Option<Promotion> {
        None
    }
    fn promote(&mut self, _trial: TrialId) -> Option<Promotion> {
        None
    }
    fn eliminated(&self) -> Vec<TrialId> {
        Vec::new()
    }
    fn first_resource(&self) -> Option<u64> {
        None
    }
    fn place(&self, _trial: TrialId) -> String {
        "its checkpoint".to_owned()
    }
}

impl Scheduler {
    /// The scheduler of a job as accepted.
    pub fn of(job: &JobSpec) -> Self {
        let kind = Kind::of(job);
        Self {
            steps: (job.logical_time && kind.judges_on_the_way()).then(BTreeMap::new),
            kind,
            closed: false,
        }
    }

    /// A new trial begins with these hyperparameters. Trials begin in the order of their numbers.
    pub fn begun(&mut self, trial: TrialId, params: &Params) {
        if let Some(rule) = self.rule_mut() {
            rule.begun(trial, params);
        }
    }

    /// Until which resource an attempt of the trial runs now; `None`: to the end of training.
    pub fn until(&self, trial: TrialId) -> Option<u64> {
        match &self.steps {
            Some(steps) if steps.contains_key(&trial) => Some(self.from(trial)),
            Some(_) => self.rule()?.next_look(trial),
            None => self.rule()?.until(trial),
        }
    }

    /// The resource that the trial has for certain: of its last result that counted, after a clone that of
    /// its source, which is equal.
    pub fn from(&self, trial: TrialId) -> u64 {
        self.rule().map_or(0, |rule| rule.from(trial))
    }

    /// The number under which a result of the trial at this resource counts, if it does. It rises with the
    /// resource; a result at a resource that the trial had before does not count.
    pub fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        self.rule()?.reaches(trial, resource)
    }

    /// The trial's result at a resource that it [`reaches`](Self::reaches); `None` where it has no finite
    /// one, which is worse than any.
    pub fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let value = value.filter(|value| value.is_finite());
        let number = self.reaches(trial, resource);
        let verdict = match self.rule_mut() {
            Some(rule) => rule.reached(trial, resource, value),
            None => Verdict::Continue,
        };
        match (&mut self.steps, verdict, number) {
            (Some(steps), Verdict::Continue, Some(number)) => {
                steps.insert(trial, number);
                Verdict::Pause
            }
            _ => verdict,
        }
    }

    /// As [`reached`](Self::reached), with the values of all objectives, empty where there is one alone.
    pub fn reached_with(
        &mut self,
        trial: TrialId,
        resource: u64,
        value: Option<f64>,
        values: &[f64],
    ) -> Verdict {
        match &mut self.kind {
            Kind::MoAsha(rule) => rule.reached_with(trial, resource, some(values)),
            _ => self.reached(trial, resource, value),
        }
    }

    /// As [`ended`](Self::ended), with the values of all objectives.
    pub fn ended_with(&mut self, trial: TrialId, value: Option<f64>, values: &[f64]) {
        match &mut self.kind {
            Kind::MoAsha(rule) => rule.ended_with(trial, some(values)),
            _ => self.ended(trial, value),
        }
    }

    /// The trial has ended. On its way to a rung it counts there with `value`, or as the worst.
    pub fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        if let Some(rule) = self.rule_mut() {
            rule.ended(trial, value.filter(|value| value.is_finite()));
        }
        if let Some(steps) = &mut self.steps {
            steps.remove(&trial);
        }
    }

    /// Whether new trials may begin, once nothing is promotable. Where they may not, none will, unless the
    /// search is extended.
    pub fn admits(&self) -> bool {
        !self.closed && self.rule().is_none_or(Rule::admits)
    }

    /// Whether its trials are members of a population: they go on from each other's checkpoints, and none
    /// are added to them.
    pub fn is_population(&self) -> bool {
        matches!(self.kind, Kind::Pbt(_))
    }

    /// No new trial will begin: what waits for more trials does not any longer. False: nothing does.
    pub fn close(&mut self) -> bool {
        self.closed = true;
        if let Some(rule) = self.rule_mut() {
            rule.close();
        }
        matches!(self.kind, Kind::Halving(_) | Kind::Pbt(_))
    }

    /// Whether every trial runs to its end, whatever becomes of the others.
    pub fn is_fifo(&self) -> bool {
        matches!(self.kind, Kind::Fifo)
    }

    /// The search was extended: new trials may begin again. What was closed stays as it is.
    pub fn reopen(&mut self) {
        self.closed = false;
        if let Some(rule) = self.rule_mut() {
            rule.reopen();
        }
    }

    /// The rung at which the trial waits for a promotion.
    pub fn waits(&self, trial: TrialId) -> Option<u32> {
        match &self.steps {
            Some(steps) => steps.get(&trial).copied(),
            None => self.rule()?.waits(trial),
        }
    }

    /// Whether the rung that the trial is on, or on its way to, is the last.
    pub fn at_top(&self, trial: TrialId) -> bool {
        let Some(rule) = self.rule() else {
            return true;
        };
        match &self.steps {
            Some(_) => self.until(trial) == rule.until(trial),
            None => rule.at_top(trial),
        }
    }

    /// The trial that is to go on now, before any new one.
    pub fn promotable(&self) -> Option<Promotion> {
        let Some(steps) = &self.steps else {
            return self.rule()?.promotable();
        };
        let (trial, number) = steps.first_key_value()?;
        Some(Promotion {
            trial: *trial,
            rung: *number,
            reason: format!("was judged good at epoch {}: goes on", self.from(*trial)),
            clone: None,
            params: None,
        })
    }

    /// What is to be worked out before the promotable trial can go on, if there is something; else the promotion
    /// itself works it out.
    pub fn choices(&self) -> Option<&Choices> {
        match &self.kind {
            Kind::Pbt(pbt) => pbt.choices(),
            _ => None,
        }
    }

    /// What was worked out for promotions, whenever it comes.
    pub fn chosen(&mut self, chosen: Chosen) {
        if let Kind::Pbt(pbt) = &mut self.kind {
            pbt.chosen(chosen);
        }
    }

    /// The hyperparameters that the promotable trial is known to have gone on with.
    pub fn adopt(&mut self, params: Params) {
        if let Kind::Pbt(pbt) = &mut self.kind {
            pbt.adopt(params);
        }
    }

    /// The promotable trial goes on to its next rung. Nothing, where it is not the one.
    pub fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        if self.steps.is_none() {
            return self.rule_mut()?.promote(trial);
        }
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        self.steps.as_mut()?.remove(&trial);
        Some(promotion)
    }

    /// Trials that wait though no promotion can reach them any more: they may be ended, which takes them
    /// off this list.
    pub fn eliminated(&self) -> Vec<TrialId> {
        self.rule().map_or_else(Vec::new, Rule::eliminated)
    }

    /// The resource of the first rung of the next new trial, where there are rungs.
    pub fn first_resource(&self) -> Option<u64> {
        self.rule()?.first_resource()
    }

    /// Where a trial that waits stands, for people.
    pub fn place(&self, trial: TrialId) -> String {
        self.rule()
            .map_or("its checkpoint".to_owned(), |rule| rule.place(trial))
    }

    /// Which hyperparameters the trial has had, and whose weights, from the first on. Empty where they
    /// never change.
    pub fn lineage(&self, trial: TrialId) -> &[Lineage] {
        match &self.kind {
            Kind::Pbt(pbt) => pbt.lineage(trial),
            _ => &[],
        }
    }

    /// Whether the trial's checkpoint at this resource may still be cloned, and so must be kept.
    pub fn keeps(&self, trial: TrialId, resource: u64) -> bool {
        match &self.kind {
            Kind::Pbt(pbt) => pbt.keeps(trial, resource),
            _ => false,
        }
    }

    fn rule(&self) -> Option<&dyn Rule> {
        match &self.kind {
            Kind::Fifo => None,
            Kind::Asha(rule) => Some(&**rule),
            Kind::Auto(rule) => Some(&**rule),
            Kind::Halving(rule) => Some(&**rule),
            Kind::Median(rule) => Some(&**rule),
            Kind::Early(rule) => Some(&**rule),
            Kind::Pbt(rule) => Some(&**rule),
            Kind::MoAsha(rule) => Some(&**rule),
        }
    }

    fn rule_mut(&mut self) -> Option<&mut dyn Rule> {
        match &mut self.kind {
            Kind::Fifo => None,
            Kind::Asha(rule) => Some(&mut **rule),
            Kind::Auto(rule) => Some(&mut **rule),
            Kind::Halving(rule) => Some(&mut **rule),
            Kind::Median(rule) => Some(&mut **rule),
            Kind::Early(rule) => Some(&mut **rule),
            Kind::Pbt(rule) => Some(&mut **rule),
            Kind::MoAsha(rule) => Some(&mut **rule),
        }
    }
}

impl Kind {
    /// Whether trials run on while the rule judges them.
    fn judges_on_the_way(&self) -> bool {
        match self {
            Self::Auto(_) | Self::Median(_) | Self::Early(_) => true,
            Self::Asha(asha) => asha.stops(),
            Self::Fifo | Self::Halving(_) | Self::Pbt(_) | Self::MoAsha(_) => false,
        }
    }

    fn of(job: &JobSpec) -> Self {
        let (Some(spec), Some(objective)) = (&job.scheduler, job.objectives.first()) else {
            return Self::Fifo;
        };
        let mode = objective.mode;
        // The built-in trainer knows how long a trial is.
        let epochs = u64::from(job.training.epochs);
        let given = spec.max_resource.or(job.model.is_some().then_some(epochs));
        let max = given.unwrap_or(epochs);
        match spec.name {
            SchedulerName::Fifo => Self::Fifo,
            SchedulerName::Asha if job.objectives.len() > 1 => {
                let modes = job.objectives.iter().map(|objective| objective.mode);
                let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
                let eta = spec.eta.unwrap_or(SchedulerSpec::ETA);
                Self::MoAsha(Box::new(MoAsha::new(min, max, eta, modes.collect())))
            }
            SchedulerName::Asha | SchedulerName::AsyncHyperband => {
                Self::Asha(Box::new(Asha::of(spec, max, mode)))
            }
            SchedulerName::Auto => Self::Auto(Box::new(Auto::of(spec, max, mode))),
            SchedulerName::Sha => Self::Halving(Box::new(sha::of(spec, max, mode))),
            SchedulerName::Hyperband => Self::Halving(Box::new(hyperband::of(spec, max, mode))),
            SchedulerName::MedianStopping => Self::Median(Box::new(median::of(spec, given, mode))),
            SchedulerName::EarlyStopping => Self::Early(Box::new(early::of(spec, given, mode))),
            SchedulerName::Pbt | SchedulerName::Pb2 => {
                Pbt::of(job, spec, max, mode).map_or(Self::Fifo, |pbt| Self::Pbt(Box::new(pbt)))
            }
        }
    }
}

/// Nothing where there are none.
fn some(values: &[f64]) -> Option<&[f64]> {
    (!values.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests;
