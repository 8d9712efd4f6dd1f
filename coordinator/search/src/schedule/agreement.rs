//! How far results at a rung tell what trials come to in the end, and which share of them must go on so that
//! the best one is among them.
//!
//! Told by Kendall's rank correlation tau of whole trials (Kendall 1938), less two standard errors: those without
//! association, smaller as tau nears one. Of two normal variables rho = sin(pi / 2 * tau)
//! (Greiner 1909). A trial whose end is [`BEST`] deviations above the mean then stands at the rung above
//! all but the share that [`keep`] says, in [`KEPT`] of all cases.

use std::f64::consts::{FRAC_PI_2, SQRT_2};

use crate::kendall;

/// The best of twenty: the expected maximum of so many normal draws, in deviations.
const BEST: f64 = 1.87;
/// The normal quantile of nine tenths: in so many cases the best trial is among those that go on.
const KEPT: f64 = 1.281_551_565_544_6;
/// Standard errors by which tau is taken for less: looked at again and again, it is high by chance now and then.
const ERRORS: f64 = 2.0;
/// Where more than this share had to go on, stopping the others saves little and may cost much.
const MOST: f64 = 0.7;

/// What is known of one rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Agreement {
    /// Kendall's tau; 0 where fewer than two pairs are known.
    pub(super) tau: f64,
    /// Trials that have a result there and at the top.
    pub(super) trials: usize,
    /// The share of a rung's results that goes on; 1: nobody is stopped there.
    pub(super) keep: f64,
}

impl Agreement {
    /// Nothing is known: nobody is stopped.
    pub(super) const NONE: Self = Self {
        tau: 0.0,
        trials: 0,
        keep: 1.0,
    };

    /// From (result at the rung, result at the top) of trials, in the order of goodness. Nobody is stopped while
    /// fewer than `enough` are known, and at least `least` of all go on.
    pub(super) fn of(results: &[(u64, u64)], enough: usize, least: f64) -> Self {
        let tau = kendall::tau(results, u64::cmp);
        let trials = results.len();
        let keep = if trials < enough {
            1.0
        } else {
            keep(tau - ERRORS * error(tau, trials), least)
        };
        Self { tau, trials, keep }
    }
}

/// The standard error of tau of so many trials.
fn error(tau: f64, trials: usize) -> f64 {
    let n = trials as f64;
    let without_association = libm::sqrt(2.0 * (2.0 * n + 5.0) / (9.0 * n * (n - 1.0)));
    without_association * libm::sqrt((1.0 - tau * tau).max(0.0))
}

/// The share that must go on where the ranks agree so far.
fn keep(tau: f64, least: f64) -> f64 {
    let rho = libm::sin(FRAC_PI_2 * tau.clamp(0.0, 1.0));
    let threshold = rho * BEST - KEPT * libm::sqrt((1.0 - rho * rho).max(0.0));
    let share = 0.5 * libm::erfc(threshold / SQRT_2);
    if share > MOST { 1.0 } else { share.max(least) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_ranks_agree_the_more_go_on() {
        let least = 1.0 / 3.0;
        let shares: Vec<f64> = (0..=20)
            .map(|tenth| keep(1.0 - f64::from(tenth) / 10.0, least))
            .collect();
        assert!(shares.is_sorted(), "{shares:?}");
        assert_eq!((shares[0], shares[10], shares[20]), (least, 1.0, 1.0));
        // Nothing lies between the most that go on and all.
        assert!(shares.iter().all(|share| *share <= MOST || *share == 1.0));
        assert!(shares.iter().any(|share| *share > least && *share < 1.0));
    }

    /// Draws from a normal copula: the share that goes on holds the best of twenty about as often as it says.
    #[test]
    fn the_best_is_kept_as_often_as_it_says() {
        let key = trainyard_common::rng::Key::new(3);
        for tau in [0.5, 0.6, 0.8] {
            let rho = libm::sin(FRAC_PI_2 * tau);
            let share = keep(tau, 0.0);
            let rounds = 4_000;
            let kept = (0..rounds).filter(|round| {
                let draws = key.with(*round);
                let ends: Vec<f64> = (0..20).map(|i| draws.normal(i)).collect();
                let here: Vec<f64> = (0..20)
                    .map(|i| {
                        rho * ends[i] + libm::sqrt(1.0 - rho * rho) * draws.normal(100 + i as u64)
                    })
                    .collect();
                let best = (0..20)
                    .max_by(|a, b| ends[*a].total_cmp(&ends[*b]))
                    .unwrap();
                let ahead = here.iter().filter(|value| **value > here[best]).count();
                (ahead as f64) < 20.0 * share
            });
            let kept = kept.count() as f64 / rounds as f64;
            assert!((kept - 0.9).abs() < 0.05, "{tau}: {kept} of {share}");
        }
    }

    #[test]
    fn little_evidence_stops_nobody() {
        let same: Vec<(u64, u64)> = (0..5).map(|i| (i, i)).collect();
        assert_eq!(Agreement::of(&same, 6, 0.3).keep, 1.0);
        assert!(Agreement::of(&same, 5, 0.3).keep < 0.4);
        let mut doubtful: Vec<(u64, u64)> = (0..6).map(|i| (i, i)).collect();
        (doubtful[0].1, doubtful[5].1) = (5, 0);
        assert_eq!(Agreement::of(&doubtful, 5, 0.3).keep, 1.0);
    }
}
