//! ASHA: asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
//! Tuning", Algorithm 2), without its stopping variant: trials wait at rungs and are truly promoted.
//!
//! Rung k lies at resource min_resource * eta^k, the last one at max_resource. Asked what to do next:
//! from the highest rung down, a trial among the best floor(n / eta) of the n results of its rung that was
//! not promoted yet goes on to the next rung; if there is none, a new trial begins on rung 0. A trial
//! that fails, or has no finite value, counts in n as the worst of its rung and is never promoted. Of
//! equal values the lower trial is the better.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;

use super::{Promotion, Verdict};

/// A result in the order of goodness: the better, the smaller.
type Place = (u64, TrialId);

/// The place of results without a finite value.
const WORST: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// On its way to its rung.
    Climbs,
    /// At its rung, with its result; the value decides its place.
    Waits(u64),
    /// At the top, or ended.
    Out,
}

#[derive(Debug, Clone, Copy)]
struct Climber {
    rung: u32,
    phase: Phase,
}

/// One rung: its results, the best floor(n / eta) of them apart.
#[derive(Debug, Clone, Default)]
struct Rung {
    resource: u64,
    best: BTreeSet<Place>,
    rest: BTreeSet<Place>,
    /// Among the best, waiting, not promoted.
    ready: BTreeSet<Place>,
}

impl Rung {
    fn results(&self) -> usize {
        self.best.len() + self.rest.len()
    }

    /// Takes in a result; `waits`: it may be promoted once it is among the best.
    fn insert(&mut self, place: Place, eta: usize, waits: impl Fn(Place) -> bool) {
        // Among the best if it beats the last of them: the others are sorted out below.
        match self.best.last() {
            Some(last) if place < *last => {
                self.best.insert(place);
                if waits(place) {
                    self.ready.insert(place);
                }
            }
            _ => {
                self.rest.insert(place);
            }
        }
        let keep = self.results() / eta;
        while self.best.len() > keep
            && let Some(last) = self.best.pop_last()
        {
            self.ready.remove(&last);
            self.rest.insert(last);
        }
        while self.best.len() < keep
            && let Some(first) = self.rest.pop_first()
        {
            if waits(first) {
                self.ready.insert(first);
            }
            self.best.insert(first);
        }
    }
}

/// The state of one search.
#[derive(Debug, Clone)]
pub struct Asha {
    eta: u32,
    mode: Mode,
    rungs: Vec<Rung>,
    /// By trial number.
    climbers: Vec<Climber>,
}

impl Asha {
    /// Rungs from `min` to `max`; what the spec's checks refuse is taken for the nearest that they accept.
    pub fn new(min: u64, max: u64, eta: u32, mode: Mode) -> Self {
        let (eta, max) = (eta.max(2), max.max(1));
        let mut resource = min.clamp(1, max);
        let mut rungs = Vec::new();
        while resource < max {
            rungs.push(resource);
            resource = resource.saturating_mul(u64::from(eta));
        }
        rungs.push(max);
        let rung = |resource| Rung {
            resource,
            ..Rung::default()
        };
        Self {
            eta,
            mode,
            rungs: rungs.into_iter().map(rung).collect(),
            climbers: Vec::new(),
        }
    }

    /// Trials begin in the order of their numbers.
    pub(super) fn begun(&mut self, trial: TrialId) {
        if trial.0 as usize == self.climbers.len() {
            let (rung, phase) = (0, Phase::Climbs);
            self.climbers.push(Climber { rung, phase });
        }
    }

    fn climber(&self, trial: TrialId) -> Option<Climber> {
        self.climbers.get(trial.0 as usize).copied()
    }

    pub(super) fn until(&self, trial: TrialId) -> Option<u64> {
        let rung = self.climber(trial)?.rung;
        Some(self.rungs.get(rung as usize)?.resource)
    }

