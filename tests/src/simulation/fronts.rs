//! Several objectives by their definitions: fronts peeled off one by one, their order, who survives in NSGA-II.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;

/// Values as costs; nothing unless there is a finite one of each objective.
pub(super) fn costs(modes: &[Mode], values: &[f64]) -> Option<Vec<f64>> {
    let finite = values.iter().all(|value| value.is_finite());
    (finite && values.len() == modes.len()).then(|| {
        let both = values.iter().zip(modes);
        let cost = both.map(|(value, mode)| match mode {
            Mode::Minimize => *value,
            Mode::Maximize => -value,
        });
        cost.collect()
    })
}

fn dominates(a: &[f64], b: &[f64]) -> bool {
    let no_worse = a.iter().zip(b).all(|(a, b)| a <= b);
    no_worse && a.iter().zip(b).any(|(a, b)| a < b)
}

/// Positions of results, front by front; within a front in their order.
fn fronts(results: &[(TrialId, Vec<f64>)]) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..results.len()).collect();
    let mut fronts = Vec::new();
    while !left.is_empty() {
        let below = |at: usize| {
            left.iter()
                .any(|by| dominates(&results[*by].1, &results[at].1))
        };
        let front: Vec<usize> = left.iter().copied().filter(|at| !below(*at)).collect();
        left.retain(|at| !front.contains(at));
        fronts.push(front);
    }
    fronts
}

/// Of one objective over some results: the least and the most.
fn range(results: &[(TrialId, Vec<f64>)], front: &[usize], objective: usize) -> (f64, f64) {
    let all = || front.iter().map(|at| results[*at].1[objective]);
    (
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// Positions of results, which are given by trial, in the order of MO-ASHA: by front, within a front from the least first cost
/// on to the one farthest from all before, objectives as shares of their ranges; of equals the first. What has no
/// finite cost comes last.
pub(super) fn order(results: &[(TrialId, Vec<f64>)]) -> Vec<usize> {
    let mut order = Vec::new();
    for mut front in fronts(results) {
        let ranges: Vec<(f64, f64)> = (0..results[front[0]].1.len())
            .map(|objective| range(results, &front, objective))
            .collect();
        let apart = |a: usize, b: usize| -> f64 {
            let each = ranges.iter().enumerate().map(|(objective, (least, most))| {
                let share = |at: usize| match *most > *least {
                    true => (results[at].1[objective] - least) / (most - least),
                    false => 0.0,
                };
                (share(a) - share(b)) * (share(a) - share(b))
            });
            each.sum()
        };
        let mut taken: Vec<usize> = Vec::new();
        while !front.is_empty() {
            // The smaller the better.
            let rank = |at: usize| match taken.is_empty() {
                true => results[at].1[0],
                false => {
                    let nearest = taken.iter().map(|by| apart(at, *by));
                    -nearest.fold(f64::INFINITY, f64::min)
                }
            };
            let best = (1..front.len()).fold(0, |best, next| {
                match rank(front[next]) < rank(front[best]) {
                    true => next,
                    false => best,
                }
            });
            taken.push(front.remove(best));
        }
        order.extend(taken);
    }
    order
}

/// So many trials that NSGA-II breeds from: the best fronts, and of the last one those with the most room around
/// them (Deb et al. 2002, section III-B). A copy of another has none.
pub(super) fn survivors(results: &[(TrialId, Vec<f64>)], population: usize) -> Vec<TrialId> {
    let mut found = Vec::new();
    for front in fronts(results) {
        let mut members: Vec<(f64, usize)> = front
            .iter()
            .map(|at| (room(results, &front, *at), *at))
            .collect();
        members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found.extend(members.into_iter().map(|(_, at)| results[at].0));
    }
    found.truncate(population);
    found
}

fn room(results: &[(TrialId, Vec<f64>)], front: &[usize], of: usize) -> f64 {
    let own = &results[of].1;
    if front.iter().any(|at| *at < of && results[*at].1 == *own) {
        return 0.0;
    }
    let mut room = 0.0;
    for (objective, cost) in own.iter().enumerate() {
        let (least, most) = range(results, front, objective);
        let others = || {
            let others = front.iter().map(|at| &results[*at].1);
            others.filter(|other| *other != own)
        };
        if others().next().is_none() {
            return f64::INFINITY;
        }
        if least == most {
            continue;
        }
        // Of those with the same cost the order is unknown: they are neighbours at no distance.
        let below = others()
            .map(|other| other[objective])
            .filter(|other| other <= cost);
        let above = others()
            .map(|other| other[objective])
            .filter(|other| other >= cost);
        let (below, above) = (
            below.fold(f64::NEG_INFINITY, f64::max),
            above.fold(f64::INFINITY, f64::min),
        );
        room += match *cost == least || *cost == most {
            true => f64::INFINITY,
            false => (above - below) / (most - least),
        };
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(costs: &[[f64; 2]]) -> Vec<(TrialId, Vec<f64>)> {
        let numbered = (0..).map(TrialId).zip(costs);
        numbered
            .map(|(trial, costs)| (trial, costs.to_vec()))
            .collect()
    }

    #[test]
    fn orders_by_hand() {
        let all = results(&[
            [9.0, 9.0],
            [0.0, 8.0],
            [1.0, 7.0],
            [4.0, 4.0],
            [8.0, 0.0],
            [4.0, 4.0],
            [f64::INFINITY, f64::INFINITY],
            [5.0, 5.0],
        ]);
        assert_eq!(order(&all), [1, 4, 3, 2, 5, 7, 0, 6]);
        assert_eq!(survivors(&all, 4), [1, 4, 3, 2].map(TrialId));
        let one = results(&[[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]);
        let one: Vec<_> = one
            .into_iter()
            .map(|(at, costs)| (at, vec![costs[0]]))
            .collect();
        assert_eq!(order(&one), [1, 2, 0]);
    }

    #[test]
    fn costs_are_of_all_objectives() {
        let modes = [Mode::Minimize, Mode::Maximize];
        assert_eq!(costs(&modes, &[1.0, 2.0]), Some(vec![1.0, -2.0]));
        assert_eq!(costs(&modes, &[1.0]), None);
        assert_eq!(costs(&modes, &[1.0, f64::NAN]), None);
    }
}
