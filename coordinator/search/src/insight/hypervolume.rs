//! Hypervolume: how much of the space of costs a set of trials dominates, up to a reference point.
//!
//! Exact: sweeps for two and three objectives, and above the algorithm of While, Bradstreet and Barone 2012
//! ("A Fast Way of Calculating Exact Hypervolumes"), whose time grows steeply with the objectives: meant for
//! up to five.

use crate::pareto;

/// How far the reference point lies behind the front, as a share of the front's range.
const BEHIND: f64 = 0.1;

/// The volume that costs dominate below the reference point. Vectors that are not below it in every
/// objective, or are no finite numbers, add nothing.
pub fn hypervolume<C: AsRef<[f64]>>(costs: &[C], reference: &[f64]) -> f64 {
    let vectors = costs.iter().map(AsRef::as_ref);
    let inside: Vec<Vec<f64>> = vectors
        .filter(|vector| is_below(vector, reference))
        .map(<[f64]>::to_vec)
        .collect();
    volume(inside, reference)
}

/// A reference point for trials without a given one: in each objective the worst cost of the front, and a
/// tenth of the front's range more, so that its ends count too (as BoTorch's `infer_reference_point`).
/// Where the front has no range, a tenth of the cost's size, or 1. `None` without a finite vector.
pub fn reference(costs: &[Option<Vec<f64>>]) -> Option<Vec<f64>> {
    let front: Vec<&Vec<f64>> = pareto::front(costs)
        .into_iter()
        .filter_map(|trial| costs.get(trial)?.as_ref())
        .collect();
    let objectives = front.first()?.len();
    let point = |objective: usize| {
        let costs = front.iter().filter_map(|costs| costs.get(objective));
        let (least, most) = costs.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), &cost| (cost.min(least), cost.max(most)),
        );
        let size = if most > least {
            most - least
        } else if most != 0.0 {
            most.abs()
        } else {
            1.0 / BEHIND
        };
        most + BEHIND * size
    };
    Some((0..objectives).map(point).collect())
}

/// Whether a vector is of so many finite numbers, each less than the reference's.
pub(super) fn is_below(costs: &[f64], reference: &[f64]) -> bool {
    let below = |(cost, limit): (&f64, &f64)| cost.is_finite() && cost < limit;
    costs.len() == reference.len() && costs.iter().zip(reference).all(below)
}

/// What a vector below the reference adds to others that are.
pub(super) fn exclusive(costs: &[f64], others: &[Vec<f64>], reference: &[f64]) -> f64 {
    let sides = costs
        .iter()
        .zip(reference)
        .map(|(cost, limit)| limit - cost);
    let inclusive: f64 = sides.product();
    let worse = |other: &Vec<f64>| other.iter().zip(costs).map(|(a, b)| a.max(*b)).collect();
    let shared = volume(others.iter().map(worse).collect(), reference);
    (inclusive - shared).max(0.0)
}

/// The volume of vectors below the reference.
fn volume(mut costs: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    match reference {
        [] => 0.0,
        [limit] => {
            let best = costs.iter().filter_map(|costs| costs.first());
            limit - best.fold(*limit, |best, cost| best.min(*cost))
        }
        [x, y] => area(
            costs.iter().map(|costs| [costs[0], costs[1]]).collect(),
            [*x, *y],
        ),
        [x, y, z] => swept(&mut costs, [*x, *y, *z]),
        _ => {
            let front = pareto::sort(&costs).into_iter().next().unwrap_or_default();
            let mut front: Vec<Vec<f64>> = front.into_iter().map(|at| costs[at].clone()).collect();
            // The worst in the last objective first: what is left over then shares the least with it.
            let last = reference.len() - 1;
            front.sort_by(|a, b| b[last].total_cmp(&a[last]));
            let own =
                |(at, costs): (usize, &Vec<f64>)| exclusive(costs, &front[at + 1..], reference);
            front.iter().enumerate().map(own).sum()
        }
    }
}

/// Two objectives: a staircase, from the best in the first one on.
fn area(mut costs: Vec<[f64; 2]>, [x, y]: [f64; 2]) -> f64 {
    costs.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let (mut sum, mut top) = (0.0, y);
    for [first, second] in costs {
        if second < top {
            sum += (x - first) * (top - second);
            top = second;
        }
    }
    sum
}

