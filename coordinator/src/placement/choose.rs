//! Whose slots a gang gets that has to wait for others to leave: the fewest attempts of the least
//! important work, on one kind of processor.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Place;

/// Who holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Who matters less leaves first.
    pub importance: i64,
    /// Of equal ones the newest leaves first: it has the least to lose.
    pub started_ms: u64,
}

/// A slot that the gang could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub place: Place,
    pub kind: String,
    /// Position in the holders; `None`: it is free, or comes free without anybody's being asked.
    pub held: Option<usize>,
}

/// What the gang waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As many as the gang has ranks, on one kind of processor.
    pub places: Vec<Place>,
    /// Positions of the holders that must leave for it, in ascending order.
    pub holders: Vec<usize>,
}

/// Slots for a gang: nobody leaves who matters more than need be; then as few leave as can; then those
/// with the fewest slots beyond what is needed, the newest first. `None`: no kind has so many slots.
pub fn choose(ranks: usize, seats: &[Seat], holders: &[Holder]) -> Option<Choice> {
    let mut kinds: BTreeMap<&str, Vec<&Seat>> = BTreeMap::new();
    for seat in seats {
        kinds.entry(&seat.kind).or_default().push(seat);
    }
    let mut best: Option<((Option<i64>, usize), Choice)> = None;
    for seats in kinds.values() {
        let Some(choice) = within_kind(ranks, seats, holders) else {
            continue;
        };
        let worst = choice.holders.iter().map(|h| holders[*h].importance).max();
        let cost = (worst, choice.holders.len());
        // Of equal ones the first kind.
        if best.as_ref().is_none_or(|(known, _)| cost < *known) {
            best = Some((cost, choice));
        }
    }
    best.map(|(_, choice)| choice)
}

fn within_kind(ranks: usize, seats: &[&Seat], holders: &[Holder]) -> Option<Choice> {
    if seats.len() < ranks {
        return None;
    }
    let mut held: BTreeMap<usize, usize> = BTreeMap::new();
    for holder in seats.iter().filter_map(|seat| seat.held) {
        *held.entry(holder).or_default() += 1;
    }
    let free = seats.iter().filter(|seat| seat.held.is_none()).count();
    let chosen = leaving(ranks.saturating_sub(free), &held, holders)?;
    let gained = |seat: &&&Seat| seat.held.is_none_or(|holder| chosen.contains(&holder));
    let mut places: Vec<(bool, &Place)> = seats
        .iter()
        .filter(gained)
        .map(|seat| (seat.held.is_some(), &seat.place))
        .collect();
    // What needs nobody's leaving first.
    places.sort();
    Some(Choice {
        places: places
            .into_iter()
            .take(ranks)
            .map(|(_, place)| place.clone())
            .collect(),
        holders: chosen.into_iter().collect(),
    })
}

