//! Synchronous successive halving: brackets whose trials all reach a rung before the best go on.
//!
//! A bracket has rungs i = 0, 1... with n_i = floor(n_0 / eta^i) trials and a resource r_i. It takes n_0 trials; once each member
//! of rung i has a result or has ended, the best n_(i+1) of those that have a value and can go on do, and the
//! others of the rung are eliminated. Of equal values the lower trial is the better. Trials that failed leave
//! their places to others, so that later rungs are full as long as there are trials for them.
//!
//! When all places of a bracket are taken, the next trial begins the next bracket: several are under way at
//! once, and who asks for work always gets some. A bracket that is not full when the search is closed goes
//! on with the trials it has as its n_0.
//!
//! Which sizes and resources is for `sha` and `hyperband` to say.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;
use trainyard_common::spec::search::Mode;

use super::place::{Place, WORST, order};
use super::{Promotion, Rule, Verdict};

/// A rung as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Trials that train here.
    pub(super) trials: u32,
    /// Until which epoch.
    pub(super) resource: u64,
}

/// The rungs of a bracket, at least one.
pub(super) type Shape = Vec<Step>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// On its way to its rung.
    Climbs,
    /// At its rung, with its result, until the others have theirs.
    Waits,
    /// At its rung, and goes on to the next.
    Chosen(u64),
    /// At its rung, and does not.
    Eliminated,
    Out,
}

#[derive(Debug, Clone, Copy)]
struct Climber {
    bracket: usize,
    rung: usize,
    /// The resource of its last result.
    from: u64,
    phase: Phase,
}

#[derive(Debug, Clone)]
struct Bracket {
    rungs: Shape,
    /// Trials that began.
    begun: u32,
    /// No more will.
    full: bool,
    /// The rung that is under way.
    rung: usize,
    /// Its members without a result.
    awaited: u32,
    /// Results of its members.
    results: Vec<Place>,
    /// Members of the rung before, which went on to this one, and of how many.
    chosen: (usize, usize),
}

impl Bracket {
    fn new(rungs: Shape) -> Self {
        Self {
            rungs,
            begun: 0,
            full: false,
            rung: 0,
            awaited: 0,
            results: Vec::new(),
            chosen: (0, 0),
        }
    }

    fn resource(&self, rung: usize) -> u64 {
        self.rungs.get(rung).map_or(0, |step| step.resource)
    }

    fn last(&self) -> usize {
        self.rungs.len() - 1
    }

    /// How many of the rung under way go on: n_(i+1) = floor(n_0 / eta^(i+1)) of those that began.
    fn keep(&self, eta: u32) -> usize {
        if self.rung >= self.last() {
            return 0;
        }
        let times = u32::try_from(self.rung + 1).unwrap_or(u32::MAX);
        (self.begun / eta.saturating_pow(times)) as usize
    }
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct Halving {
    eta: u32,
    mode: Mode,
    /// Of brackets 0, 1..., and then from the first again. At least one.
    shapes: Vec<Shape>,
    brackets: Vec<Bracket>,
    /// By trial number.
    climbers: Vec<Climber>,
    /// Who goes on: of the oldest bracket first, the best first.
    ready: BTreeSet<(usize, Place)>,
    eliminated: BTreeSet<TrialId>,
}

impl Halving {
    /// Shapes without a rung are left out.
    pub(super) fn new(mut shapes: Vec<Shape>, eta: u32, mode: Mode) -> Self {
        shapes.retain(|shape| shape.first().is_some_and(|step| step.trials > 0));
        if shapes.is_empty() {
            let (trials, resource) = (1, 1);
            shapes.push(vec![Step { trials, resource }]);
        }
        Self {
            eta: eta.max(2),
            mode,
            shapes,
            brackets: Vec::new(),
            climbers: Vec::new(),
            ready: BTreeSet::new(),
            eliminated: BTreeSet::new(),
        }
    }

    fn climber(&self, trial: TrialId) -> Option<Climber> {
        self.climbers.get(trial.0 as usize).copied()
    }

    fn set(&mut self, trial: TrialId, rung: usize, phase: Phase) {
        if let Some(climber) = self.climbers.get_mut(trial.0 as usize) {
            climber.rung = rung;
            climber.phase = phase;
        }
    }

    /// The shape of the bracket that the next trial would begin.
    fn next_shape(&self) -> &[Step] {
        let next = self.brackets.len() % self.shapes.len();
        self.shapes.get(next).map_or(&[], Vec::as_slice)
    }

    /// A member of the rung under way has this result, or none to come.
    fn count(&mut self, bracket: usize, result: Option<Place>) {
        if let Some(known) = self.brackets.get_mut(bracket) {
            known.awaited = known.awaited.saturating_sub(1);
            known.results.extend(result);
        }
        self.decide(bracket);
    }