/// Three objectives: slices between the costs of the third, each as large as the area of all before it.
fn swept(costs: &mut [Vec<f64>], [x, y, z]: [f64; 3]) -> f64 {
    costs.sort_by(|a, b| a[2].total_cmp(&b[2]));
    // The staircase of those before: ascending in the first objective, descending in the second.
    let mut stairs: Vec<[f64; 2]> = Vec::new();
    let (mut sum, mut covered) = (0.0, 0.0);
    for (at, vector) in costs.iter().enumerate() {
        let step = [vector[0], vector[1]];
        let place = stairs.partition_point(|known| known[0] <= step[0]);
        let hidden = place > 0 && stairs[place - 1][1] <= step[1];
        if !hidden {
            stairs.retain(|known| known[0] < step[0] || known[1] < step[1]);
            let place = stairs.partition_point(|known| known[0] < step[0]);
            stairs.insert(place, step);
            covered = area(stairs.clone(), [x, y]);
        }
        let next = costs.get(at + 1).map_or(z, |next| next[2]);
        sum += covered * (next - vector[2]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_common::rng::Key;

    /// By inclusion and exclusion over all subsets: the boxes of vectors in one share a box.
    fn counted(costs: &[Vec<f64>], reference: &[f64]) -> f64 {
        let mut sum = 0.0;
        for subset in 1u32..1 << costs.len() {
            let members = || (0..costs.len()).filter(|&at| subset >> at & 1 == 1);
            let side = |objective: usize| {
                let worst = members().map(|at| costs[at][objective]);
                (reference[objective] - worst.fold(f64::NEG_INFINITY, f64::max)).max(0.0)
            };
            let volume: f64 = (0..reference.len()).map(side).product();
            let sign = if subset.count_ones() % 2 == 1 {
                1.0
            } else {
                -1.0
            };
            sum += sign * volume;
        }
        sum
    }

    #[test]
    fn volumes_by_hand() {
        let two = [
            vec![1.0, 3.0],
            vec![2.0, 1.0],
            vec![3.0, 3.0],
            vec![5.0, 0.0],
        ];
        // 3 * 1 and 2 * 2; the third is dominated, the fourth behind the reference.
        assert_eq!(hypervolume(&two, &[4.0, 4.0]), 7.0);
        let three = [
            vec![0.0, 1.0, 1.0],
            vec![1.0, 0.0, 1.0],
            vec![1.0, 1.0, 0.0],
        ];
        // Three boxes of 2 * 1 * 1 that share one of 1 * 1 * 1.
        assert_eq!(hypervolume(&three, &[2.0, 2.0, 2.0]), 4.0);
        assert_eq!(hypervolume(&[vec![0.5; 4]], &[1.0; 4]), 0.0625);
        assert_eq!(hypervolume(&[vec![3.0], vec![2.0]], &[4.0]), 2.0);
        // Nothing, copies, what is on the edge, and what is no number.
        assert_eq!(hypervolume::<Vec<f64>>(&[], &[1.0, 1.0]), 0.0);
        let odd = [
            vec![0.0, 0.5],
            vec![0.0, 0.5],
            vec![1.0, 0.0],
            vec![f64::NAN, 0.0],
            vec![0.0],
        ];
        assert_eq!(hypervolume(&odd, &[1.0, 1.0]), 0.5);
    }

    #[test]
    fn volumes_are_those_of_inclusion_and_exclusion() {
        for objectives in 1..=5usize {
            for seed in 0..40 {
                let key = Key::new(seed).with(objectives as u64);
                let count = key.below(0, 9);
                // Eighths: ties and copies are common, and sums are exact but for the last bits.
                let number = |at: u64, j: usize| key.with(at).below(j as u64, 9) as f64 / 8.0;
                let costs: Vec<Vec<f64>> = (0..count)
                    .map(|at| (0..objectives).map(|j| number(at, j)).collect())
                    .collect();
                let reference = vec![0.9; objectives];
                let (found, expected) =
                    (hypervolume(&costs, &reference), counted(&costs, &reference));
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{objectives} {seed}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_reference_lies_a_tenth_behind_the_front() {
        let costs = [
            Some(vec![0.0, 10.0]),
            Some(vec![2.0, 5.0]),
            None,
            Some(vec![100.0, 100.0]),
            Some(vec![f64::NAN, 0.0]),
        ];
        assert_eq!(reference(&costs), Some(vec![2.2, 10.5]));
        assert_eq!(reference(&[Some(vec![-2.0, 0.0])]), Some(vec![-1.8, 1.0]));
        assert_eq!(reference(&[None]), None);
    }
}
