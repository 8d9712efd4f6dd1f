//! PBT: population based training (Jaderberg et al. 2017), with truncation selection; and PB2, which
//! differs in how new hyperparameters are found (`pb2`).
//!
//! A population trains in stretches of `interval` epochs. After each a member is ranked among the members
//! at the same resource, never another. Of n compared, the bottom q = ceil(quantile * n), and who has no
//! finite value, exploit: each goes on from the weights of a random one of the top q, with the
//! hyperparameters that those were trained with, varied (`explore`). All others go on as they are.
//!
//! Synchronous: a member is ranked once every living member has a result at its resource. Otherwise at
//! once, among those that have been there, so far. A member that died blocks nobody and is not copied.
//!
//! Choices are drawn with the key (seed, trial, resource): they do not depend on who is promoted first.

use std::collections::BTreeMap;
use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::search::{Inherit, Mode, SchedulerName};
use trainyard_common::spec::{JobSpec, Params, SchedulerSpec};

use super::choices::{Choices, Open};
use super::explore::Explore;
use super::member::{Lineage, Member, Phase};
use super::pb2::Bandit;
use super::place::{Place, WORST, cost, order};
use super::{CloneOf, Promotion, Rule, Verdict};
use crate::search::axes::Axes;

mod open;

/// What was decided for a member that waits.
#[derive(Debug, Clone)]
struct Plan {
    clone: Option<CloneOf>,
    params: Planned,
    reason: String,
}

#[derive(Debug, Clone)]
enum Planned {
    /// It goes on with those that it has.
    Same,
    New(Params),
    /// Still to be chosen.
    Open,
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct Pbt {
    mode: Mode,
    max: u64,
    population: u32,
    interval: u64,
    quantile: f64,
    synchronous: bool,
    inherit: Inherit,
    explore: Explore,
    /// PB2's model.
    bandit: Option<Bandit>,
    choices: Choices,
    axes: Arc<Axes>,
    key: Key,
    /// By trial number.
    members: Vec<Member>,
    /// By resource.
    results: BTreeMap<u64, Vec<Place>>,
    ready: BTreeMap<TrialId, Plan>,
    closed: bool,
}

impl Pbt {
    /// `None` where the hyperparameters make no space, which no accepted job has.
    pub(super) fn of(job: &JobSpec, spec: &SchedulerSpec, max: u64, mode: Mode) -> Option<Self> {
        let space = SearchSpace::of(job).ok()?;
        let population = spec.population.or(job.searcher.max_trials);
        let factors = spec.perturb_factors.clone();
        let axes = Arc::new(Axes::new(space));
        Some(Self {
            mode,
            max: max.max(1),
            population: population.unwrap_or(u32::MAX),
            interval: spec.interval.unwrap_or(SchedulerSpec::INTERVAL).max(1),
            quantile: spec.quantile.unwrap_or(SchedulerSpec::QUANTILE),
            synchronous: spec.synchronous.unwrap_or(true),
            inherit: spec.inherit.unwrap_or_default(),
            explore: Explore {
                factors: factors.unwrap_or_else(|| SchedulerSpec::PERTURB_FACTORS.to_vec()),
                resample: spec
                    .resample_probability
                    .unwrap_or(SchedulerSpec::RESAMPLE_PROBABILITY),
            },
            bandit: (spec.name == SchedulerName::Pb2).then(Bandit::default),
            choices: Choices::new(Arc::clone(&axes)),
            axes,
            key: Key::new(job.seed).named("pbt"),
            members: Vec::new(),
            results: BTreeMap::new(),
            ready: BTreeMap::new(),
            closed: false,
        })
    }

    pub(super) fn lineage(&self, trial: TrialId) -> &[Lineage] {
        self.member(trial).map_or(&[], |member| &member.lineage)
    }

    pub(super) fn keeps(&self, trial: TrialId, resource: u64) -> bool {
        let wanted = CloneOf { trial, resource };
        let promised = self.ready.values().any(|plan| plan.clone == Some(wanted));
        let copied = self
            .member(trial)
            .is_some_and(|member| member.phase != Phase::Dead);
        // Somebody is still to be ranked there.
        let to_come = |(number, member): (u32, &Member)| match member.phase {
            Phase::Runs => member.from < resource,
            Phase::Waits => member.from <= resource && !self.ready.contains_key(&TrialId(number)),
            Phase::Done | Phase::Dead => false,
        };
        let pauses = resource < self.max && resource.is_multiple_of(self.interval);
        let open = self.admits() || (0..).zip(&self.members).any(to_come);
        promised || (copied && pauses && open)
    }

    fn member(&self, trial: TrialId) -> Option<&Member> {
        self.members.get(trial.0 as usize)
    }

