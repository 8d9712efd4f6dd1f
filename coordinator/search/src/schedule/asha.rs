//! ASHA: asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
//! Tuning", Algorithm 2), and asynchronous Hyperband over several brackets of it.
//!
//! Rung k lies at resource min_resource * eta^k, the last one at max_resource; bracket b begins at rung b
//! and has rungs of its own. A trial that fails, or has no finite value, counts among a rung's results as
//! the worst. Of equal values the lower trial is the better.
//!
//! Promotion, the paper's: trials wait at rungs. From the highest rung down, a trial among the best
//! floor(n / eta) of the n results of its rung that was not promoted yet goes on to the next rung; if there
//! is none, a new trial begins.
//!
//! Stopping: nobody waits. A trial runs on past its rung if it is among the best floor(n / eta) of the n
//! results there so far, its own included, or the best of all; else it stops for good.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::{AshaVariant, Mode, SchedulerName};
use trainyard_common::spec::{Params, SchedulerSpec};

use super::place::{Place, WORST, order};
use super::rungs::{Rung, ladder};
use super::{Promotion, Rule, Verdict};

/// More rungs than any ladder of 64-bit resources has.
const MAX_BRACKETS: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// On its way to its rung.
    Climbs,
    /// At its rung, with its result; the value decides its place.
    Waits(u64),
    /// At the top, stopped, or ended.
    Out,
}

#[derive(Debug, Clone, Copy)]
struct Climber {
    bracket: usize,
    /// Counted over the whole ladder.
    rung: u32,
    /// The resource of its last result.
    from: u64,
    phase: Phase,
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct Asha {
    eta: u32,
    mode: Mode,
    variant: AshaVariant,
    ladder: Vec<u64>,
    /// By bracket and rung; those below a bracket's first stay empty.
    rungs: Vec<Vec<Rung>>,
    shares: Shares,
    /// By trial number.
    climbers: Vec<Climber>,
}

impl Asha {
    /// One bracket of rungs from `min` to `max`, with promotions.
    pub(super) fn new(min: u64, max: u64, eta: u32, mode: Mode) -> Self {
        let ladder = ladder(min, max, eta);
        Self {
            eta: eta.max(2),
            mode,
            variant: AshaVariant::Promotion,
            rungs: vec![vec![Rung::default(); ladder.len()]],
            shares: Shares::new(1, ladder.len(), eta),
            ladder,
            climbers: Vec::new(),
        }
    }

    pub(super) fn of(spec: &SchedulerSpec, max: u64, mode: Mode) -> Self {
        let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
        let asha = Self::new(min, max, spec.eta.unwrap_or(SchedulerSpec::ETA), mode);
        let all = match spec.name {
            SchedulerName::AsyncHyperband => MAX_BRACKETS,
            _ => 1,
        };
        asha.with(
            spec.variant.unwrap_or_default(),
            spec.brackets.unwrap_or(all),
        )
    }

    /// The same with so many brackets, as far as there are rungs for them.
    pub(super) fn with(mut self, variant: AshaVariant, brackets: u32) -> Self {
        let depth = self.ladder.len();
        let brackets = (brackets.clamp(1, MAX_BRACKETS) as usize).min(depth);
        self.variant = variant;
        self.rungs = vec![vec![Rung::default(); depth]; brackets];
        self.shares = Shares::new(brackets, depth, self.eta);
        self
    }

    pub(super) fn stops(&self) -> bool {
        self.variant == AshaVariant::Stopping
    }

    fn climber(&self, trial: TrialId) -> Option<Climber> {
        self.climbers.get(trial.0 as usize).copied()
    }

    fn top(&self) -> usize {
        self.ladder.len() - 1
    }

    fn resource(&self, rung: u32) -> u64 {
        self.ladder.get(rung as usize).copied().unwrap_or_default()
    }

    /// The rungs' resources.
    #[cfg(test)]
    pub(super) fn rungs(&self) -> impl Iterator<Item = u64> {
        self.ladder.iter().copied()
    }

