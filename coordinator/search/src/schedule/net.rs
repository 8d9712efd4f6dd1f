//! The epsilon-net of a front (Schmucker et al. 2021): an order whose beginning covers the front, however long it is.
//!
//! It begins with the member of the least first cost and goes on to the one farthest from all that were taken.
//! Distances are Euclidean, each objective divided by its range over the front, so that units do not matter; the paper
//! leaves objectives as they are. Of equals the lower position is the better.

mod tree;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::pareto;
use tree::{Points, Tree};

/// Members of a front up to which a look at each is the least work.
const FEW: usize = 32;

/// Adds up to `count` members of a front, whose positions ascend, to the order.
pub(super) fn net<C: AsRef<[f64]>>(
    costs: &[C],
    front: &[usize],
    count: usize,
    order: &mut Vec<usize>,
) {
    let scaled = scaled(front.iter().map(|&at| costs[at].as_ref()));
    let Some(start) = start(costs, front) else {
        return;
    };
    // The squared distance of each member to the nearest that was taken; taken ones are out.
    let mut nearest = vec![f64::INFINITY; front.len()];
    let mut next = start;
    for taken in 1..=count.min(front.len()) {
        order.push(front[next]);
        nearest[next] = f64::NEG_INFINITY;
        if taken == count {
            break;
        }
        let mut farthest = None;
        for member in 0..front.len() {
            if nearest[member] == f64::NEG_INFINITY {
                continue;
            }
            let square = square(&scaled[member], &scaled[next]);
            nearest[member] = nearest[member].min(square);
            if farthest.is_none_or(|best: usize| nearest[member] > nearest[best]) {
                farthest = Some(member);
            }
        }
        let Some(farthest) = farthest else {
            break;
        };
        next = farthest;
    }
}

/// As [`net`], for n members and m that are wanted in about n log m steps instead of n m.
pub(super) fn net_of_many<C: AsRef<[f64]>>(
    costs: &[C],
    front: &[usize],
    count: usize,
    order: &mut Vec<usize>,
) {
    if front.len() <= FEW {
        return net(costs, front, count, order);
    }
    let scaled = scaled(front.iter().map(|&at| costs[at].as_ref()));
    let width = scaled.first().map_or(0, Vec::len);
    let Some(start) = start(costs, front).filter(|_| count > 0) else {
        return;
    };
    if width == 0 || scaled.iter().any(|place| place.len() != width) {
        return net(costs, front, count, order);
    }
    let mut tree = Tree::new(Points {
        width,
        places: scaled.concat(),
    });
    let (mut next, mut left) = (Some(start), count);
    while let Some(member) = next {
        order.push(front[member]);
        left -= 1;
        if left == 0 {
            return;
        }
        tree.take(member);
        next = tree.farthest();
    }
}

/// The member with the least first cost, of equal ones that of the lowest position.
fn start<C: AsRef<[f64]>>(costs: &[C], front: &[usize]) -> Option<usize> {
    let head = |member: usize| {
        let first = costs[front[member]].as_ref().first();
        first.copied().unwrap_or(f64::NAN)
    };
    let order = |a: &usize, b: &usize| {
        let heads = head(*a).total_cmp(&head(*b));
        heads.then(front[*a].cmp(&front[*b]))
    };
    (0..front.len()).min_by(order)
}

fn square(a: &[f64], b: &[f64]) -> f64 {
    let apart = a.iter().zip(b);
    apart.map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Vectors as shares of their ranges; what is not finite, and an objective without a range, is 0.
fn scaled<'a>(vectors: impl Iterator<Item = &'a [f64]> + Clone) -> Vec<Vec<f64>> {
    let mut ranges: Vec<(f64, f64)> = Vec::new();
    for vector in vectors.clone().filter(|vector| pareto::is_finite(vector)) {
        ranges.resize(
            ranges.len().max(vector.len()),
            (f64::INFINITY, f64::NEG_INFINITY),
        );
        for (range, cost) in ranges.iter_mut().zip(vector) {
            *range = (range.0.min(*cost), range.1.max(*cost));
        }
    }
    // Halves, so that the difference of the largest numbers is one too.
    let share = |(cost, (least, most)): (&f64, &(f64, f64))| {
        let share = (0.5 * cost - 0.5 * least) / (0.5 * most - 0.5 * least);
        if share.is_finite() { share } else { 0.0 }
    };
    vectors
        .map(|vector| vector.iter().zip(&ranges).map(share).collect())
        .collect()
}

