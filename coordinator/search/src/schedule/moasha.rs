//! MO-ASHA: asynchronous successive halving for several objectives (Schmucker et al. 2021, "Multi-objective
//! Asynchronous Successive Halving").
//!
//! As `asha`, but for the order of results at a rung: by non-dominated front, and within a front by
//! the epsilon-net, which begins with one member and goes on to the one farthest from all before. So
//! the best floor(n / eta) of a rung cover its front, not one corner of it. The order of known results may
//! change with every new one; what was promoted stays so.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;
use trainyard_common::spec::search::Mode;

use super::net::{net_of_many, net_of_two};
use super::rungs::ladder;
use super::{Promotion, Rule, Verdict};
use crate::pareto::{self, Fronts};

/// Positions of vectors of costs, the best first: by front, and within a front by the epsilon-net. Vectors with an
/// element that is no finite number come last.
pub fn order(costs: &[Vec<f64>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(costs.len());
    for front in pareto::sort(costs) {
        net_of_many(costs, &front, front.len(), &mut order);
    }
    order
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// On its way to its rung.
    Climbs,
    /// At its rung, with a result.
    Waits,
    /// At the top, or ended.
    Out,
}

#[derive(Debug, Clone, Copy)]
struct Climber {
    rung: u32,
    phase: Phase,
}

/// One rung.
#[derive(Debug, Clone, Default)]
struct Rung {
    resource: u64,
    /// Results, by trial number; empty where there is none. In this order of positions, so that of equal ones the
    /// lower trial is the better.
    costs: Vec<Vec<f64>>,
    results: usize,
    /// Positions of results by front.
    fronts: Fronts,
    /// Trials among the best floor(n / eta) that wait here, the best first.
    ready: Vec<TrialId>,
}

impl Rung {
    /// The first so many of a front.
    fn best_of(&self, front: &[usize], count: usize) -> Vec<usize> {
        let mut best = Vec::with_capacity(count);
        if front.first().is_some_and(|at| self.costs[*at].len() == 2) {
            net_of_two(&self.costs, front, count, &mut best);
        } else {
            net_of_many(&self.costs, front, count, &mut best);
        }
        best
    }
}

/// The state of one search.
#[derive(Debug, Clone)]
pub struct MoAsha {
    eta: u32,
    /// Of each objective.
    modes: Vec<Mode>,
    rungs: Vec<Rung>,
    /// By trial number.
    climbers: Vec<Climber>,
}

impl MoAsha {
    /// Rungs from `min` to `max`; what the spec's checks refuse is taken for the nearest that they accept.
    pub fn new(min: u64, max: u64, eta: u32, modes: Vec<Mode>) -> Self {
        let rung = |resource| Rung {
            resource,
            ..Rung::default()
        };
        Self {
            eta: eta.max(2),
            modes,
            rungs: ladder(min, max, eta).into_iter().map(rung).collect(),
            climbers: Vec::new(),
        }
    }

    fn climber(&self, trial: TrialId) -> Option<Climber> {
        self.climbers.get(trial.0 as usize).copied()
    }

    /// The trial's values of all objectives at its rung; without one that is finite for each, it counts as
    /// worse than any and is never promoted. The resource is that of the report, at or behind the rung.
    pub fn reached_with(
        &mut self,
        trial: TrialId,
        resource: u64,
        values: Option<&[f64]>,
    ) -> Verdict {
        let Some(rung) = self.reaches(trial, resource) else {
            return Verdict::Continue;
        };
        let top = self.at_top(trial);
        self.set(trial, rung, if top { Phase::Out } else { Phase::Waits });
        self.count(rung, trial, values);
        if top { Verdict::Done } else { Verdict::Pause }
    }

    /// The trial has ended. On its way to a rung it counts there with its values, or as the worst.
    pub fn ended_with(&mut self, trial: TrialId, values: Option<&[f64]>) {
        let Some(climber) = self.climber(trial) else {
            return;
        };
        self.set(trial, climber.rung, Phase::Out);
        match climber.phase {
            Phase::Climbs => self.count(climber.rung, trial, values),
            Phase::Waits => {
                if let Some(rung) = self.rungs.get_mut(climber.rung as usize) {
                    rung.ready.retain(|ready| *ready != trial);
                }
            }
            Phase::Out => {}
        }
    }

    fn set(&mut self, trial: TrialId, rung: u32, phase: Phase) {
        if let Some(climber) = self.climbers.get_mut(trial.0 as usize) {
            *climber = Climber { rung, phase };
        }
    }

    /// Takes in a result and finds anew who is among the best.
    fn count(&mut self, number: u32, trial: TrialId, values: Option<&[f64]>) {
        let costs = self.costs(values);
        let Some(rung) = self.rungs.get_mut(number as usize) else {
            return;
        };
        let at = trial.0 as usize;
        rung.costs.resize(rung.costs.len().max(at + 1), Vec::new());
        rung.costs[at] = costs;
        rung.results += 1;
        rung.fronts.insert(&rung.costs, at);
        let climbers = &self.climbers;
        // Without finite values it is nobody's candidate, however few there are.
        let waits = |at: usize| {
            let climber = climbers.get(at);
            climber.is_some_and(|c| c.rung == number && c.phase == Phase::Waits)
                && pareto::is_finite(&rung.costs[at])
        };
        let mut ready = Vec::new();
        let mut left = rung.results / self.eta as usize;
        for front in rung.fronts.iter() {
            if left == 0 {
                break;
            }
            let taken = left.min(front.len());
            left -= taken;
            // Where all were promoted their order does not matter, nor who is the first of one.
            let mut waiting = front.iter().copied().filter(|at| waits(*at));
            match (waiting.next(), waiting.next()) {
                (None, _) => {}
                (Some(only), None) if taken == front.len() => ready.push(only),
                _ => ready.extend(
                    rung.best_of(front, taken)
                        .into_iter()
                        .filter(|at| waits(*at)),
                ),
            }
        }
        let ready = ready.into_iter().map(|at| TrialId(at as u32)).collect();
        rung.ready = ready;
    }

    /// Values as costs, all of them not finite where one is missing.
    fn costs(&self, values: Option<&[f64]>) -> Vec<f64> {
        let fits = |values: &&[f64]| values.len() == self.modes.len() && pareto::is_finite(values);
        let Some(values) = values.filter(fits) else {
            return vec![f64::INFINITY; self.modes.len()];
        };
        let signed = values.iter().zip(&self.modes);
        signed
            .map(|(value, mode)| match mode {
                Mode::Minimize => *value,
                Mode::Maximize => -value,
            })
            .collect()
    }
}

impl Rule for MoAsha {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize == self.climbers.len() {
            let (rung, phase) = (0, Phase::Climbs);
            self.climbers.push(Climber { rung, phase });
        }
    }

    fn until(&self, trial: TrialId) -> Option<u64> {
        let rung = self.climber(trial)?.rung;
        Some(self.rungs.get(rung as usize)?.resource)
    }

    /// The resource of its last result.
    fn from(&self, trial: TrialId) -> u64 {
        let climber = self.climber(trial);
        let reached = climber.and_then(|climber| match climber.phase {
            Phase::Climbs => climber.rung.checked_sub(1),
            Phase::Waits | Phase::Out => Some(climber.rung),
        });
        let rung = reached.and_then(|rung| self.rungs.get(rung as usize));
        rung.map_or(0, |rung| rung.resource)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        let climber = self.climber(trial)?;
        let counts = climber.phase == Phase::Climbs && resource >= self.until(trial)?;
        counts.then_some(climber.rung)
    }

    /// One value alone tells nothing of the others.
    fn reached(&mut self, trial: TrialId, resource: u64, _value: Option<f64>) -> Verdict {
        self.reached_with(trial, resource, None)
    }

    fn ended(&mut self, trial: TrialId, _value: Option<f64>) {
        self.ended_with(trial, None);
    }

    fn waits(&self, trial: TrialId) -> Option<u32> {
        let climber = self.climber(trial)?;
        (climber.phase == Phase::Waits).then_some(climber.rung)
    }

    fn at_top(&self, trial: TrialId) -> bool {
        let climber = self.climber(trial);
        climber.is_some_and(|climber| climber.rung as usize + 1 == self.rungs.len())
    }

    /// From the highest rung down, the best that was not promoted.
    fn promotable(&self) -> Option<Promotion> {
        let rungs = self.rungs.iter().enumerate().rev();
        let mut ready =
            rungs.filter_map(|(number, rung)| Some((number, rung, rung.ready.first()?)));
        let (number, rung, trial) = ready.next()?;
        let next = self.rungs.get(number + 1)?;
        Some(Promotion {
            trial: *trial,
            rung: u32::try_from(number).unwrap_or(u32::MAX),
            reason: format!(
                "among the best {} of {} results of {} objectives at epoch {} (rung {number} of {}): goes on to epoch {}",
                rung.results / self.eta as usize,
                rung.results,
                self.modes.len(),
                rung.resource,
                self.rungs.len() - 1,
                next.resource
            ),
            clone: None,
            params: None,
        })
    }

    fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        let promotion = self.promotable().filter(|next| next.trial == trial)?;
        if let Some(rung) = self.rungs.get_mut(promotion.rung as usize) {
            rung.ready.retain(|ready| *ready != trial);
        }
        self.set(trial, promotion.rung + 1, Phase::Climbs);
        Some(promotion)
    }

    fn first_resource(&self) -> Option<u64> {
        Some(self.rungs.first()?.resource)
    }

    fn place(&self, trial: TrialId) -> String {
        let rung = self.climber(trial).map_or(0, |climber| climber.rung);
        let known = self.rungs.get(rung as usize);
        let resource = known.map_or(0, |rung| rung.resource);
        format!("rung {rung} of {} (epoch {resource})", self.rungs.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Asha;
    use super::*;
    use proptest::prelude::*;
    use trainyard_common::rng::Key;

    fn moasha(max: u64) -> MoAsha {
        MoAsha::new(1, max, 3, vec![Mode::Minimize, Mode::Maximize])
    }

    #[test]
    fn the_order_by_hand() {
        let costs = [
            vec![9.0, 9.0],
            vec![0.0, 8.0],
            vec![1.0, 7.0],
            vec![4.0, 4.0],
            vec![8.0, 0.0],
            vec![4.0, 4.0],
            vec![f64::NAN, 0.0],
            vec![5.0, 5.0],
        ];
        // The front: 1, 2, 3, 4 and 5, in eighths of its range. From 1 the farthest is 4, then in the middle 3,
        // then 2, and 5 as the copy of 3. Behind it 7, then 0.
        assert_eq!(order(&costs), [1, 4, 3, 2, 5, 7, 0, 6]);
        // Units do not matter.
        let stretched: Vec<Vec<f64>> = costs.iter().map(|c| vec![c[0], 1e6 * c[1]]).collect();
        assert_eq!(order(&stretched), order(&costs));
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn promotions_by_hand() {
        let mut moasha = moasha(9);
        // Loss and accuracy; trial 1 is dominated, 4 failed.
        let results = [
            Some([0.5, 0.9]),
            Some([0.6, 0.8]),
            Some([0.1, 0.1]),
            Some([0.4, 0.7]),
            None,
            Some([0.45, 0.75]),
        ];
        for (trial, values) in (0..).map(TrialId).zip(&results) {
            moasha.begun(trial, &Params::new());
            assert_eq!(moasha.reaches(trial, 0), None);
            assert_eq!(moasha.reaches(trial, 1), Some(0));
            match values {
                Some(values) => {
                    assert_eq!(moasha.reached_with(trial, 1, Some(values)), Verdict::Pause);
                    assert_eq!(moasha.waits(trial), Some(0));
                }
                None => moasha.ended_with(trial, None),
            }
        }
        // Two of six: the one with the least loss, and the farthest from it, that of the greatest accuracy.
        let next = |moasha: &MoAsha| moasha.promotable().map(|next| (next.trial.0, next.rung));
        assert_eq!(next(&moasha), Some((2, 0)));
        assert!(moasha.promote(TrialId(0)).is_none(), "it is not the next");
        assert!(moasha.promote(TrialId(2)).is_some());
        assert_eq!(
            (moasha.until(TrialId(2)), moasha.waits(TrialId(2))),
            (Some(3), None)
        );
        assert_eq!(next(&moasha), Some((0, 0)));
        // It ends while it waits: nobody takes its place among the best.
        moasha.ended_with(TrialId(0), None);
        assert_eq!(next(&moasha), None);
        // At the top a trial is done.
        assert_eq!(
            moasha.reached_with(TrialId(2), 3, Some(&[0.1, 0.2])),
            Verdict::Pause
        );
        assert!(!moasha.at_top(TrialId(2)));
        assert_eq!(moasha.place(TrialId(2)), "rung 1 of 2 (epoch 3)");
        let mut top = MoAsha::new(4, 4, 3, vec![Mode::Minimize]);
        top.begun(TrialId(0), &Params::new());
        assert_eq!(top.reached_with(TrialId(0), 4, Some(&[1.0])), Verdict::Done);
    }

    #[test]
    fn without_finite_values_nobody_goes_on() {
        let mut moasha = moasha(9);
        for trial in (0..9).map(TrialId) {
            moasha.begun(trial, &Params::new());
            let values: Option<&[f64]> = match trial.0 % 3 {
                0 => None,
                1 => Some(&[f64::NAN, 1.0]),
                _ => Some(&[1.0]),
            };
            moasha.reached_with(trial, 1, values);
        }
        assert_eq!(moasha.promotable(), None);
    }

    proptest! {
        /// Of one objective the order is that of costs: front after front of equal ones, the first trial first.
        #[test]
        fn with_one_objective_it_is_asha(
            values in prop::collection::vec(prop_oneof![
                9 => (0u8..20).prop_map(|value| Some(f64::from(value))),
                1 => Just(None),
            ], 0..60),
            promotes in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut several = MoAsha::new(1, 9, 3, vec![Mode::Maximize]);
            let mut one = Asha::new(1, 9, 3, Mode::Maximize);
            for ((trial, value), promote) in (0..).map(TrialId).zip(values).zip(promotes) {
                several.begun(trial, &Params::new());
                one.begun(trial, &Params::new());
                let vector = value.map(|value| [value]);
                let verdict = several.reached_with(trial, 1, vector.as_ref().map(|v| &v[..]));
                prop_assert_eq!(verdict, one.reached(trial, 1, value));
                while promote && let Some(next) = one.promotable() {
                    let found = several.promotable().map(|found| (found.trial, found.rung));
                    prop_assert_eq!(found, Some((next.trial, next.rung)));
                    one.promote(next.trial);
                    several.promote(next.trial);
                    let value = f64::from(next.trial.0 * 7 % 11);
                    one.reached(next.trial, 9, Some(value));
                    several.reached_with(next.trial, 9, Some(&[value]));
                }
            }
            prop_assert_eq!(several.promotable().map(|p| p.trial), one.promotable().map(|p| p.trial));
        }

        /// Fronts keep their order, and no result is lost.
        #[test]
        fn the_order_keeps_that_of_fronts(
            costs in prop::collection::vec(prop::collection::vec(0u8..6, 3), 0..30)
        ) {
            let costs: Vec<Vec<f64>> = costs.iter().map(|c| c.iter().map(|c| f64::from(*c)).collect()).collect();
            let order = order(&costs);
            let mut from = 0;
            for front in pareto::sort(&costs) {
                let mut members = order[from..from + front.len()].to_vec();
                members.sort_unstable();
                prop_assert_eq!(&members, &front);
                from += front.len();
            }
            prop_assert_eq!(from, order.len());
        }

        /// Who is ready are the best third in that order, however the results came.
        #[test]
        fn the_best_of_a_rung_are_the_first_of_the_order(
            costs in prop::collection::vec(prop::collection::vec(0u8..6, 2), 0..40),
            shuffle in any::<u64>(),
        ) {
            let costs: Vec<Vec<f64>> = costs.iter().map(|c| c.iter().map(|c| f64::from(*c)).collect()).collect();
            let mut moasha = MoAsha::new(1, 9, 3, vec![Mode::Minimize; 2]);
            let mut trials: Vec<u32> = (0..costs.len() as u32).collect();
            trials.iter().for_each(|trial| moasha.begun(TrialId(*trial), &Params::new()));
            trials.sort_by_key(|trial| Key::new(shuffle).bits(u64::from(*trial)));
            for trial in trials {
                moasha.reached_with(TrialId(trial), 1, Some(&costs[trial as usize]));
            }
            let ready: Vec<usize> = moasha.rungs[0].ready.iter().map(|trial| trial.0 as usize).collect();
            prop_assert_eq!(&ready, &order(&costs)[..costs.len() / 3].to_vec());
        }
    }
}
