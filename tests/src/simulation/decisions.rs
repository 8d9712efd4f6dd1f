//! What a job's search log may say: each entry is replayed, as it is committed, into a fresh searcher and
//! a fresh scheduler, and promotions are held against the rule as the paper writes it.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;
use trainyard_common::spec::search::{Mode, SchedulerName};
use trainyard_coordinator::cluster::model::{SearchEntry, TrialRecord, TrialState};
use trainyard_coordinator::schedule::{CloneOf, Scheduler};
use trainyard_coordinator::search::{Observation, Outcome, Searcher};

use super::jobs::{Fate, Variant};

/// A search as its log tells it.
pub(super) struct Decisions {
    variant: &'static Variant,
    searcher: Searcher,
    pub(super) scheduler: Scheduler,
    rule: Option<Rule>,
    /// What the searcher proposed when it was asked, for a trial that has not begun.
    asked: Option<(TrialId, Option<Params>)>,
    /// Trials that were suggested.
    pub(super) suggested: u32,
    observed: BTreeSet<TrialId>,
    rungs: BTreeSet<(TrialId, u32)>,
    pub(super) promoted: u32,
    /// Clones of checkpoints that their sources' records do not name.
    pub(super) unfounded: Vec<CloneOf>,
    /// The whole log.
    pub(super) log: Vec<SearchEntry>,
}

impl Decisions {
    pub(super) fn new(variant: &'static Variant) -> Result<Self, String> {
        let job = variant.job();
        let searcher = Searcher::of(job);
        let scheduler = Scheduler::of(job);
        let ranked = job
            .scheduler
            .as_ref()
            .is_some_and(|spec| spec.name == SchedulerName::Asha && spec.variant.is_none());
        Ok(Self {
            variant,
            searcher: searcher.map_err(|error| error.to_string())?,
            scheduler,
            rule: ranked.then(|| Rule::of(variant)),
            asked: None,
            suggested: 0,
            observed: BTreeSet::new(),
            rungs: BTreeSet::new(),
            promoted: 0,
            unfounded: Vec::new(),
            log: Vec::new(),
        })
    }

    pub(super) fn rungs(&self) -> u32 {
        u32::try_from(self.rungs.len()).unwrap_or(u32::MAX)
    }

    /// Whether a result of the trial has been counted, or its end.
    pub(super) fn has_observed(&self, trial: TrialId) -> bool {
        self.observed.contains(&trial)
    }

