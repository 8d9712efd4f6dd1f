//! Values that were hardly tried: choices, above all those that hyperparameters hang on.

use super::super::axes::{Axes, Kind};
use super::super::history::History;

/// Every so many proposals a category is looked at that has less than this share of the trials that it would
/// have at random.
const LOOK_EVERY: usize = 8;
const NEGLECTED: f64 = 0.3;

/// The same for the values that make hyperparameters active: each is a space to be searched, whose first points
/// tell little of its best. Up to so many trials for each axis of the whole.
const BRANCH_EVERY: usize = 4;
const BRANCH_SHARE: f64 = 0.8;
const BRANCH_TRIALS: usize = 8;

/// From time to time, the value that was tried least beside its share of the trials in which its
/// hyperparameter was active: the axis and the coordinate, and those that it takes to make it active.
pub(super) fn neglected(axes: &Axes, history: &History) -> Vec<(usize, f64)> {
    let count = history.trials.len();
    let look = count % LOOK_EVERY == LOOK_EVERY - 1;
    let branch = count % BRANCH_EVERY == BRANCH_EVERY - 1;
    if !look && !branch {
        return Vec::new();
    }
    let needs = axes.axes().iter().flat_map(|axis| &axis.needs);
    let mut is_parent = vec![false; axes.axes().len()];
    needs.for_each(|needs| is_parent[needs.parent] = true);
    let mut least: Option<(f64, usize, f64)> = None;
    for (position, axis) in axes.axes().iter().enumerate() {
        let Kind::Unordered { cells } = axis.kind else {
            continue;
        };
        if cells as usize > count / 2 {
            continue;
        }
        let mut counts = vec![0u32; cells as usize];
        let places = history.trials.iter().map(|past| past.point[position]);
        for place in places.filter(|place| !place.is_nan()) {
            counts[axis.cell(place) as usize] += 1;
        }
        let active: u32 = counts.iter().sum();
        for (cell, tried) in counts.iter().enumerate() {
            let share = f64::from(*tried) * cells as f64 / f64::from(active.max(1));
            let searched = *tried as usize >= BRANCH_TRIALS * axes.axes().len();
            let few = (look && share < NEGLECTED)
                || (branch && is_parent[position] && share < BRANCH_SHARE && !searched);
            if few && least.is_none_or(|(least, _, _)| share < least) {
                least = Some((share, position, axis.middle(cell as u64)));
            }
        }
    }
    least.map_or_else(Vec::new, |(_, axis, place)| with_parents(axes, axis, place))
}

/// A coordinate, and one of its parents' that make it active, and of theirs.
fn with_parents(axes: &Axes, axis: usize, place: f64) -> Vec<(usize, f64)> {
    let mut found = vec![(axis, place)];
    let mut next = 0;
    while let Some((axis, _)) = found.get(next).copied() {
        next += 1;
        for needs in &axes.axes()[axis].needs {
            let known = found.iter().any(|(axis, _)| *axis == needs.parent);
            // Where several values would do, the search chooses.
            if let ([only], false) = (needs.any_of.as_slice(), known) {
                found.push((needs.parent, axes.axes()[needs.parent].snap(*only)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Status;
    use super::super::tests::axes;
    use super::*;
    use serde_json::json;
    use trainyard_common::rng::Key;

    #[test]
    fn a_value_with_children_that_was_tried_least_comes_with_its_parents() {
        let axes = axes(&json!({
            "kind": {"type": "categorical", "vals": ["a", "b"]},
            "inner": {"type": "categorical", "vals": ["c", "d"], "when": {"kind": "b"}},
            "x": {"type": "double", "minval": 0, "maxval": 1, "when": {"inner": "d"}},
        }));
        let mut history = History::default();
        // Four in a, two in (b, c), one in (b, d): of all in b a third is d, 2/3 of its share.
        let points = [[0.25, 0.0], [0.75, 0.25], [0.75, 0.25], [0.75, 0.75]];
        for at in [0, 0, 1, 2, 3, 0, 0] {
            let [kind, inner] = points[at];
            let mut point = vec![kind, inner, 0.5];
            axes.settle(&mut point);
            history.begun(point);
            history.ended(history.trials.len() - 1, Status::Done(0.0));
        }
        assert_eq!(neglected(&axes, &history), [(1, 0.75), (0, 0.75)]);
        // Only from time to time.
        history.begun(axes.draw(Key::new(1)));
        assert_eq!(neglected(&axes, &history), []);
    }
}
