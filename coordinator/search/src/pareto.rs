//! Dominance among vectors of costs: what several objectives have in place of an order.
//!
//! Costs are minimized. A vector with an element that is no finite number is worse than every other.

mod fronts;

use std::cmp::Ordering;

pub use fronts::Fronts;

/// Whether `a` is nowhere worse than `b` and somewhere better.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    match (is_finite(a), is_finite(b)) {
        (true, true) => {
            let mut better = false;
            for (a, b) in a.iter().zip(b) {
                if a > b {
                    return false;
                }
                better |= a < b;
            }
            better
        }
        (finite, other) => finite && !other,
    }
}

/// The non-dominated fronts, the best first, each in the order of positions. Equal vectors share a front.
///
/// The efficient non-dominated sort of Zhang et al. 2015 (sequential search): in lexicographic order no
/// vector is dominated by a later one, so each belongs to the first front without one that dominates it.
/// The fronts are those of the fast non-dominated sort of Deb et al. 2002, without its quadratic memory.
pub fn sort<C: AsRef<[f64]>>(costs: &[C]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| lexicographic(costs[a].as_ref(), costs[b].as_ref()).then(a.cmp(&b)));
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for position in order {
        let vector = costs[position].as_ref();
        // The newest members are the nearest: the most likely to dominate.
        let above = |front: &Vec<usize>| {
            let mut members = front.iter().rev();
            members.any(|&member| dominates(costs[member].as_ref(), vector))
        };
        match fronts.iter().position(|front| !above(front)) {
            Some(front) => fronts[front].push(position),
            None => fronts.push(vec![position]),
        }
    }
    for front in &mut fronts {
        front.sort_unstable();
    }
    fronts
}

/// Positions of the vectors that none dominates, in their order. `None` and vectors with an element that
/// is no finite number are never among them; equal ones are all.
pub fn front(costs: &[Option<Vec<f64>>]) -> Vec<usize> {
    let mut known: Vec<(usize, &[f64])> = costs
        .iter()
        .enumerate()
        .filter_map(|(position, costs)| Some((position, costs.as_deref()?)))
        .filter(|(_, costs)| is_finite(costs))
        .collect();
    known.sort_by(|(i, a), (j, b)| lexicographic(a, b).then(i.cmp(j)));
    let mut front: Vec<(usize, &[f64])> = Vec::new();
    for (position, costs) in known {
        if !front.iter().rev().any(|(_, above)| dominates(above, costs)) {
            front.push((position, costs));
        }
    }
    let mut front: Vec<usize> = front.into_iter().map(|(position, _)| position).collect();
    front.sort_unstable();
    front
}

/// The crowding distance of each member of a front, in its order (Deb et al. 2002, section III-B): the sum
/// over objectives of the distance between both neighbours, as a share of the front's range. The ends of
/// an objective are infinitely far. Of equal members the second and later ones stand at 0: a copy
/// adds nothing to a population.
pub fn crowding<C: AsRef<[f64]>>(costs: &[C], front: &[usize]) -> Vec<f64> {
    let vector = |member: usize| costs[front[member]].as_ref();
    let mut order: Vec<usize> = (0..front.len()).collect();
    order.sort_by(|&a, &b| lexicographic(vector(a), vector(b)).then(a.cmp(&b)));
    let mut distances = vec![0.0; front.len()];
    order.dedup_by(|b, a| lexicographic(vector(*a), vector(*b)).is_eq());
    let objectives = order.first().map_or(0, |&member| vector(member).len());
    for objective in 0..objectives {
        let cost = |member: usize| vector(member).get(objective).copied().unwrap_or(f64::NAN);
        order.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)).then(a.cmp(&b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else {
            break;
        };
        let range = cost(last) - cost(first);
        if range > 0.0 || order.len() == 1 {
            distances[first] = f64::INFINITY;
            distances[last] = f64::INFINITY;
        }
        if range > 0.0 && range.is_finite() {
            for three in order.windows(3) {
                distances[three[1]] += (cost(three[2]) - cost(three[0])) / range;
            }
        }
    }
    distances
}

pub fn is_finite(costs: &[f64]) -> bool {
    costs.iter().all(|cost| cost.is_finite())
}