    pub(super) fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let climber = self.climber(trial)?;
        let counts = climber.phase == Phase::Climbs && resource >= self.until(trial)?;
        counts.then_some(climber.rung)
    }

    pub(super) fn waits(&self, trial: TrialId) -> Option<u32> {
        let climber = self.climber(trial)?;
        matches!(climber.phase, Phase::Waits(_)).then_some(climber.rung)
    }

    pub(super) fn at_top(&self, trial: TrialId) -> bool {
        let climber = self.climber(trial);
        climber.is_some_and(|climber| climber.rung as usize + 1 == self.rungs.len())
    }

    pub(super) fn reached(&mut self, trial: TrialId, value: Option<f64>) -> Verdict {
        let Some(climber) = self.climber(trial) else {
            return Verdict::Continue;
        };
        if climber.phase != Phase::Climbs {
            return Verdict::Continue;
        }
        let top = climber.rung as usize + 1 == self.rungs.len();
        let place = self.place(value);
        let phase = if top { Phase::Out } else { Phase::Waits(place) };
        self.set(trial, climber.rung, phase);
        self.count(climber.rung, (place, trial));
        if top { Verdict::Done } else { Verdict::Pause }
    }

    pub(super) fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        let Some(climber) = self.climber(trial) else {
            return;
        };
        self.set(trial, climber.rung, Phase::Out);
        match climber.phase {
            Phase::Climbs => self.count(climber.rung, (self.place(value), trial)),
            Phase::Waits(place) => {
                if let Some(rung) = self.rungs.get_mut(climber.rung as usize) {
                    rung.ready.remove(&(place, trial));
                }
            }
            Phase::Out => {}
        }
    }

    /// From the highest rung down, the best that was not promoted.
    pub(super) fn promotable(&self) -> Option<Promotion> {
        let rungs = self.rungs.iter().enumerate().rev();
        let mut ready =
            rungs.filter_map(|(number, rung)| Some((number, rung, rung.ready.first()?)));
        let (number, rung, (_, trial)) = ready.next()?;
        let next = self.rungs.get(number + 1)?;
        Some(Promotion {
            trial: *trial,
            rung: u32::try_from(number).unwrap_or(u32::MAX),
            reason: format!(
                "among the best {} of {} results at epoch {} (rung {number} of {}): goes on to epoch {}",
                rung.best.len(),
                rung.results(),
                rung.resource,
                self.rungs.len() - 1,
                next.resource
            ),
            clone: None,
            params: None,
        })
    }

    pub(super) fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        if let Some(rung) = self.rungs.get_mut(promotion.rung as usize) {
            rung.ready.pop_first();
        }
        self.set(trial, promotion.rung + 1, Phase::Climbs);
        Some(promotion)
    }

    pub(super) fn describe(&self, trial: TrialId) -> String {
        let rung = self.climber(trial).map_or(0, |climber| climber.rung);
        let resource = self
            .rungs
            .get(rung as usize)
            .map_or(0, |rung| rung.resource);
        format!("rung {rung} of {} (epoch {resource})", self.rungs.len() - 1)
    }

    /// The rungs' resources.
    #[cfg(test)]
    pub(super) fn rungs(&self) -> impl Iterator<Item = u64> {
        self.rungs.iter().map(|rung| rung.resource)
    }

    fn set(&mut self, trial: TrialId, rung: u32, phase: Phase) {
        if let Some(climber) = self.climbers.get_mut(trial.0 as usize) {
            *climber = Climber { rung, phase };
        }
    }

    fn count(&mut self, rung: u32, place: Place) {
        let climbers = &self.climbers;
        // Without a finite value it is nobody's candidate, however few there are.
        let waits = |(value, trial): Place| {
            let climber = climbers.get(trial.0 as usize);
            value != WORST
                && climber.is_some_and(|c| c.rung == rung && matches!(c.phase, Phase::Waits(_)))
        };
        if let Some(known) = self.rungs.get_mut(rung as usize) {
            known.insert(place, self.eta as usize, waits);
        }
    }

    /// A value as a number that is the smaller the better the value is.
    fn place(&self, value: Option<f64>) -> u64 {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return WORST;
        };
        let cost = match self.mode {
            Mode::Minimize => value,
            Mode::Maximize => -value,
        };
        // Adding 0 makes one zero of both. The bits of floats, the negative ones inverted, sort as they do.
        let bits = (cost + 0.0).to_bits();
        let negative = bits >> 63 == 1;
        if negative { !bits } else { bits | 1 << 63 }
    }
}