/// The holders that leave so that `need` slots come free. `held`: how many each has.
fn leaving(
    need: usize,
    held: &BTreeMap<usize, usize>,
    holders: &[Holder],
) -> Option<BTreeSet<usize>> {
    let mut left = need;
    let mut by_importance: Vec<(i64, usize)> = held
        .iter()
        .map(|(holder, slots)| (holders[*holder].importance, *slots))
        .collect();
    by_importance.sort_unstable();
    let mut most = i64::MIN;
    for (importance, slots) in by_importance {
        if left == 0 {
            break;
        }
        most = importance;
        left = left.saturating_sub(slots);
    }
    if left > 0 {
        return None;
    }
    let mut candidates: Vec<(usize, usize)> = held
        .iter()
        .filter(|(holder, _)| holders[**holder].importance <= most)
        .map(|(holder, slots)| (*slots, *holder))
        .collect();
    let mut chosen = BTreeSet::new();
    let mut need = need;
    while need > 0 {
        let order = |(slots, holder): (usize, usize)| {
            let Holder {
                importance,
                started_ms,
            } = holders[holder];
            // One that has enough ends it, the tightest first; else the one that has most.
            let tight = if slots >= need { slots } else { usize::MAX };
            (
                tight,
                Reverse(slots),
                importance,
                Reverse(started_ms),
                holder,
            )
        };
        let next = (0..candidates.len()).min_by_key(|at| order(candidates[*at]))?;
        let (slots, holder) = candidates.swap_remove(next);
        chosen.insert(holder);
        need = need.saturating_sub(slots);
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use trainyard_common::rng::Key;

    use super::*;

    /// Every way of asking some to leave; the best by the rule.
    fn slow(ranks: usize, seats: &[Seat], holders: &[Holder]) -> Option<(Option<i64>, usize)> {
        let subsets = 0..1u32 << holders.len();
        let ways = subsets.filter_map(|set| {
            let leaves = |holder: usize| set & (1 << holder) != 0;
            let fits = ["x", "y"].iter().any(|kind| {
                let mut gained = seats.iter().filter(|seat| seat.kind == *kind);
                let gained = gained.by_ref().filter(|seat| seat.held.is_none_or(leaves));
                gained.count() >= ranks
            });
            let leaving = (0..holders.len()).filter(|holder| leaves(*holder));
            let worst = leaving.clone().map(|h| holders[h].importance).max();
            fits.then(|| (worst, leaving.count()))
        });
        ways.min()
    }

    #[test]
    fn as_few_leave_as_can_and_nobody_who_matters_more_than_need_be() {
        for seed in 0..2_000 {
            let key = Key::new(seed).named("choose");
            let holders: Vec<Holder> = (0..key.below(0, 6))
                .map(|n| Holder {
                    importance: key.with(1).below(n, 3) as i64,
                    started_ms: key.with(2).below(n, 4),
                })
                .collect();
            let seats: Vec<Seat> = (0..1 + key.below(1, 10))
                .map(|n| {
                    // A gang runs on one kind.
                    let holder = key.with(3).below(n, 8) as usize;
                    let held = (holder < holders.len()).then_some(holder);
                    let kind = held.map_or_else(|| key.with(4).below(n, 2), |h| h as u64 % 2);
                    Seat {
                        place: Place {
                            worker: format!("w{n}").as_str().into(),
                            slot: 0,
                        },
                        kind: ["x", "y"][kind as usize].to_owned(),
                        held,
                    }
                })
                .collect();
            let ranks = 1 + key.below(5, 4) as usize;
            let chosen = choose(ranks, &seats, &holders);
            let cost = chosen.as_ref().map(|choice| {
                let worst = choice.holders.iter().map(|h| holders[*h].importance);
                (worst.max(), choice.holders.len())
            });
            assert_eq!(cost, slow(ranks, &seats, &holders), "seed {seed}");
            let Some(choice) = chosen else { continue };
            assert_eq!(choice.places.len(), ranks, "seed {seed}");
            let mut kinds = BTreeSet::new();
            for place in &choice.places {
                let seat = seats.iter().find(|seat| seat.place == *place).unwrap();
                kinds.insert(&seat.kind);
                let gained = seat.held.is_none_or(|h| choice.holders.contains(&h));
                assert!(gained, "seed {seed}");
            }
            assert_eq!(kinds.len(), 1, "seed {seed}");
        }
    }

    #[test]
    fn the_newest_of_equals_leaves() {
        let holders = [3, 7, 5].map(|started_ms| Holder {
            importance: 0,
            started_ms,
        });
        let seats: Vec<Seat> = (0..3)
            .map(|slot| Seat {
                place: Place {
                    worker: "w".into(),
                    slot,
                },
                kind: "k".to_owned(),
                held: Some(slot as usize),
            })
            .collect();
        let choice = choose(1, &seats, &holders).unwrap();
        assert_eq!(choice.holders, [1]);
        assert_eq!(choice.places, [seats[1].place.clone()]);
    }
}
