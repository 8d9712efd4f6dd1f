//! The order of trials by what they cost, at whatever resource they were stopped.

use super::super::history::{History, Past, Status};

/// Whether a trial has a result to learn from: its end, or a rung.
pub(super) fn is_heard(past: &Past) -> bool {
    match past.status {
        Status::Done(_) | Status::Bad => true,
        Status::Pending => !past.rungs.is_empty(),
        Status::Void => false,
    }
}

/// What trials cost at the largest resource that all of them have reached, or at their end where they have
/// no rungs. Bad ones cost infinitely much.
pub(super) fn costs(history: &History, trials: &[usize]) -> Vec<f64> {
    let pasts = trials.iter().map(|trial| &history.trials[*trial]);
    let last = |past: &Past| past.rungs.last().map(|(resource, _)| *resource);
    let common = pasts
        .clone()
        .filter(|past| past.status != Status::Bad)
        .filter_map(last)
        .min();
    let cost = |past: &Past| {
        let below = past
            .rungs
            .iter()
            .rev()
            .find(|(resource, _)| Some(*resource) <= common);
        match (past.status, below) {
            (Status::Bad, _) => f64::INFINITY,
            (_, Some((_, cost))) => *cost,
            (Status::Done(cost), None) => cost,
            _ => f64::INFINITY,
        }
    };
    pasts.map(cost).collect()
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
    }
}