    /// Takes in the next entry. `records`: the trial's record beside it.
    ///
    /// # Errors
    /// A replay decides otherwise, something counts twice, or the rule says another thing.
    pub(super) fn take<'a>(
        &mut self,
        entry: &SearchEntry,
        records: impl Fn(TrialId) -> Option<&'a TrialRecord>,
    ) -> Result<(), String> {
        match entry {
            SearchEntry::Asked { trial } => self.ask(*trial)?,
            SearchEntry::Suggested { trial } => self.suggested(*trial, records(*trial))?,
            SearchEntry::Exhausted => {
                let trial = TrialId(self.suggested);
                let next = match self.asked.take() {
                    Some((_, proposed)) => proposed,
                    None => self.searcher.clone().suggest(trial, None),
                };
                if next.is_some() {
                    return Err(format!("exhausted, but a replay suggests {next:?}"));
                }
            }
            SearchEntry::Observed(observation) => {
                self.observed(observation, records(observation.trial))?;
            }
            SearchEntry::Extended { trials } => {
                self.searcher.extend(*trials);
                self.scheduler.reopen();
            }
            SearchEntry::Retried { trial } => {
                if !self.observed.remove(trial) {
                    return Err(format!(
                        "trial {trial} is tried again before its end has counted"
                    ));
                }
            }
            SearchEntry::Closed => {
                self.scheduler.close();
            }
            SearchEntry::Rung {
                trial,
                rung,
                value,
                resource,
                ..
            } => {
                let resource = resource.ok_or("a rung without its resource")?;
                self.reached(*trial, *rung, resource, *value, records(*trial))?;
            }
            SearchEntry::Promoted { trial, rung } => self.promoted(*trial, *rung, records)?,
        }
        self.log.push(entry.clone());
        Ok(())
    }

    /// The searcher is asked. What it proposes is that trial's, whenever it begins.
    fn ask(&mut self, trial: TrialId) -> Result<(), String> {
        if trial.0 != self.suggested {
            return Err(format!(
                "trial {trial} is asked for after {}",
                self.suggested
            ));
        }
        // There may be more of them where trials were added since.
        if let Some((known, Some(_))) = &self.asked {
            return Err(format!("trial {trial} is asked for, and {known} was"));
        }
        let first_resource = self.scheduler.first_resource();
        let proposed = self.searcher.suggest(trial, first_resource);
        self.asked = Some((trial, proposed));
        Ok(())
    }

    /// The log without what only says that something took long.
    pub(super) fn decided(&self) -> Vec<SearchEntry> {
        let log = self.log.iter();
        let log = log.filter(|entry| !matches!(entry, SearchEntry::Asked { .. }));
        log.cloned().collect()
    }

    fn suggested(&mut self, trial: TrialId, record: Option<&TrialRecord>) -> Result<(), String> {
        if trial.0 != self.suggested {
            return Err(format!(
                "trial {trial} is suggested after {}",
                self.suggested
            ));
        }
        if let Some(rule) = &self.rule
            && let Some((better, rung)) = rule.next()
        {
            return Err(format!(
                "trial {trial} is begun although {better} is to be promoted from rung {rung}"
            ));
        }
        self.suggested += 1;
        let known = record.map(TrialRecord::suggested_params);
        let first_resource = self.scheduler.first_resource();
        let proposed = match self.asked.take() {
            Some((_, proposed)) => proposed,
            None => self.searcher.suggest(trial, first_resource),
        };
        match proposed {
            Some(params) if Some(&params) == known => {
                self.scheduler.begun(trial, &params);
            }
            other => {
                return Err(format!(
                    "trial {trial} has {known:?}, a replay gives {other:?}"
                ));
            }
        }
        if let Some(rule) = &mut self.rule {
            rule.begun(trial);
        }
        Ok(())
    }

    fn observed(
        &mut self,
        observation: &Observation,
        record: Option<&TrialRecord>,
    ) -> Result<(), String> {
        let trial = observation.trial;
        if !self.observed.insert(trial) {
            return Err(format!("the end of trial {trial} counts twice"));
        }
        let record = record.ok_or("the end of an unknown trial counts")?;
        let best = record.best.map(|(value, _)| value);
        let right = match &observation.outcome {
            Outcome::Stopped { .. } if record.stopped => true,
            Outcome::Completed { value } | Outcome::Stopped { value } => {
                record.state == TrialState::Completed && *value == best
            }
            Outcome::Cancelled => record.state == TrialState::Cancelled,
            other => {
                let kind = record.failure.map_or(Outcome::Failed, Outcome::from);
                record.state == TrialState::Failed && kind == *other
            }
        };
        // Its failure and somebody's wish to try it again may be of one commit.
        let retried = record.again && !record.state.ended();
        if !right && !retried {
            return Err(format!("{observation:?} counts for {record:?}"));
        }
        let value = observation.outcome.value();
        self.searcher.observe(observation);
        self.scheduler.ended(trial, value);
        if let Some(rule) = &mut self.rule {
            rule.ended(trial, value);
        }
        Ok(())
    }

    fn reached(
        &mut self,
        trial: TrialId,
        rung: u32,
        resource: u64,
        value: Option<f64>,
        record: Option<&TrialRecord>,
    ) -> Result<(), String> {
        if !self.rungs.insert((trial, rung)) {
            return Err(format!("trial {trial} reaches rung {rung} twice"));
        }
        let known = self.scheduler.reaches(trial, resource);
        if known != Some(rung) {
            return Err(format!(
                "trial {trial} reaches rung {rung}, in a replay {known:?}"
            ));
        }
        // A population's members change theirs.
        let lineage = self.scheduler.lineage(trial).iter().rev();
        let mut lineage = lineage.filter(|known| known.resource < resource);
        let params = match lineage.next() {
            Some(known) => Some(&known.params),
            None => record.map(|record| &record.params),
        };
        let told = params.map(|params| self.variant.value(params, resource));
        let told = told.filter(|_| self.variant.fate(trial) != Fate::Mute);
        if value != told {
            return Err(format!(
                "trial {trial} counts with {value:?} at rung {rung}, and told {told:?}"
            ));
        }
        self.searcher.reached(trial, resource, value);
        self.scheduler.reached(trial, resource, value);
        if let Some(rule) = &mut self.rule {
            rule.reached(trial, value);
        }
        Ok(())
    }

    fn promoted<'a>(
        &mut self,
        trial: TrialId,
        rung: u32,
        records: impl Fn(TrialId) -> Option<&'a TrialRecord>,
    ) -> Result<(), String> {
        let next = self.scheduler.promotable();
        let clone = next.as_ref().and_then(|next| next.clone);
        self.unfounded.extend(clone.filter(|of| {
            let source = records(of.trial).map(|record| &record.checkpoints);
            let mut made = source.into_iter().flatten();
            !made.any(|made| made.epoch == of.resource)
        }));
        let next = next.map(|next| (next.trial, next.rung));
        let ruled = self.rule.as_ref().and_then(Rule::next);
        if next != Some((trial, rung)) || (self.rule.is_some() && ruled != next) {
            return Err(format!(
                "trial {trial} is promoted from rung {rung}; in a replay it is {next:?}, by the rule {ruled:?}"
            ));
        }
        self.promoted += 1;
        self.scheduler.promote(trial);
        self.searcher.promoted(trial);
        if let Some(rule) = &mut self.rule {
            rule.promote(trial);
        }
        Ok(())
    }
}

