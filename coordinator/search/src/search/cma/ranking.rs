//! The order of trials by what they cost, at whatever resource they were stopped.

use super::super::history::{History, Past, Status};

/// Whether a trial has a result to learn from: its end, or a rung.
pub(super) fn is_heard(past: &Past) -> bool {
    match past.status {
        Status::Done(_) | Status::Bad => true,
        Status::Pending | Status::Waits => !past.rungs.is_empty(),
        Status::Void => false,
    }
}

/// What trials cost, to be compared with each other. Bad ones cost infinitely much.
///
/// Where all began at one resource: their costs at the largest that all of them have reached, or at their end
/// where they have no rungs. Where they did not, as in brackets, costs do not compare: then the share of
/// all trials with a result where this one began that were better.
pub(super) fn costs(history: &History, trials: &[usize]) -> Vec<f64> {
    let pasts = trials.iter().map(|trial| &history.trials[*trial]);
    let good = pasts.clone().filter(|past| past.status != Status::Bad);
    let common = good
        .clone()
        .filter_map(|past| past.rungs.last())
        .map(|rung| rung.0)
        .min();
    let mut firsts = good.map(|past| past.rungs.first().map(|rung| rung.0));
    let first = firsts.next().flatten();
    let is_one = firsts.all(|other| other == first);
    let cost = |past: &Past| match past.status {
        Status::Bad => f64::INFINITY,
        _ if is_one => cost_at(past, common),
        _ => share_of_better(history, past),
    };
    pasts.map(cost).collect()
}

/// At the last of a trial's rungs up to a resource; at its end where it has none.
fn cost_at(past: &Past, resource: Option<u64>) -> f64 {
    let mut rungs = past.rungs.iter().rev();
    match (rungs.find(|rung| Some(rung.0) <= resource), past.status) {
        (Some((_, cost)), _) => *cost,
        (None, Status::Done(cost)) => cost,
        _ => f64::INFINITY,
    }
}

fn share_of_better(history: &History, past: &Past) -> f64 {
    let first = past.rungs.first().map(|rung| rung.0);
    let own = cost_at(past, first);
    let others = history
        .trials
        .iter()
        .filter(|past| past.rungs.first().map(|rung| rung.0) == first && is_heard(past));
    let (mut better, mut all) = (0.0, 0.0);
    for other in others {
        all += 1.0;
        better += if other.status != Status::Bad && cost_at(other, first) < own {
            1.0
        } else {
            0.0
        };
    }
    better / f64::max(all, 1.0)
}

/// Positions, the lowest cost's first; of equal ones the earlier.
pub(super) fn ranked(costs: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_compare_at_a_common_resource() {
        let mut history = History::default();
        (0..4).for_each(|_| history.begun(vec![0.5]));
        for (trial, rungs) in [
            (0, vec![(1, 5.0), (3, 1.0)]),
            (1, vec![(1, 4.0)]),
            (2, vec![(1, 6.0), (3, 0.5), (9, 0.1)]),
        ] {
            rungs
                .iter()
                .for_each(|(at, cost)| history.reached(trial, *at, *cost));
        }
        history.ended(2, Status::Done(0.1));
        history.ended(3, Status::Bad);
        assert_eq!(
            costs(&history, &[0, 1, 2, 3]),
            [5.0, 4.0, 6.0, f64::INFINITY]
        );
        assert_eq!(costs(&history, &[0, 2]), [1.0, 0.5]);
        assert!(is_heard(&history.trials[1]));
        // One that begins later is compared with those that began where it did.
        for (trial, cost) in [(4, 0.2), (5, 0.3)] {
            history.begun(vec![0.5]);
            history.reached(trial, 9, cost);
        }
        assert_eq!(
            costs(&history, &[0, 1, 2, 4, 5]),
            [1.0 / 3.0, 0.0, 2.0 / 3.0, 0.0, 0.5]
        );
    }
}
