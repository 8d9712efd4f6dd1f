//! Which question a proposal answers: where to improve on the best, or, the surer the model is that there is
//! little left to gain around the best, what other hills have.
//!
//! All of it follows from the results and the trial's number, so that proposals that are taken over need none.

use trainyard_common::rng::Key;

use super::niches::{Niche, peaks};

/// Niches that are looked at, the incumbent's among them.
const PEAKS: usize = 4;

/// One proposal in so many is for another niche; where the incumbent's has nothing more, one in so many.
const PERIOD: usize = 5;
const SURE_PERIOD: usize = 2;

/// Expected improvement below this share of the range of costs is not worth a trial, and steps below that
/// share are not counted as one.
const WORTH: f64 = 1e-4;
const STEP: f64 = 1e-3;

/// Results without a step after which the incumbent's niche may be exhausted.
const STAGNANT: usize = 3;

/// With which hyperparameters, where, with which draws.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// By a model that trusts the fitted length scales less.
    pub(super) doubtful: bool,
    pub(super) niche: Option<Niche<'a>>,
    pub(super) key: Key,
}

/// What is known.
pub(super) struct Known<'a> {
    /// Of the trials' points, those with costs, and their order from the best on.
    pub(super) axes: &'a super::Axes,
    pub(super) points: &'a [&'a [f64]],
    pub(super) order: &'a [usize],
    /// Results since the last [`stagnation`] step.
    pub(super) stagnation: usize,
    /// The range of costs in the unit of the model's.
    pub(super) range: f64,
    /// The trial's number.
    pub(super) turn: usize,
    pub(super) key: Key,
}

/// An answer: the logarithm of the expected improvement, and where.
pub(super) type Found = Option<(f64, Vec<f64>)>;

/// The point to propose; `ask` answers a question.
pub(super) fn explore(known: &Known<'_>, mut ask: impl FnMut(Question<'_>) -> Found) -> Found {
    let worth = libm::log(WORTH * known.range);
    let peaks = peaks(known.axes, known.points, known.order, PEAKS);
    let niche = |nth: usize| {
        let at = peaks.get(nth)?;
        let centre = known.points.get(*at)?;
        Some(Niche { centre })
    };
    let sure = known.stagnation >= STAGNANT && {
        let own = ask(Question {
            doubtful: false,
            niche: niche(0),
            key: known.key.named("own"),
        });
        own.is_none_or(|(score, _)| score < worth)
    };
    let whole = Question {
        doubtful: sure,
        niche: None,
        key: known.key,
    };
    let period = if sure { SURE_PERIOD } else { PERIOD };
    let for_niche = known.turn % period == period / 2;
    let mut best = if for_niche { None } else { ask(whole) };
    if best.as_ref().is_some_and(|(score, _)| *score >= worth) {
        return best;
    }
    // The second best niche gets half of the turns, the third a quarter, and so on; one with nothing to gain
    // leaves its turn to the next.
    let first = 1 + (known.turn / period).trailing_zeros() as usize;
    let first = if first < peaks.len() { first } else { 1 };
    for nth in first..peaks.len() {
        let other = ask(Question {
            doubtful: true,
            niche: niche(nth),
            key: known.key.named("niche").with(nth as u64),
        });
        if other.as_ref().is_some_and(|(score, _)| *score >= worth) {
            return other;
        }
    }
    if for_niche {
        best = ask(whole);
    }
    best
}

/// The range of costs, as the first ones (which are spread evenly) tell it: their median above the best.
pub(super) fn range(costs: &[f64], first: usize) -> f64 {
    let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let mut first = costs[..first.min(costs.len())].to_vec();
    first.sort_by(f64::total_cmp);
    let range = first
        .get(first.len() / 2)
        .map_or(0.0, |median| median - best);
    if range.is_finite() { range } else { 0.0 }
}

/// Results since the best last became better by a share of the range.
pub(super) fn stagnation(costs: &[f64], range: f64) -> usize {
    let (mut best, mut since) = (f64::INFINITY, 0);
    for cost in costs {
        since += 1;
        if *cost < best - STEP * range {
            (best, since) = (*cost, 0);
        }
    }
    since
}

#[cfg(test)]
mod tests {
    use super::super::tests::axes;
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_and_stagnation_by_hand() {
        // The median of 9, 5, 7 is 7; the best 1.
        let costs = [9.0, 5.0, 7.0, 1.001, 1.0, 3.0];
        assert_eq!(range(&costs, 3), 6.0);
        // From 1.001 to 1 is less than 6 thousandths.
        assert_eq!(stagnation(&costs, 6.0), 2);
        assert_eq!(stagnation(&costs, 0.0), 1);
        assert_eq!(range(&[f64::MAX, -f64::MAX], 2), 0.0);
        assert_eq!((range(&[], 3), stagnation(&[], 1.0)), (0.0, 0));
    }

    /// The questions of a turn, where the own niche and all others have these scores.
    fn asked(turn: usize, own: f64, others: f64) -> Vec<(bool, Option<f64>)> {
        let axes = axes(&json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let points: [&[f64]; 3] = [&[0.1], &[0.5], &[0.9]];
        let known = Known {
            axes: &axes,
            points: &points,
            order: &[0, 1, 2],
            stagnation: 9,
            range: 1.0,
            turn,
            key: Key::new(1),
        };
        let mut asked = Vec::new();
        explore(&known, |question| {
            let centre = question.niche.map(|niche| niche.centre[0]);
            asked.push((question.doubtful, centre));
            let score = if centre == Some(0.1) { own } else { others };
            Some((score, Vec::new()))
        });
        asked
    }

    #[test]
    fn other_niches_have_their_turns_and_all_once_the_best_is_exhausted() {
        let (own, whole) = ((false, Some(0.1)), (false, None));
        assert_eq!(asked(3, 0.0, 0.0), [own, whole]);
        // 7 / 5 = 1: the second niche; 12 / 5 = 2: the third.
        assert_eq!(asked(7, 0.0, 0.0), [own, (true, Some(0.5))]);
        assert_eq!(asked(12, 0.0, 0.0), [own, (true, Some(0.9))]);
        // Nothing to gain around the best: every other turn, and with doubt elsewhere.
        assert_eq!(asked(8, -99.0, 0.0), [own, (true, None)]);
        assert_eq!(asked(7, -99.0, 0.0), [own, (true, Some(0.5))]);
        // Nothing anywhere: the whole space after all.
        let niches = [(true, Some(0.5)), (true, Some(0.9))];
        assert_eq!(
            asked(7, -99.0, -99.0),
            [&[own], &niches[..], &[(true, None)]].concat()
        );
        assert_eq!(asked(8, -99.0, -99.0)[..2], [own, (true, None)]);
    }
}
