//! Several objectives as one, so that a model of one cost can search for them: ParEGO (Knowles 2006,
//! "ParEGO: A Hybrid Algorithm with On-Line Landscape Approximation for Expensive Multiobjective
//! Optimization Problems"). Each proposal has weights of its own, so that proposals spread along the front.

use trainyard_common::rng::Key;

use super::history::{History, Status};
use crate::pareto;

/// Weight of the sum beside the maximum, as in the paper: it keeps apart points of the same maximum.
const SUM: f64 = 0.05;

/// The augmented Chebyshev cost of each vector, max_j w_j c_j + 0.05 sum_j w_j c_j, with weights w that are drawn
/// evenly among those that sum to 1, and c the costs as shares of their range over the finite vectors.
/// A vector with an element that is no finite number, or of another length than the first, is infinite.
pub fn scalarize<C: AsRef<[f64]>>(costs: &[C], key: Key) -> Vec<f64> {
    let vectors = || costs.iter().map(AsRef::as_ref);
    let finite = |costs: &&[f64]| pareto::is_finite(costs);
    let objectives = vectors().find(finite).map_or(0, <[f64]>::len);
    let counts = |costs: &[f64]| costs.len() == objectives && pareto::is_finite(costs);
    let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); objectives];
    for vector in vectors().filter(|vector| counts(vector)) {
        for (range, cost) in ranges.iter_mut().zip(vector) {
            *range = (range.0.min(*cost), range.1.max(*cost));
        }
    }
    let weights = weights(objectives, key);
    let scalar = |vector: &[f64]| {
        if !counts(vector) {
            return f64::INFINITY;
        }
        let (mut most, mut sum) = (0.0_f64, 0.0);
        for ((cost, (least, worst)), weight) in vector.iter().zip(&ranges).zip(&weights) {
            // Halves, so that the difference of the largest numbers is one too.
            let width = 0.5 * worst - 0.5 * least;
            let share = if width > 0.0 {
                (0.5 * cost - 0.5 * least) / width
            } else {
                0.0
            };
            most = most.max(weight * share);
            sum += weight * share;
        }
        most + SUM * sum
    };
    vectors().map(scalar).collect()
}

/// A history in which each finished trial has the one cost that [`scalarize`] gives it; a trial without all
/// finite costs is `Bad`. What they came to on their way is left out: it has no scale in common. `rests`: trials that
/// have come to a resource wait there until they are sent on.
/// Costs of the same trial differ from key to key, so a model may keep what it knows of points, not of
/// costs, from call to call.
#[derive(Debug, Clone)]
pub struct Scalarized {
    seen: History,
    rests: bool,
}

impl Scalarized {
    pub fn new(rests: bool) -> Self {
        Self {
            seen: History::rewritten(),
            rests,
        }
    }

    /// The history with the weights of this key.
    pub fn of(&mut self, history: &History, costs: &[Option<Vec<f64>>], key: Key) -> &History {
        for past in history.trials.iter().skip(self.seen.trials.len()) {
            self.seen.begun(past.point.clone());
        }
        let (mut finished, mut vectors) = (Vec::new(), Vec::new());
        let both = history.trials.iter().zip(&mut self.seen.trials);
        for (trial, (past, seen)) in both.enumerate() {
            seen.status = match past.status {
                Status::Pending if self.rests && past.rests() => Status::Waits,
                status => status,
            };
            if matches!(past.status, Status::Done(_)) {
                let known = costs.get(trial).and_then(|costs| costs.as_deref());
                vectors.push(known.unwrap_or(&[f64::NAN]));
                finished.push(trial);
            }
        }
        for (trial, cost) in finished.into_iter().zip(scalarize(&vectors, key)) {
            self.seen.trials[trial].status = match cost.is_finite() {
                true => Status::Done(cost),
                false => Status::Bad,
            };
        }
        &self.seen
    }
}

/// Even on the simplex: exponential numbers, divided by their sum.
fn weights(objectives: usize, key: Key) -> Vec<f64> {
    let key = key.named("weights");
    let mut weights: Vec<f64> = (0..objectives as u64)
        .map(|objective| -libm::log(1.0 - key.unit(objective)))
        .collect();
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_by_hand() {
        let key = Key::new(1);
        let weights = weights(2, key);
        assert!((weights[0] + weights[1] - 1.0).abs() < 1e-12);
        let costs = [vec![0.0, 30.0], vec![4.0, 10.0], vec![1.0, 20.0]];
        let found = scalarize(&costs, key);
        for (found, shares) in found.iter().zip([[0.0, 1.0], [1.0, 0.0], [0.25, 0.5]]) {
            let parts = [weights[0] * shares[0], weights[1] * shares[1]];
            let expected = parts[0].max(parts[1]) + 0.05 * (parts[0] + parts[1]);
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn the_best_is_never_dominated_and_keys_find_different_ones() {
        let costs: Vec<Vec<f64>> = (0..21)
            .map(|i| f64::from(i) / 20.0)
            .flat_map(|x| [vec![x, (1.0 - x) * (1.0 - x)], vec![x, 1.2 - x]])
            .collect();
        let front = &pareto::sort(&costs)[0];
        let mut best: Vec<usize> = Vec::new();
        for seed in 0..100 {
            let scalars = scalarize(&costs, Key::new(seed));
            let least = (0..costs.len()).min_by(|&a, &b| scalars[a].total_cmp(&scalars[b]));
            best.extend(least);
        }
        assert!(best.iter().all(|at| front.contains(at)));
        best.sort_unstable();
        best.dedup();
        assert!(best.len() > 8, "{best:?}");
    }

    #[test]
    fn a_history_of_scalars() {
        let mut history = History::default();
        for trial in 0..5 {
            history.begun(vec![0.5]);
            history.reached(trial, 1, 3.0);
        }
        let mut scalars = Scalarized::new(false);
        scalars.of(&history, &[], Key::new(6));
        for (trial, status) in [
            Status::Done(3.0),
            Status::Done(1.0),
            Status::Bad,
            Status::Done(2.0),
        ]
        .into_iter()
        .enumerate()
        {
            history.ended(trial, status);
        }
        let costs = [Some(vec![3.0, 0.0]), Some(vec![1.0, 1.0]), None, None, None];
        let found = scalars.of(&history, &costs, Key::new(7)).clone();
        let expected = scalarize(&[[3.0, 0.0], [1.0, 1.0]], Key::new(7));
        let statuses: Vec<Status> = found.trials.iter().map(|past| past.status).collect();
        let (a, b) = (Status::Done(expected[0]), Status::Done(expected[1]));
        assert_eq!(statuses, [a, b, Status::Bad, Status::Bad, Status::Pending]);
        assert!(found.trials.iter().all(|past| past.rungs.is_empty()));
        // Where trials rest at rungs, what was told for one waits.
        let found = Scalarized::new(true)
            .of(&history, &costs, Key::new(7))
            .clone();
        assert_eq!(found.trials[4].status, Status::Waits);
    }

    #[test]
    fn what_is_no_number_is_infinite() {
        let costs = [
            vec![f64::NAN, 0.0],
            vec![1.0, 1.0],
            vec![f64::MAX, f64::MIN],
            vec![1.0],
        ];
        let found = scalarize(&costs, Key::new(3));
        assert_eq!((found[0], found[3]), (f64::INFINITY, f64::INFINITY));
        assert!(found[1].is_finite() && found[2].is_finite());
        assert_eq!(scalarize(&[vec![2.0, 2.0]], Key::new(3)), [0.0]);
        assert!(scalarize::<Vec<f64>>(&[], Key::new(3)).is_empty());
    }
}