    /// The end of the stretch from a resource on.
    fn next(&self, from: u64) -> u64 {
        let stretches = (from / self.interval).saturating_add(1);
        stretches.saturating_mul(self.interval).min(self.max)
    }

    /// The number of the stretch that ends at a resource.
    fn number(&self, resource: u64) -> u32 {
        let stretch = resource.div_ceil(self.interval).saturating_sub(1);
        u32::try_from(stretch).unwrap_or(u32::MAX)
    }

    /// Ranks all that wait at the lowest resource that a living member has, once nobody there is under way
    /// and no member is still to begin.
    fn settle(&mut self) {
        if !self.synchronous || self.admits() {
            return;
        }
        let living = |member: &&Member| matches!(member.phase, Phase::Runs | Phase::Waits);
        let lowest = self
            .members
            .iter()
            .filter(living)
            .map(|member| member.from)
            .min();
        let Some(resource) = lowest else {
            return;
        };
        let here = || {
            self.members
                .iter()
                .enumerate()
                .filter(|(_, member)| member.from == resource)
        };
        if here().any(|(_, member)| member.phase == Phase::Runs) {
            return;
        }
        let waiting = here().filter(|(_, member)| member.phase == Phase::Waits);
        let numbers = waiting.filter_map(|(number, _)| u32::try_from(number).ok());
        let trials: Vec<TrialId> = numbers.map(TrialId).collect();
        self.rank(resource, &trials);
    }

    /// The living members that have a result at a resource, the best first.
    fn ranking(&self, resource: u64) -> Vec<Place> {
        let alive = |(_, trial): &&Place| {
            let member = self.member(*trial);
            member.is_some_and(|member| member.phase != Phase::Dead)
        };
        let results = self.results.get(&resource).into_iter().flatten();
        let mut ranking: Vec<Place> = results.filter(alive).copied().collect();
        ranking.sort_unstable();
        ranking
    }

    /// How many of so many copy, and are copied.
    fn share(&self, n: usize) -> usize {
        // Less the rounding of 0.07 * 100.
        let share = libm::ceil(self.quantile * n as f64 - 1e-9).max(1.0) as usize;
        // Nobody both copies and is copied.
        share.min(n / 2)
    }

    /// Decides for members that wait at a resource: first for those that go on as they are, so that the
    /// others know what is trained already.
    fn rank(&mut self, resource: u64, trials: &[TrialId]) {
        let ranking = self.ranking(resource);
        let n = ranking.len();
        let share = self.share(n);
        let finite = ranking.iter().take_while(|(value, _)| *value != WORST);
        let top: Vec<TrialId> = finite.take(share).map(|(_, trial)| *trial).collect();
        let mut exploiting = Vec::new();
        for trial in trials {
            if self.ready.contains_key(trial) {
                continue;
            }
            let mut ranks = ranking.iter().enumerate();
            let Some((rank, (value, _))) = ranks.find(|(_, (_, known))| known == trial) else {
                continue;
            };
            if (rank + share >= n || *value == WORST) && !top.is_empty() {
                exploiting.push((*trial, rank));
                continue;
            }
            let plan = Plan {
                clone: None,
                params: Planned::Same,
                reason: format!("number {} of {n} at epoch {resource}: goes on", rank + 1),
            };
            self.ready.insert(*trial, plan);
        }
        let others = self.others();
        let mut open = Vec::new();
        for (trial, rank) in exploiting {
            open.extend(self.exploit(trial, resource, &top, (rank, n)));
        }
        self.leave_open(resource, others, open);
    }

    /// Plans what a member copies. What PB2 has to choose for it, if that is so.
    fn exploit(
        &mut self,
        trial: TrialId,
        resource: u64,
        top: &[TrialId],
        (rank, n): (usize, usize),
    ) -> Option<Open> {
        let key = self.key.with(u64::from(trial.0)).with(resource);
        let which = key.below(0, top.len() as u64) as usize;
        let source = top.get(which).copied()?;
        let heir = match self.inherit {
            Inherit::All => source,
            Inherit::Weights => trial,
        };
        let base = self
            .member(heir)
            .and_then(|known| known.params_until(resource));
        let key = key.named("explore");
        let varied = base.map(|base| self.explore.vary(self.axes.space(), base, key));
        let what = match self.inherit {
            Inherit::All => "weights and hyperparameters",
            Inherit::Weights => "weights",
        };
        let reason = format!(
            "number {} of {n} at epoch {resource}: goes on from the {what} of trial {source}",
            rank + 1
        );
        let clone = Some(CloneOf {
            trial: source,
            resource,
        });
        let (params, open) = match varied {
            Some(varied) if self.bandit.is_some() => {
                let open = Open {
                    seat: (trial, resource),
                    varied,
                    key: key.named("bandit"),
                };
                (Planned::Open, Some(open))
            }
            Some(varied) => (Planned::New(varied), None),
            None => (Planned::Same, None),
        };
        let plan = Plan {
            clone,
            params,
            reason,
        };
        self.ready.insert(trial, plan);
        open
    }