    /// Closes the rung under way if nothing of it is awaited.
    fn decide(&mut self, number: usize) {
        let Some(bracket) = self.brackets.get_mut(number) else {
            return;
        };
        if !bracket.full || bracket.awaited > 0 || bracket.rung > bracket.last() {
            return;
        }
        let (rung, keep) = (bracket.rung, bracket.keep(self.eta));
        let mut results = std::mem::take(&mut bracket.results);
        results.sort_unstable();
        let waits = |(_, trial): &Place| {
            let climber = self.climbers.get(trial.0 as usize);
            climber.is_some_and(|climber| climber.phase == Phase::Waits)
        };
        results.retain(waits);
        let able = results.iter().take_while(|(value, _)| *value != WORST);
        let keep = able.count().min(keep);
        bracket.rung += 1;
        bracket.awaited = u32::try_from(keep).unwrap_or(u32::MAX);
        bracket.chosen = (keep, results.len());
        if keep == 0 {
            // Nobody is left: no rung is under way any more.
            bracket.rung = bracket.rungs.len();
        }
        for (position, (value, trial)) in results.into_iter().enumerate() {
            if position < keep {
                self.ready.insert((number, (value, trial)));
                self.set(trial, rung, Phase::Chosen(value));
            } else {
                self.eliminated.insert(trial);
                self.set(trial, rung, Phase::Eliminated);
            }
        }
    }
}

impl Rule for Halving {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize != self.climbers.len() {
            return;
        }
        if self.brackets.last().is_none_or(|bracket| bracket.full) {
            let shape = self.next_shape().to_vec();
            self.brackets.push(Bracket::new(shape));
        }
        let number = self.brackets.len() - 1;
        if let Some(bracket) = self.brackets.last_mut() {
            bracket.begun += 1;
            bracket.awaited += 1;
            bracket.full = bracket
                .rungs
                .first()
                .is_none_or(|step| bracket.begun >= step.trials);
        }
        self.climbers.push(Climber {
            bracket: number,
            rung: 0,
            from: 0,
            phase: Phase::Climbs,
        });
    }

    fn until(&self, trial: TrialId) -> Option<u64> {
        let climber = self.climber(trial)?;
        Some(self.brackets.get(climber.bracket)?.resource(climber.rung))
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.climber(trial).map_or(0, |climber| climber.from)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let climber = self.climber(trial)?;
        let counts = climber.phase == Phase::Climbs && resource >= self.until(trial)?;
        counts.then(|| u32::try_from(climber.rung).unwrap_or(u32::MAX))
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let Some(climber) = self.climber(trial) else {
            return Verdict::Continue;
        };
        if self.reaches(trial, resource).is_none() {
            return Verdict::Continue;
        }
        let top = self.at_top(trial);
        let phase = if top { Phase::Out } else { Phase::Waits };
        let from = self.until(trial).unwrap_or(0);
        if let Some(known) = self.climbers.get_mut(trial.0 as usize) {
            *known = Climber {
                from,
                phase,
                ..climber
            };
        }
        self.count(climber.bracket, Some((order(self.mode, value), trial)));
        if top { Verdict::Done } else { Verdict::Pause }
    }

    fn ended(&mut self, trial: TrialId, _value: Option<f64>) {
        let Some(climber) = self.climber(trial) else {
            return;
        };
        self.set(trial, climber.rung, Phase::Out);
        match climber.phase {
            Phase::Climbs => self.count(climber.bracket, None),
            Phase::Chosen(value) => {
                // The next rung waits for it no longer.
                self.ready.remove(&(climber.bracket, (value, trial)));
                self.count(climber.bracket, None);
            }
            Phase::Eliminated => {
                self.eliminated.remove(&trial);
            }
            Phase::Waits | Phase::Out => {}
        }
    }

    fn close(&mut self) {
        // All others are full.
        let last = self.brackets.len().saturating_sub(1);
        if let Some(bracket) = self.brackets.get_mut(last)
            && !bracket.full
        {
            bracket.full = true;
            self.decide(last);
        }
    }

    fn waits(&self, trial: TrialId) -> Option<u32> {
        let climber = self.climber(trial)?;
        let waits = !matches!(climber.phase, Phase::Climbs | Phase::Out);
        waits.then(|| u32::try_from(climber.rung).unwrap_or(u32::MAX))
    }

    fn at_top(&self, trial: TrialId) -> bool {
        let climber = self.climber(trial);
        climber.is_some_and(|climber| {
            let bracket = self.brackets.get(climber.bracket);
            bracket.is_some_and(|bracket| climber.rung == bracket.last())
        })
    }

    fn promotable(&self) -> Option<Promotion> {
        let (number, (_, trial)) = *self.ready.first()?;
        let bracket = self.brackets.get(number)?;
        let rung = self.climber(trial)?.rung;
        let (best, of) = bracket.chosen;
        Some(Promotion {
            trial,
            rung: u32::try_from(rung).unwrap_or(u32::MAX),
            reason: format!(
                "among the best {best} of {of} at epoch {} (rung {rung} of {} in bracket {number}): goes on to epoch {}",
                bracket.resource(rung),
                bracket.last(),
                bracket.resource(rung + 1)
            ),
            clone: None,
            params: None,
        })
    }

    fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        self.ready.pop_first();
        let rung = self.climber(trial)?.rung;
        self.set(trial, rung + 1, Phase::Climbs);
        Some(promotion)
    }

    fn eliminated(&self) -> Vec<TrialId> {
        self.eliminated.iter().copied().collect()
    }

    fn first_resource(&self) -> Option<u64> {
        let open = self.brackets.last().filter(|bracket| !bracket.full);
        let rungs = open.map_or(self.next_shape(), |bracket| &bracket.rungs);
        rungs.first().map(|step| step.resource)
    }

    fn place(&self, trial: TrialId) -> String {
        let Some(climber) = self.climber(trial) else {
            return "its rung".to_owned();
        };
        let bracket = self.brackets.get(climber.bracket);
        let (last, resource) = bracket.map_or((0, 0), |bracket| {
            (bracket.last(), bracket.resource(climber.rung))
        });
        format!(
            "rung {} of {last} in bracket {} (epoch {resource})",
            climber.rung, climber.bracket
        )
    }
}
