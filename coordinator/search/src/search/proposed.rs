//! Which configurations of a listed space were proposed, and which are left, by their numbers.

use trainyard_common::space::Listing;
use trainyard_common::spec::Params;

use super::axes::Axes;
use super::points::same;

#[derive(Debug, Clone, Default)]
pub(super) struct Proposed {
    /// Ascending, each once.
    numbers: Vec<u64>,
}

impl Proposed {
    /// Notes a configuration; what is not in the list takes no place in it.
    pub(super) fn note(&mut self, listing: Listing<'_>, params: &Params) {
        if let Some(number) = listing.number(params)
            && let Err(place) = self.numbers.binary_search(&number)
        {
            self.numbers.insert(place, number);
        }
    }

    /// As [`note`](Self::note), of a trial's point; that of a configuration which is none of the space says nothing.
    pub(super) fn note_point(&mut self, listing: Listing<'_>, axes: &Axes, point: &[f64]) {
        let params = axes.decode(point);
        if axes.encode(&params).is_some_and(|own| same(&own, point)) {
            self.note(listing, &params);
        }
    }

    /// How many configurations are left.
    pub(super) fn left(&self, listing: Listing<'_>) -> u64 {
        listing.len() - self.numbers.len() as u64
    }

    /// Of those that are left the one that so many others come before.
    pub(super) fn nth_left(&self, listing: Listing<'_>, before: u64) -> Option<Params> {
        // The k-th proposed one has `number - k` before it that are left: that never falls.
        let (mut low, mut high) = (0, self.numbers.len());
        while low < high {
            let half = low + (high - low) / 2;
            if self.numbers[half] - half as u64 <= before {
                low = half + 1;
            } else {
                high = half;
            }
        }
        listing.get(before + low as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_common::space::SearchSpace;

    use super::*;

    #[test]
    fn those_that_are_left_keep_their_order() {
        let numbers = json!({"type": "int", "minval": 0, "maxval": 9});
        let space =
            serde_json::from_value(json!({"a": numbers, "b": numbers, "c": {"type": "boolean"}}));
        let space = SearchSpace::new(&space.unwrap()).unwrap();
        let space = space.constrained(&["a < b".to_owned()]).unwrap();
        let mut left: Vec<Params> = space.grid().unwrap().collect();
        let listing = space.listing().unwrap();
        let mut proposed = Proposed::default();
        for round in 0..90 {
            assert_eq!(proposed.left(listing), left.len() as u64);
            for (at, expected) in (0u64..).zip(&left) {
                assert_eq!(proposed.nth_left(listing, at).as_ref(), Some(expected));
            }
            assert_eq!(proposed.nth_left(listing, left.len() as u64), None);
            let chosen = left.remove(round * 7 % left.len());
            proposed.note(listing, &chosen);
            proposed.note(listing, &chosen);
        }
        assert!(left.is_empty());
    }
}