/// As [`net`] over a front of two objectives, given in the order of the first: for n members and m that are wanted
/// in n + m log n steps instead of n m.
///
/// Along such a front both costs are monotonous, and so are distances: the nearest that was taken is one of the two
/// neighbours that were. Between two neighbours the distance to the one rises and that to the other falls, so that who is
/// farthest from both is found by halves. Rounding is monotonous, too: the same members come in the same order.
pub(super) fn net_of_two<C: AsRef<[f64]>>(
    costs: &[C],
    chain: &[usize],
    count: usize,
    order: &mut Vec<usize>,
) {
    let Some(start) = start(costs, chain).filter(|_| count > 0) else {
        return;
    };
    let count = count.min(chain.len());
    let line = Line {
        chain,
        scaled: scaled(chain.iter().map(|&at| costs[at].as_ref())),
    };
    let mut taken = vec![false; chain.len()];
    let mut gaps = BinaryHeap::new();
    let mut left = count;
    let mut next = Some((None, start, None));
    while let Some((before, member, behind)) = next {
        order.push(chain[member]);
        taken[member] = true;
        left -= 1;
        if left == 0 {
            return;
        }
        gaps.extend(line.gap(before, Some(member)));
        gaps.extend(line.gap(Some(member), behind));
        let farthest = gaps.pop().filter(|gap| gap.square > 0);
        next = farthest.map(|gap| (gap.before, gap.member, gap.behind));
    }
    // What is left are copies of what was taken.
    let copies = (0..chain.len()).filter(|member| !taken[*member]);
    let mut copies: Vec<usize> = copies.map(|member| chain[member]).collect();
    copies.sort_unstable();
    order.extend(copies.into_iter().take(left));
}

/// A front along which the first cost rises and the second falls.
struct Line<'a> {
    chain: &'a [usize],
    scaled: Vec<Vec<f64>>,
}

/// The members between two that were taken, or behind one; greater is who comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gap {
    /// The bits of the greatest squared distance to the nearest that was taken: of numbers that are not negative, bits
    /// have the order of the numbers.
    square: u64,
    /// Who lies that far: its position, and its place in the chain.
    position: Reverse<usize>,
    member: usize,
    before: Option<usize>,
    behind: Option<usize>,
}

impl Line<'_> {
    fn gap(&self, before: Option<usize>, behind: Option<usize>) -> Option<Gap> {
        let from = before.map_or(0, |before| before + 1);
        let to = behind.unwrap_or(self.chain.len());
        if from >= to {
            return None;
        }
        let rising = |at: usize| self.apart(before, at);
        let falling = |at: usize| self.apart(behind, at);
        let nearest = |at: usize| rising(at).min(falling(at));
        let crossing = first(from, to, |at| rising(at) >= falling(at));
        // Who is farthest is beside the crossing; all that are as far lie side by side.
        let sides = [crossing.max(from + 1) - 1, crossing.min(to - 1)];
        let square = nearest(sides[0]).max(nearest(sides[1]));
        let begin = first(from, to, |at| rising(at) >= square);
        let end = first(from, to, |at| falling(at) < square);
        let member = (begin..end).min_by_key(|at| self.chain[*at])?;
        Some(Gap {
            square: square.to_bits(),
            position: Reverse(self.chain[member]),
            member,
            before,
            behind,
        })
    }

    fn apart(&self, from: Option<usize>, to: usize) -> f64 {
        from.map_or(f64::INFINITY, |from| {
            square(&self.scaled[from], &self.scaled[to])
        })
    }
}