    /// Tells PB2 what a stretch of training gained.
    fn learn(&mut self, trial: TrialId, resource: u64, now: Option<f64>) {
        let Some(member) = self.members.get(trial.0 as usize) else {
            return;
        };
        let params = member.lineage.last().map(|known| &known.params);
        if let (Some(bandit), Some(before), Some(now), Some(params)) =
            (&mut self.bandit, member.cost, now, params)
        {
            let epochs = resource.saturating_sub(member.from).max(1);
            let time = member.from as f64 / self.interval as f64;
            bandit.tell(&self.axes, params, time, (before - now) / epochs as f64);
        }
    }

    /// The cost that a member had at a resource.
    fn cost_at(&self, trial: TrialId, resource: u64) -> Option<f64> {
        let mut known = self.results.get(&resource)?.iter();
        let (value, _) = known.find(|(_, known)| *known == trial)?;
        (*value != WORST).then(|| super::place::cost_of(*value))
    }
}

impl Rule for Pbt {
    fn begun(&mut self, trial: TrialId, params: &Params) {
        if trial.0 as usize == self.members.len() {
            self.members.push(Member::new(params.clone()));
        }
    }

    fn until(&self, trial: TrialId) -> Option<u64> {
        let member = self.member(trial)?;
        Some(match member.phase {
            Phase::Waits | Phase::Done => member.from,
            Phase::Runs | Phase::Dead => self.next(member.from),
        })
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.member(trial).map_or(0, |member| member.from)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let member = self.member(trial)?;
        let until = self.next(member.from);
        let counts = member.phase == Phase::Runs && resource >= until;
        counts.then(|| self.number(until))
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        if self.reaches(trial, resource).is_none() {
            return Verdict::Continue;
        }
        let at = self.next(self.from(trial));
        let now = value.map(|value| cost(self.mode, value));
        self.learn(trial, at, now);
        let done = at >= self.max;
        let place = (order(self.mode, value), trial);
        self.results.entry(at).or_default().push(place);
        if let Some(member) = self.members.get_mut(trial.0 as usize) {
            member.from = at;
            member.cost = now;
            member.phase = if done { Phase::Done } else { Phase::Waits };
        }
        if self.synchronous {
            self.settle();
        } else if !done {
            self.rank(at, &[trial]);
        }
        if done { Verdict::Done } else { Verdict::Pause }
    }

    fn ended(&mut self, trial: TrialId, _value: Option<f64>) {
        if let Some(member) = self.members.get_mut(trial.0 as usize)
            && member.phase != Phase::Done
        {
            member.phase = Phase::Dead;
            self.ready.remove(&trial);
            self.settle();
        }
    }

    fn admits(&self) -> bool {
        let begun = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        !self.closed && begun < self.population
    }

    fn close(&mut self) {
        self.closed = true;
        self.settle();
    }

    fn reopen(&mut self) {
        self.closed = false;
    }

    fn waits(&self, trial: TrialId) -> Option<u32> {
        let member = self.member(trial)?;
        (member.phase == Phase::Waits).then(|| self.number(member.from))
    }

    fn at_top(&self, trial: TrialId) -> bool {
        self.until(trial) == Some(self.max)
    }

    fn promotable(&self) -> Option<Promotion> {
        let (trial, plan) = self.ready.first_key_value()?;
        Some(Promotion {
            trial: *trial,
            rung: self.number(self.from(*trial)),
            reason: plan.reason.clone(),
            clone: plan.clone,
            params: match &plan.params {
                Planned::New(params) => Some(params.clone()),
                Planned::Same | Planned::Open => None,
            },
        })
    }

    fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        if let Some(choices) = self.choices() {
            let chosen = choices.clone().work_out();
            self.chosen(chosen);
        }
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        self.ready.remove(&trial);
        let cloned = promotion.clone;
        let inherited = cloned.map(|source| self.cost_at(source.trial, source.resource));
        let member = self.members.get_mut(trial.0 as usize)?;
        member.phase = Phase::Runs;
        if let Some(cost) = inherited {
            member.cost = cost;
        }
        if let Some(source) = cloned {
            let kept = member.lineage.last().map(|known| &known.params);
            let params = promotion.params.as_ref().or(kept).cloned();
            member.lineage.push(Lineage {
                resource: member.from,
                source: Some(source.trial),
                params: params.unwrap_or_default(),
            });
        }
        Some(promotion)
    }

    fn first_resource(&self) -> Option<u64> {
        Some(self.next(0))
    }

    fn place(&self, trial: TrialId) -> String {
        let from = self.from(trial);
        format!(
            "epoch {from} of {}, for its rank in the population",
            self.max
        )
    }
}