/// Element by element; what is not finite comes after all that is, and equals its like.
fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    match (is_finite(a), is_finite(b)) {
        (true, true) => {
            let differ = |(a, b): (&f64, &f64)| a.partial_cmp(b).filter(|order| order.is_ne());
            a.iter().zip(b).find_map(differ).unwrap_or(Ordering::Equal)
        }
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: a front is what is not dominated once the fronts before it are taken away.
    fn peeled(costs: &[Vec<f64>]) -> Vec<Vec<usize>> {
        let mut left: Vec<usize> = (0..costs.len()).collect();
        let mut fronts = Vec::new();
        while !left.is_empty() {
            let best = |&at: &usize| !left.iter().any(|&by| dominates(&costs[by], &costs[at]));
            let front: Vec<usize> = left.iter().copied().filter(best).collect();
            left.retain(|at| !front.contains(at));
            fronts.push(front);
        }
        fronts
    }

    /// Few different numbers, so that ties are common, and some that are none.
    fn vectors() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let number = prop_oneof![
            12 => (0u8..6).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(-0.0),
        ];
        (1usize..5).prop_flat_map(move |objectives| {
            prop::collection::vec(prop::collection::vec(number.clone(), objectives), 0..40)
        })
    }

    proptest! {
        #[test]
        fn fronts_are_those_of_the_definition(costs in vectors()) {
            let fronts = sort(&costs);
            prop_assert_eq!(&fronts, &peeled(&costs));
            let some: Vec<Option<Vec<f64>>> = costs.iter().cloned().map(Some).collect();
            let mut grown = Fronts::default();
            for position in (0..costs.len()).rev() {
                grown.insert(&costs, position);
            }
            let grown = grown.iter().map(|front| {
                let mut front = front.to_vec();
                front.sort_unstable();
                front
            });
            prop_assert_eq!(&grown.collect::<Vec<_>>(), &fronts);
            let finite = costs.iter().any(|costs| is_finite(costs));
            let expected = if finite { fronts[0].clone() } else { Vec::new() };
            prop_assert_eq!(front(&some), expected);
        }

        #[test]
        fn dominance_is_a_strict_order(costs in vectors()) {
            for a in &costs {
                prop_assert!(!dominates(a, a));
                for b in &costs {
                    prop_assert!(!(dominates(a, b) && dominates(b, a)));
                    for c in &costs {
                        prop_assert!(!(dominates(a, b) && dominates(b, c)) || dominates(a, c));
                    }
                }
            }
        }
    }

    #[test]
    fn crowding_by_hand() {
        let costs = [
            vec![0.0, 10.0],
            vec![1.0, 4.0],
            vec![3.0, 2.0],
            vec![10.0, 0.0],
            vec![1.0, 4.0],
        ];
        let distances = crowding(&costs, &[0, 1, 2, 3, 4]);
        // Member 1: (3 - 0) / 10 + (10 - 2) / 10; member 2: (10 - 1) / 10 + (4 - 0) / 10; 4 is a copy of 1.
        assert_eq!(distances[0], f64::INFINITY);
        assert!((distances[1] - 1.1).abs() < 1e-12, "{distances:?}");
        assert!((distances[2] - 1.3).abs() < 1e-12, "{distances:?}");
        assert_eq!(distances[3..], [f64::INFINITY, 0.0]);
        // One point, and an objective without a range.
        assert_eq!(crowding(&costs, &[2]), [f64::INFINITY]);
        let flat = [vec![1.0, 0.0], vec![1.0, 0.5], vec![1.0, 2.0]];
        assert_eq!(
            crowding(&flat, &[2, 0, 1]),
            [f64::INFINITY, f64::INFINITY, 1.0]
        );
    }

    #[test]
    fn a_front_keeps_ties_and_leaves_out_what_is_missing() {
        let costs = [
            None,
            Some(vec![1.0, 2.0]),
            Some(vec![2.0, 1.0]),
            Some(vec![1.0, 2.0]),
            Some(vec![2.0, 2.0]),
            Some(vec![0.0, f64::NAN]),
        ];
        assert_eq!(front(&costs), [1, 2, 3]);
        assert_eq!(front(&[None, Some(vec![f64::NAN])]), [0usize; 0]);
    }
}