/// The first place of `from..to` from which on something holds.
fn first(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (from, to);
    while low < high {
        let half = low + (high - low) / 2;
        if holds(half) {
            high = half;
        } else {
            low = half + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trainyard_common::rng::Key;

    use super::*;

    fn same_order_of_many(costs: &[Vec<f64>]) {
        let all: Vec<usize> = (0..costs.len()).collect();
        let fronts = pareto::sort(costs);
        // Members that dominate each other make sets that no front is; the order is the same all the same.
        for front in fronts.iter().chain([&all]) {
            for count in [0, 1, 2, front.len() / 3, front.len(), front.len() + 5] {
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                net_of_many(costs, front, count, &mut found);
                net(costs, front, count, &mut expected);
                assert_eq!(found, expected, "{count} of {costs:?}");
            }
        }
    }

    fn same_order(costs: &[Vec<f64>]) {
        let mut fronts = pareto::Fronts::default();
        (0..costs.len()).for_each(|at| fronts.insert(costs, at));
        for (chain, sorted) in fronts.iter().zip(pareto::sort(costs)) {
            for count in [0, 1, 2, chain.len() / 2, chain.len()] {
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                net_of_two(costs, chain, count, &mut found);
                net(costs, &sorted, count, &mut expected);
                assert_eq!(found, expected, "{count} of {costs:?}");
            }
        }
    }

    proptest! {
        /// Few different numbers, so that ties and copies are common.
        #[test]
        fn along_a_chain_the_order_is_the_same(
            costs in prop::collection::vec(prop::collection::vec((-1i8..12).prop_map(f64::from), 2), 0..60)
        ) {
            same_order(&costs);
        }

        /// As many members as the tree has several parts for, many of them copies, some of them no numbers.
        #[test]
        fn of_any_number_of_objectives_the_order_is_the_same(
            (costs, spread) in (1usize..6).prop_flat_map(|objectives| {
                let number = prop_oneof![
                    30 => (-1i8..9).prop_map(f64::from),
                    1 => Just(f64::NAN),
                    1 => Just(f64::INFINITY),
                    1 => Just(f64::MAX),
                    1 => Just(-f64::MAX),
                    1 => Just(-0.0),
                    1 => Just(f64::MIN_POSITIVE),
                ];
                let vectors = prop::collection::vec(number, objectives);
                (prop::collection::vec(vectors, 0..150), 1u8..10)
            })
        ) {
            same_order_of_many(&costs);
            // Where rounding decides what is nearest.
            let uneven = |cost: &f64| libm::sqrt(cost.abs()) / f64::from(spread);
            let uneven = |costs: &Vec<f64>| costs.iter().map(uneven).collect::<Vec<f64>>();
            same_order_of_many(&costs.iter().map(uneven).collect::<Vec<_>>());
        }
    }

    #[test]
    fn long_fronts_of_several_objectives_have_the_same_order() {
        let key = Key::new(9);
        for objectives in [3, 4, 7] {
            let point = |at: u64| {
                let key = key.with(at);
                let mut costs: Vec<f64> = (1..objectives).map(|axis| key.unit(axis)).collect();
                costs.push(-costs.iter().sum::<f64>());
                costs
            };
            same_order_of_many(&(0..700).map(point).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_long_front_has_the_same_order() {
        let key = Key::new(4);
        for (rounded, extreme) in [(false, 1.0), (true, 1.0), (false, f64::MAX)] {
            let point = |at: u64| {
                let x = key.unit(at);
                let x = if rounded {
                    libm::round(x * 50.0) / 50.0
                } else {
                    x
                };
                vec![x * extreme, (1.0 - x) * (1.0 - x) * extreme]
            };
            same_order(&(0..600).map(point).collect::<Vec<_>>());
        }
        same_order(&[vec![0.0, -0.0], vec![-0.0, 0.0], vec![0.0, 0.0]]);
    }
}
