//! `auto`: stops trials at rungs only where results there tell what comes of them, and only as far.
//!
//! Rungs lie as those of `asha`. The first [`WHOLE`] trials run to the top whatever they come to, and so do
//! later ones as long as they take at most [`SHARE`] of all that was trained: of these the ranks at each
//! rung are compared with the ranks at the top ([`Agreement`]). A trial that is none of them runs on past a
//! rung if it is among the best floor(n * keep) of the n results there so far, its own included, or the best
//! of all; else it stops for good. Where ranks do not agree `keep` is 1 and the rung stops nobody: so rungs
//! rise and fall with what is found, down to no stopping.
//!
//! Compared are whole trials that no rung could have stopped, since of those that were let through by a rung
//! the ranks there say less; and the newest [`WINDOW`] of them, since a search moves on. Of equal values the
//! lower trial is the better.

use std::collections::VecDeque;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{Params, SchedulerSpec};

use super::agreement::Agreement;
use super::place::{Place, WORST, order};
use super::rungs::ladder;
use super::{Rule, Verdict};

/// Ranks of fewer whole trials say nothing: six in perfect order come by chance once in 720 times.
const WHOLE: usize = 6;
/// Of all that was trained.
const SHARE: f64 = 0.15;
/// Whole trials that are compared.
const WINDOW: usize = 20;

#[derive(Debug, Clone)]
struct Runner {
    /// The rung to which it is on its way.
    rung: usize,
    /// The resource of its last result.
    from: u64,
    /// It runs to the top whatever it comes to.
    whole: bool,
    /// A rung could have stopped it.
    tried: bool,
    over: bool,
    /// By rung: its results, [`WORST`] without a finite value; `None` where it passed without one.
    results: Vec<Option<u64>>,
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct Auto {
    mode: Mode,
    ladder: Vec<u64>,
    /// At least so many go on where some are stopped: one of `eta`.
    least: f64,
    /// By rung, in the order of goodness.
    rungs: Vec<Vec<Place>>,
    /// By rung below the top.
    agreements: Vec<Agreement>,
    /// Results by rung of the newest whole trials that no rung could have stopped.
    whole: VecDeque<Vec<Option<u64>>>,
    /// Trials that run to the top whatever they come to.
    begun_whole: u64,
    /// By all trials.
    trained: u64,
    /// By trial number.
    runners: Vec<Runner>,
}

impl Auto {
    pub(super) fn of(spec: &SchedulerSpec, max: u64, mode: Mode) -> Self {
        let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
        let eta = spec.eta.unwrap_or(SchedulerSpec::ETA).max(2);
        let ladder = ladder(min, max, eta);
        Self {
            mode,
            least: 1.0 / f64::from(eta),
            rungs: vec![Vec::new(); ladder.len()],
            agreements: vec![Agreement::NONE; ladder.len() - 1],
            whole: VecDeque::new(),
            begun_whole: 0,
            trained: 0,
            runners: Vec::new(),
            ladder,
        }
    }

    fn runner(&self, trial: TrialId) -> Option<&Runner> {
        self.runners.get(trial.0 as usize)
    }

    fn top(&self) -> usize {
        self.ladder.len() - 1
    }

    fn resource(&self, rung: usize) -> u64 {
        self.ladder.get(rung).copied().unwrap_or_default()
    }

    /// Whether the next trial is to run to the top whatever it comes to.
    fn next_is_whole(&self) -> bool {
        let whole = (self.begun_whole + 1).saturating_mul(self.resource(self.top()));
        self.begun_whole < WHOLE as u64 || whole as f64 <= SHARE * self.trained as f64
    }

    /// Takes in a result; how many of the rung are better, and how many there are.
    fn count(&mut self, rung: usize, place: Place) -> (usize, usize) {
        let Some(results) = self.rungs.get_mut(rung) else {
            return (0, 1);
        };
        let better = results.partition_point(|other| *other < place);
        results.insert(better, place);
        (better, results.len())
    }

    fn keep(&self, rung: usize) -> f64 {
        self.agreements.get(rung).map_or(1.0, |known| known.keep)
    }