    fn set(&mut self, trial: TrialId, rung: u32, phase: Phase) {
        if let Some(climber) = self.climbers.get_mut(trial.0 as usize) {
            climber.rung = rung;
            climber.phase = phase;
        }
    }

    /// Counts a result; whether it is among the best of its rung.
    fn count(&mut self, bracket: usize, rung: u32, place: Place) -> bool {
        let (climbers, stops) = (&self.climbers, self.stops());
        // Without a finite value it is nobody's candidate, however few there are.
        let waits = |(value, trial): Place| {
            let climber = climbers.get(trial.0 as usize);
            value != WORST
                && climber.is_some_and(|c| c.rung == rung && matches!(c.phase, Phase::Waits(_)))
        };
        let known = self.rungs.get_mut(bracket);
        let Some(known) = known.and_then(|rungs| rungs.get_mut(rung as usize)) else {
            return false;
        };
        known.insert(place, self.eta as usize, usize::from(stops), waits);
        place.0 != WORST && known.is_best(place)
    }

    /// The rung that has something to promote, the highest first, and of its brackets the one with the most
    /// rungs.
    fn ready(&self) -> Option<(usize, usize, Place)> {
        let levels = (0..self.ladder.len()).rev();
        let mut all = levels.flat_map(|rung| (0..self.rungs.len()).map(move |b| (b, rung)));
        all.find_map(|(bracket, rung)| {
            let place = self.rungs.get(bracket)?.get(rung)?.first_ready()?;
            Some((bracket, rung, place))
        })
    }

    fn within(&self, bracket: usize) -> String {
        match self.rungs.len() {
            1 => String::new(),
            _ => format!(" in bracket {bracket}"),
        }
    }
}

impl Rule for Asha {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize == self.climbers.len() {
            let bracket = self.shares.take();
            self.climbers.push(Climber {
                bracket,
                rung: u32::try_from(bracket).unwrap_or(u32::MAX),
                from: 0,
                phase: Phase::Climbs,
            });
        }
    }

    fn until(&self, trial: TrialId) -> Option<u64> {
        let rung = self.climber(trial)?.rung as usize;
        let rung = if self.stops() { self.top() } else { rung };
        self.ladder.get(rung).copied()
    }

    fn next_look(&self, trial: TrialId) -> Option<u64> {
        let climber = self.climber(trial)?;
        self.stops().then(|| self.resource(climber.rung))
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.climber(trial).map_or(0, |climber| climber.from)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let climber = self.climber(trial)?;
        let counts = climber.phase == Phase::Climbs && resource >= self.resource(climber.rung);
        if !counts || !self.stops() {
            return counts.then_some(climber.rung);
        }
        // Of rungs that it passed without a result, the last counts.
        let passed = self.ladder.partition_point(|rung| *rung <= resource);
        u32::try_from(passed.checked_sub(1)?).ok()
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let (Some(climber), Some(rung)) = (self.climber(trial), self.reaches(trial, resource))
        else {
            return Verdict::Continue;
        };
        let top = rung as usize == self.top();
        let value = order(self.mode, value);
        let waits = !top && !self.stops();
        let phase = if waits {
            Phase::Waits(value)
        } else {
            Phase::Out
        };
        let from = self.resource(rung);
        if let Some(climber) = self.climbers.get_mut(trial.0 as usize) {
            *climber = Climber {
                rung,
                from,
                phase,
                ..*climber
            };
        }
        let best = self.count(climber.bracket, rung, (value, trial));
        match (top, self.stops(), best) {
            (true, ..) => Verdict::Done,
            (_, false, _) => Verdict::Pause,
            (_, true, false) => Verdict::Stop,
            (_, true, true) => {
                self.set(trial, rung + 1, Phase::Climbs);
                Verdict::Continue
            }
        }
    }

    fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        let Some(climber) = self.climber(trial) else {
            return;
        };
        self.set(trial, climber.rung, Phase::Out);
        match climber.phase {
            Phase::Climbs => {
                let place = (order(self.mode, value), trial);
                self.count(climber.bracket, climber.rung, place);
            }
            Phase::Waits(place) => {
                let rungs = self.rungs.get_mut(climber.bracket);
                if let Some(rung) = rungs.and_then(|rungs| rungs.get_mut(climber.rung as usize)) {
                    rung.take_ready((place, trial));
                }
            }
            Phase::Out => {}
        }
    }

    fn waits(&self, trial: TrialId) -> Option<u32> {
        let climber = self.climber(trial)?;
        matches!(climber.phase, Phase::Waits(_)).then_some(climber.rung)
    }

    fn at_top(&self, trial: TrialId) -> bool {
        let climber = self.climber(trial);
        self.stops() || climber.is_some_and(|climber| climber.rung as usize == self.top())
    }

    fn promotable(&self) -> Option<Promotion> {
        let (bracket, number, (_, trial)) = self.ready()?;
        let rung = self.rungs.get(bracket)?.get(number)?;
        Some(Promotion {
            trial,
            rung: u32::try_from(number).unwrap_or(u32::MAX),
            reason: format!(
                "among the best {} of {} results at epoch {} (rung {number} of {}{}): goes on to epoch {}",
                rung.best(),
                rung.results(),
                self.ladder.get(number)?,
                self.top(),
                self.within(bracket),
                self.ladder.get(number + 1)?
            ),
            clone: None,
            params: None,
        })
    }

    fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        let (bracket, rung, place) = self.ready()?;
        self.rungs
            .get_mut(bracket)?
            .get_mut(rung)?
            .take_ready(place);
        self.set(trial, promotion.rung + 1, Phase::Climbs);
        Some(promotion)
    }

    fn first_resource(&self) -> Option<u64> {
        let bracket = self.shares.next();
        self.ladder.get(bracket).copied()
    }

    fn place(&self, trial: TrialId) -> String {
        let (bracket, rung) = self
            .climber(trial)
            .map_or((0, 0), |climber| (climber.bracket, climber.rung));
        format!(
            "rung {rung} of {}{} (epoch {})",
            self.top(),
            self.within(bracket),
            self.resource(rung)
        )
    }
}

/// Which bracket the next trial is in. Hyperband gives each bracket the same budget, so that the bracket
/// with s + 1 rungs has a share of trials in proportion to eta^s / (s + 1). The next trial goes where the
/// number of trials lags its share the most, of equals to the one with the most rungs: no bracket ever has
/// a whole trial more than its share.
#[derive(Debug, Clone)]
struct Shares {
    /// Whole numbers in proportion.
    weights: Vec<i128>,
    sum: i128,
    taken: Vec<u32>,
    all: u32,
}

impl Shares {
    fn new(brackets: usize, rungs: usize, eta: u32) -> Self {
        let power = |bracket: usize| {
            let steps = u32::try_from(rungs - 1 - bracket).unwrap_or(u32::MAX);
            i128::from(eta.max(2)).saturating_pow(steps)
        };
        // Over a common denominator. Beyond 40 rungs there are none in a range that the checks accept.
        let common = (1..=rungs.min(40) as i128).fold(1, lcm);
        let weight = |bracket: usize| {
            let rungs = (rungs - bracket) as i128;
            (power(bracket).saturating_mul(common / rungs.max(1))).min(1 << 80)
        };
        let weights: Vec<i128> = (0..brackets).map(weight).collect();
        Self {
            sum: weights.iter().sum(),
            taken: vec![0; weights.len()],
            weights,
            all: 0,
        }
    }

    fn next(&self) -> usize {
        let all = i128::from(self.all) + 1;
        let shares = self.weights.iter().zip(&self.taken);
        let lag = shares.map(|(weight, taken)| weight * all - i128::from(*taken) * self.sum);
        let first = lag
            .enumerate()
            .reduce(|most, next| if next.1 > most.1 { next } else { most });
        first.map_or(0, |(bracket, _)| bracket)
    }

    fn take(&mut self) -> usize {
        let next = self.next();
        if let Some(taken) = self.taken.get_mut(next) {
            *taken += 1;
        }
        self.all += 1;
        next
    }
}

fn lcm(a: i128, b: i128) -> i128 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
