//! Fronts that grow with each result, for less than sorting all anew: what [`super::sort`] finds, kept.
//!
//! Of two objectives a front is a chain, along which one cost rises and the other falls: a look at a front is a binary
//! search, and what a result displaces are neighbours. Of more a look goes through the front. Either way fronts are
//! looked at by halves: who is above a vector in one front has somebody above it in each before.

use super::{dominates, is_finite};

/// The fronts of results by their positions.
#[derive(Debug, Clone, Default)]
pub struct Fronts {
    /// Of finite vectors, the best first: of two objectives each by the first cost, of others by position.
    levels: Vec<Vec<usize>>,
    /// What is no number, behind all.
    rest: Vec<usize>,
}

impl Fronts {
    /// Puts a new position where it belongs. What it dominates in its front moves to the next one, and so on (Li et al.
    /// 2014, "Efficient Non-domination Level Update").
    pub fn insert<C: AsRef<[f64]>>(&mut self, costs: &[C], new: usize) {
        let vector = costs[new].as_ref();
        if !is_finite(vector) {
            let place = self.rest.partition_point(|other| *other < new);
            self.rest.insert(place, new);
            return;
        }
        let is_chain = vector.len() == 2;
        let is_above = |front: &Vec<usize>| match is_chain {
            true => chain_is_above(front, costs, new),
            false => front.iter().any(|by| above(costs, *by, new)),
        };
        let mut level = self.levels.partition_point(is_above);
        let mut moving = vec![new];
        while let Some(front) = self.levels.get_mut(level) {
            let before = front.len();
            let joined = std::mem::take(&mut moving);
            moving = match is_chain {
                true => join_chain(front, costs, &joined),
                false => join(front, costs, joined),
            };
            level += 1;
            if moving.is_empty() {
                return;
            }
            if moving.len() == before {
                // A whole front displaces the whole next one, for each there has one here above it.
                break;
            }
        }
        self.levels.insert(level, moving);
    }

    /// The fronts, the best first. The members of each come in no order of their own.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let rest = Some(self.rest.as_slice()).filter(|rest| !rest.is_empty());
        self.levels.iter().map(Vec::as_slice).chain(rest)
    }
}

fn above<C: AsRef<[f64]>>(costs: &[C], a: usize, b: usize) -> bool {
    dominates(costs[a].as_ref(), costs[b].as_ref())
}

/// Takes vectors into a front; those that they displace.
fn join<C: AsRef<[f64]>>(
    front: &mut Vec<usize>,
    costs: &[C],
    mut moving: Vec<usize>,
) -> Vec<usize> {
    let is_below = |member: &&usize| moving.iter().any(|&by| above(costs, by, **member));
    let (displaced, mut kept): (Vec<usize>, Vec<usize>) = front.iter().partition(is_below);
    kept.append(&mut moving);
    kept.sort_unstable();
    *front = kept;
    displaced
}

/// Both costs of a position.
fn pair<C: AsRef<[f64]>>(costs: &[C], at: usize) -> (f64, f64) {
    match costs[at].as_ref() {
        [first, second] => (*first, *second),
        _ => (f64::NAN, f64::NAN),
    }
}

/// Whether one of a chain dominates: if any, the last that is no worse in the first cost, for it has the least second.
fn chain_is_above<C: AsRef<[f64]>>(front: &[usize], costs: &[C], new: usize) -> bool {
    let (first, _) = pair(costs, new);
    let behind = front.partition_point(|at| pair(costs, *at).0 <= first);
    let last = behind.checked_sub(1).map(|last| front[last]);
    last.is_some_and(|by| above(costs, by, new))
}

/// As [`join`], of a chain. What is moving dominates none of its own.
fn join_chain<C: AsRef<[f64]>>(
    front: &mut Vec<usize>,
    costs: &[C],
    moving: &[usize],
) -> Vec<usize> {
    let mut displaced = Vec::new();
    for new in moving {
        let (first, _) = pair(costs, *new);
        let begin = front.partition_point(|at| pair(costs, *at).0 < first);
        let below = front[begin..].partition_point(|at| above(costs, *new, *at));
        displaced.extend(front.splice(begin..begin + below, [*new]));
    }
    displaced
}