    /// A whole trial that no rung could have stopped has come to the top.
    fn compare(&mut self, results: Vec<Option<u64>>) {
        if self.whole.len() == WINDOW {
            self.whole.pop_front();
        }
        self.whole.push_back(results);
        for (rung, agreement) in self.agreements.iter_mut().enumerate() {
            let known = self.whole.iter().filter_map(|results| {
                let here = *results.get(rung)?;
                Some((here?, (*results.last()?)?))
            });
            let known: Vec<(u64, u64)> = known.collect();
            *agreement = Agreement::of(&known, WHOLE, self.least);
        }
    }
}

impl Rule for Auto {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize != self.runners.len() {
            return;
        }
        let whole = self.next_is_whole();
        self.begun_whole += u64::from(whole);
        self.runners.push(Runner {
            rung: 0,
            from: 0,
            whole,
            tried: false,
            over: false,
            results: vec![None; self.ladder.len()],
        });
    }

    fn until(&self, _trial: TrialId) -> Option<u64> {
        self.ladder.last().copied()
    }

    fn next_look(&self, trial: TrialId) -> Option<u64> {
        Some(self.resource(self.runner(trial)?.rung))
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.runner(trial).map_or(0, |runner| runner.from)
    }

    /// Of rungs that it passed without a result, the last counts.
    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let runner = self.runner(trial)?;
        let passed = self.ladder.partition_point(|rung| *rung <= resource);
        let rung = passed.checked_sub(1)?;
        let counts = !runner.over && rung >= runner.rung;
        counts.then(|| u32::try_from(rung).unwrap_or(u32::MAX))
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let Some(rung) = self.reaches(trial, resource) else {
            return Verdict::Continue;
        };
        let rung = rung as usize;
        let (top, from) = (rung == self.top(), self.resource(rung));
        let value = order(self.mode, value);
        let (better, results) = self.count(rung, (value, trial));
        let keep = self.keep(rung);
        let stops_some = keep < 1.0;
        let passing = ((results as f64 * keep) as usize).max(1);
        let passes = !stops_some || (value != WORST && better < passing);
        let Some(runner) = self.runners.get_mut(trial.0 as usize) else {
            return Verdict::Continue;
        };
        self.trained = self.trained.saturating_add(from - runner.from);
        runner.from = from;
        if let Some(result) = runner.results.get_mut(rung) {
            *result = Some(value);
        }
        if top {
            runner.over = true;
            let unbiased = runner.whole || !runner.tried;
            let results = std::mem::take(&mut runner.results);
            if unbiased {
                self.compare(results);
            }
            return Verdict::Done;
        }
        runner.tried |= stops_some;
        if passes || runner.whole {
            runner.rung = rung + 1;
            return Verdict::Continue;
        }
        runner.over = true;
        runner.results = Vec::new();
        Verdict::Stop
    }

    /// On its way it counts as the worst where it was going, or with its last value.
    fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        let value = order(self.mode, value);
        let Some(runner) = self.runners.get_mut(trial.0 as usize) else {
            return;
        };
        if !std::mem::replace(&mut runner.over, true) {
            runner.results = Vec::new();
            let rung = runner.rung;
            self.count(rung, (value, trial));
        }
    }

    fn first_resource(&self) -> Option<u64> {
        self.ladder.first().copied()
    }

    /// Where it stands at the rung of its last result, and how far that rung is trusted.
    fn place(&self, trial: TrialId) -> String {
        let from = self.from(trial);
        let passed = self.ladder.partition_point(|rung| *rung <= from);
        let Some(rung) = passed.checked_sub(1) else {
            return "no rung".to_owned();
        };
        let results = self.rungs.get(rung).map_or(&[][..], Vec::as_slice);
        let standing = results.iter().position(|place| place.1 == trial);
        let standing = standing.map_or(String::new(), |better| {
            format!(", number {} of {} results", better + 1, results.len())
        });
        let trusted = self.agreements.get(rung).map_or(String::new(), |known| {
            let Agreement { tau, trials, keep } = known;
            let agree =
                format!("whose ranks agree with those of {trials} whole trials by tau {tau:.2}");
            match *keep < 1.0 {
                true => format!(", {agree}: the best {:.0}% go on", 100.0 * keep),
                false => format!(", {agree}: nobody is stopped there"),
            }
        });
        format!(
            "rung {rung} of {} (epoch {from}){standing}{trusted}",
            self.top()
        )
    }
}