/// Where a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Climbs,
    Waits,
    Gone,
}

/// ASHA as Algorithm 2 of Li et al. 2020 says it, without anything that makes it quick: sort the results
/// of a rung, take the best floor(n / eta), promote the first of them that waits.
struct Rule {
    eta: usize,
    /// The last rung.
    top: u32,
    maximizes: bool,
    /// Results of each rung; the smaller the better.
    results: Vec<Vec<(f64, TrialId)>>,
    /// By trial.
    trials: Vec<(u32, Where)>,
}

impl Rule {
    fn of(variant: &Variant) -> Self {
        let job = variant.job();
        let spec = job.scheduler.as_ref();
        let eta = spec.and_then(|spec| spec.eta).unwrap_or(3);
        let mut top = 0;
        let mut resource = spec.and_then(|spec| spec.min_resource).unwrap_or(1);
        while resource < variant.epochs {
            resource *= u64::from(eta);
            top += 1;
        }
        let mode = job.objectives.first().map(|objective| objective.mode);
        Self {
            eta: eta as usize,
            top,
            maximizes: mode == Some(Mode::Maximize),
            results: vec![Vec::new(); top as usize + 1],
            trials: Vec::new(),
        }
    }

    fn begun(&mut self, _: TrialId) {
        self.trials.push((0, Where::Climbs));
    }

    fn set(&mut self, trial: TrialId, rung: u32, at: Where) {
        if let Some(known) = self.trials.get_mut(trial.0 as usize) {
            *known = (rung, at);
        }
    }

    fn get(&self, trial: TrialId) -> (u32, Where) {
        let known = self.trials.get(trial.0 as usize).copied();
        known.unwrap_or((0, Where::Gone))
    }

    fn count(&mut self, rung: u32, trial: TrialId, value: Option<f64>) {
        let cost = value.map_or(f64::INFINITY, |value| match self.maximizes {
            true => -value,
            false => value,
        });
        if let Some(results) = self.results.get_mut(rung as usize) {
            results.push((cost, trial));
            results.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
    }

    fn reached(&mut self, trial: TrialId, value: Option<f64>) {
        let (rung, _) = self.get(trial);
        let at = if rung == self.top {
            Where::Gone
        } else {
            Where::Waits
        };
        self.set(trial, rung, at);
        self.count(rung, trial, value);
    }

    /// A trial that ends on its way counts as one that came to its value there.
    fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        let (rung, at) = self.get(trial);
        self.set(trial, rung, Where::Gone);
        if at == Where::Climbs {
            self.count(rung, trial, value);
        }
    }

    fn next(&self) -> Option<(TrialId, u32)> {
        (0..self.top).rev().find_map(|rung| {
            let results = self.results.get(rung as usize)?;
            let mut best = results.iter().take(results.len() / self.eta);
            let waits = |(cost, trial): &&(f64, TrialId)| {
                cost.is_finite() && self.get(*trial) == (rung, Where::Waits)
            };
            best.find(waits).map(|(_, trial)| (*trial, rung))
        })
    }

    fn promote(&mut self, trial: TrialId) {
        let (rung, _) = self.get(trial);
        self.set(trial, rung + 1, Where::Climbs);
    }
}
