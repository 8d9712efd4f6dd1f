//! What a job's search log may say: each entry is replayed, as it is committed, into a fresh searcher and
//! a fresh scheduler. Promotions are held against the rule as the paper writes it, configurations against their
//! space, and children against who may be their parents.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;
use trainyard_common::spec::search::SchedulerName;
use trainyard_coordinator::cluster::model::{SearchEntry, TrialRecord, TrialState};
use trainyard_coordinator::schedule::{CloneOf, Promotion, Scheduler};
use trainyard_coordinator::search::{Observation, Outcome, Searcher};

use super::children::Children;
use super::jobs::{Fate, Variant};
use super::rule::Rule;
use super::stats::Hit;
use super::training::WITHIN;

/// Factors that a copied number is multiplied by, unless told.
const FACTORS: [f64; 2] = [0.8, 1.2];

/// A search as its log tells it.
pub(super) struct Decisions {
    variant: &'static Variant,
    searcher: Searcher,
    pub(super) scheduler: Scheduler,
    rule: Option<Rule>,
    children: Option<Children>,
    /// Configurations of a small space that were tried.
    tried: BTreeSet<String>,
    /// What the searcher proposed when it was asked, for a trial that has not begun.
    asked: Option<(TrialId, Option<Params>)>,
    /// Trials that were suggested.
    pub(super) suggested: u32,
    observed: BTreeSet<TrialId>,
    rungs: BTreeSet<(TrialId, u32)>,
    pub(super) promoted: u32,
    /// Clones of checkpoints that their sources' records do not name.
    pub(super) unfounded: Vec<CloneOf>,
    /// For a member that copies at a resource: the manifests of its source that were there when it was decided.
    offered: BTreeMap<(TrialId, u64), Vec<String>>,
    /// A result that counts reaches a goal: the search is to be closed with it.
    pub(super) reaches_goal: bool,
    /// What is to be counted.
    pub(super) happened: Vec<Hit>,
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
            children: Children::of(job, variant.shape),
            tried: BTreeSet::new(),
            asked: None,
            suggested: 0,
            observed: BTreeSet::new(),
            rungs: BTreeSet::new(),
            promoted: 0,
            unfounded: Vec::new(),
            offered: BTreeMap::new(),
            reaches_goal: false,
            happened: Vec::new(),
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

    /// What a trial is trained with on its way to a resource, where a population changes that.
    pub(super) fn params_until(&self, trial: TrialId, resource: u64) -> Option<&Params> {
        let lineage = self.scheduler.lineage(trial).iter().rev();
        let mut lineage = lineage.filter(|known| known.resource < resource);
        lineage.next().map(|known| &known.params)
    }

    /// Manifests, one of which a member that goes on from this resource copies.
    pub(super) fn offered(&self, trial: TrialId, resource: u64) -> &[String] {
        let known = self.offered.get(&(trial, resource));
        known.map_or(&[], Vec::as_slice)
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
                values,
            } => {
                let resource = resource.ok_or("a rung without its resource")?;
                let told = (*value, values.as_slice());
                self.reached(*trial, *rung, resource, told, records(*trial))?;
            }
            SearchEntry::Promoted {
                trial,
                rung,
                params,
            } => self.promoted((*trial, *rung), params.as_ref(), records)?,
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
        let proposed = self.propose(trial)?;
        self.asked = Some((trial, proposed));
        Ok(())
    }

    fn propose(&mut self, trial: TrialId) -> Result<Option<Params>, String> {
        let first_resource = self.scheduler.first_resource();
        let Some(params) = self.searcher.suggest(trial, first_resource) else {
            return Ok(None);
        };
        let shape = self.variant.shape;
        self.is_of_the_space(trial, &params)?;
        if shape.is_few() && !self.tried.insert(format!("{params:?}")) {
            return Err(format!("trial {trial} tries {params:?} once more"));
        }
        if let Some(children) = &mut self.children
            && children.proposed(&params)?
        {
            self.happened.push(Hit::Bred);
        }
        Ok(Some(params))
    }

    fn is_of_the_space(&mut self, trial: TrialId, params: &Params) -> Result<(), String> {
        let shape = self.variant.shape;
        let is_right = shape.check(params);
        is_right.map_err(|why| format!("trial {trial} with {params:?} {why}"))?;
        if shape.has_inactive(params) {
            self.happened.push(Hit::Inactive);
        }
        if shape.is_constrained() {
            self.happened.push(Hit::Constrained);
        }
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
        let proposed = match self.asked.take() {
            Some((_, proposed)) => proposed,
            None => self.propose(trial)?,
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
        let known = value.map_or_else(Vec::new, |_| self.last_values(record));
        if observation.values != known && !retried {
            return Err(format!(
                "{observation:?} counts, and its trial last told {known:?}"
            ));
        }
        self.searcher.observe(observation);
        let values = &observation.values;
        self.scheduler.ended_with(trial, value, values);
        if let Some(children) = &mut self.children {
            children.ended(observation);
        }
        let values = self.variant.all_of(value, values);
        self.reaches_goal |= self.variant.reaches_goal(&values);
        if let Some(rule) = &mut self.rule {
            rule.ended(trial, &values);
        }
        Ok(())
    }

    /// Of all objectives at the end of a trial's last epoch, where there are several; none unless all were told.
    fn last_values(&self, record: &TrialRecord) -> Vec<f64> {
        let newest = record.reported.filter(|newest| newest.whole);
        let Some(epoch) = newest.map(|newest| newest.epoch) else {
            return Vec::new();
        };
        let params = self.params_until(record.trial, epoch);
        let values = self.variant.values(params.unwrap_or(&record.params), epoch);
        if values.len() > 1 { values } else { Vec::new() }
    }

    fn reached(
        &mut self,
        trial: TrialId,
        rung: u32,
        resource: u64,
        (value, values): (Option<f64>, &[f64]),
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
        let params = self.params_until(trial, resource);
        let params = params.or(record.map(|record| &record.params));
        let mutes =
            self.variant.fate(trial) == Fate::Mute || self.variant.breaks_off(trial, resource);
        let told = params.filter(|_| !mutes);
        let told = told.map_or_else(Vec::new, |params| self.variant.values(params, resource));
        let several = if told.len() > 1 { &told[..] } else { &[] };
        if value != told.first().copied() || values != several {
            return Err(format!(
                "trial {trial} counts with {value:?} {values:?} at rung {rung}, and told {told:?}"
            ));
        }
        self.searcher.reached(trial, resource, value);
        self.scheduler.reached_with(trial, resource, value, values);
        self.reaches_goal |= self.variant.reaches_goal(&told);
        if let Some(rule) = &mut self.rule {
            rule.reached(trial, &told);
        }
        Ok(())
    }

    fn promoted<'a>(
        &mut self,
        (trial, rung): (TrialId, u32),
        params: Option<&Params>,
        records: impl Fn(TrialId) -> Option<&'a TrialRecord>,
    ) -> Result<(), String> {
        if let Some(choices) = self.scheduler.choices().cloned() {
            self.scheduler.chosen(choices.work_out());
        }
        let next = self.scheduler.promotable();
        let at = next.as_ref().map(|next| (next.trial, next.rung));
        let ruled = self.rule.as_ref().and_then(Rule::next);
        if at != Some((trial, rung)) || (self.rule.is_some() && ruled != at) {
            return Err(format!(
                "trial {trial} is promoted from rung {rung}; in a replay it is {at:?}, by the rule {ruled:?}"
            ));
        }
        if let Some(next) = &next {
            self.copies(next, records)?;
        }
        self.promoted += 1;
        let chosen = self.scheduler.promote(trial).and_then(|next| next.params);
        if params != chosen.as_ref() {
            return Err(format!(
                "trial {trial} is promoted from rung {rung} with {params:?}; in a replay it is {chosen:?}"
            ));
        }
        self.searcher.promoted(trial);
        if let Some(rule) = &mut self.rule {
            if rule.owes_to_front(trial, rung) {
                self.happened.push(Hit::PromotedOnFront);
            }
            rule.promote(trial);
        }
        Ok(())
    }

    /// A promotion may let a member of a population go on from another, with other hyperparameters.
    fn copies<'a>(
        &mut self,
        next: &Promotion,
        records: impl Fn(TrialId) -> Option<&'a TrialRecord>,
    ) -> Result<(), String> {
        if let Some(params) = &next.params {
            self.is_of_the_space(next.trial, params)?;
        }
        let Some(of) = next.clone else {
            return Ok(());
        };
        if of.trial == next.trial || of.resource != self.scheduler.from(next.trial) {
            return Err(format!("trial {} copies {of:?}", next.trial));
        }
        let source = records(of.trial).map(|record| &record.checkpoints);
        let made = source.into_iter().flatten();
        // Not those of the way on from there.
        let ends =
            |made: &&CheckpointRef| made.epoch == of.resource && !made.manifest.ends_with(WITHIN);
        let made = made.filter(ends);
        let made: Vec<String> = made.map(|made| made.manifest.clone()).collect();
        if made.is_empty() {
            self.unfounded.push(of);
        }
        self.offered.insert((next.trial, of.resource), made);
        if self.is_chosen(next, of) {
            self.happened.push(Hit::Chosen);
        }
        Ok(())
    }

    /// Whether a member's numbers are no variation of its source's, in a search where nothing is drawn anew: a model
    /// chose them.
    fn is_chosen(&self, next: &Promotion, of: CloneOf) -> bool {
        let spec = self.variant.job().scheduler.as_ref();
        let varies = spec.is_some_and(|spec| {
            spec.name == SchedulerName::Pb2 && spec.resample_probability == Some(0.0)
        });
        let x = |params: &Params| params.get("x").and_then(serde_json::Value::as_f64);
        let now = next.params.as_ref().and_then(x);
        let before = self.params_until(of.trial, of.resource).and_then(x);
        let varied = |now: f64| {
            let near = |factor: f64| before.map(|x| (x * factor).clamp(0.0, 1.0)) == Some(now);
            FACTORS.into_iter().any(near)
        };
        varies && now.is_some_and(|now| !varied(now))
    }
}
