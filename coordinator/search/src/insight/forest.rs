//! A random forest of regression trees over the unit cube of [`Axes`], as fANOVA and partial dependence
//! need it: each tree is the list of its leaves, boxes that fill the cube, so that sums over leaves are
//! exact integrals.
//!
//! An inactive hyperparameter has no effect on the cost. So the cost is taken for a function on the whole
//! cube that does not depend on it there, and a row's missing coordinate is drawn evenly for each tree: a
//! fixed one would put every inactive row into the same leaves, and look like an effect of that value.

use trainyard_common::rng::Key;

use super::tree::{Bound, Leaf, Scale, Tree};
use crate::search::axes::{Axes, Kind};

/// As many trees as the random forest of Hutter et al. 2014 has in other implementations by default.
const TREES: u64 = 64;

/// Rows that a tree is grown from, at most: what bounds the time of a fit.
const MAX_ROWS: usize = 1_024;

/// Fewest rows of a leaf. Smaller ones take noise for interactions.
const MIN_LEAF: usize = 3;

/// Splits above a leaf, at most.
const MAX_DEPTH: usize = 48;

/// A set of categories is a word; an unordered axis of more is split as an ordered one.
const MAX_CELLS: u64 = 64;

/// Larger costs are taken for this one, so that their squares are finite.
const LARGEST_COST: f64 = 1e150;

/// A fitted forest.
#[derive(Debug, Clone)]
pub struct Forest {
    pub(super) trees: Vec<Tree>,
    pub(super) scales: Vec<Scale>,
    /// A cost is `least + range * value`, where value is a leaf's.
    pub(super) least: f64,
    pub(super) range: f64,
}

impl Forest {
    /// Fits points and their costs. What is no point of `axes` or has no finite cost is left out; without
    /// any the forest is 0 everywhere.
    pub fn fit(axes: &Axes, trials: &[(&[f64], f64)], key: Key) -> Self {
        let fits =
            |(point, cost): &&(&[f64], f64)| point.len() == axes.axes().len() && cost.is_finite();
        let rows: Vec<(&[f64], f64)> = trials
            .iter()
            .filter(fits)
            .map(|(point, cost)| (*point, cost.clamp(-LARGEST_COST, LARGEST_COST)))
            .collect();
        let least = rows.iter().map(|row| row.1).fold(f64::INFINITY, f64::min);
        let most = rows.iter().map(|row| row.1).fold(least, f64::max);
        // Of costs that are all the same every value is exactly 0.
        let range = if most > least { most - least } else { 1.0 };
        let least = if rows.is_empty() { 0.0 } else { least };
        let scales: Vec<Scale> = axes.axes().iter().map(|axis| scale(axis.kind)).collect();
        let tree = |number| {
            let key = key.with(number);
            Table::draw(&rows, &scales, |cost| (cost - least) / range, key).grow()
        };
        Self {
            trees: (0..TREES).map(tree).collect(),
            scales,
            least,
            range,
        }
    }
}

fn scale(kind: Kind) -> Scale {
    match kind {
        Kind::Fixed => Scale::Fixed,
        Kind::Unordered { cells } if cells <= MAX_CELLS => Scale::Cells(cells as u32),
        Kind::Continuous | Kind::Ordered { .. } | Kind::Unordered { .. } => Scale::Line,
    }
}

/// The rows that a tree is grown from.
struct Table<'a> {
    scales: &'a [Scale],
    /// By axis: the coordinates of all rows.
    columns: Vec<Vec<f64>>,
    values: Vec<f64>,
}

/// A box that is yet to be split, and its rows.
struct Node {
    rows: Vec<usize>,
    bounds: Vec<(usize, Bound)>,
    depth: usize,
}

/// A way to split a node.
struct Cut {
    gain: f64,
    axis: usize,
    left: Bound,
    right: Bound,
}

impl<'a> Table<'a> {
    /// A bootstrap sample; each copy of a row has coordinates of its own where hyperparameters are inactive.
    fn draw(
        rows: &[(&[f64], f64)],
        scales: &'a [Scale],
        value: impl Fn(f64) -> f64,
        key: Key,
    ) -> Self {
        let (choice, missing) = (key.named("rows"), key.named("inactive"));
        let count = rows.len().min(MAX_ROWS);
        let chosen: Vec<usize> = (0..count as u64)
            .map(|at| choice.below(at, rows.len() as u64) as usize)
            .collect();
        let coordinate = |(at, row): (usize, &usize), axis: usize| match rows[*row].0[axis] {
            place if place.is_nan() => missing.with(at as u64).unit(axis as u64),
            place => place.clamp(0.0, 1.0),
        };
        let column = |axis: usize| {
            let rows = chosen.iter().enumerate();
            rows.map(|row| coordinate(row, axis)).collect()
        };
        Self {
            scales,
            columns: (0..scales.len()).map(column).collect(),
            values: chosen.iter().map(|row| value(rows[*row].1)).collect(),
        }
    }

    fn grow(&self) -> Tree {
        let mut leaves = Vec::new();
        let mut open = vec![Node {
            rows: (0..self.values.len()).collect(),
            bounds: Vec::new(),
            depth: 0,
        }];
        while let Some(node) = open.pop() {
            match self.best_cut(&node) {
                Some(cut) => open.extend(self.split(node, &cut)),
                None => leaves.push(self.leaf(node)),
            }
        }
        Tree { leaves }
    }

    fn leaf(&self, node: Node) -> Leaf {
        let sum: f64 = node.rows.iter().map(|&row| self.values[row]).sum();
        let shares = node.bounds.iter();
        Leaf {
            value: sum / node.rows.len().max(1) as f64,
            weight: shares.fold(1.0, |product, (axis, bound)| {
                product * bound.share(self.scales[*axis])
            }),
            bounds: node.bounds,
        }
    }

    fn split(&self, node: Node, cut: &Cut) -> [Node; 2] {
        let inside = |row: usize| match cut.left {
            Bound::Range(_, high) => self.columns[cut.axis][row] < high,
            Bound::Cells(set) => set >> self.cell(cut.axis, row) & 1 == 1,
        };
        let (left, right) = node.rows.iter().partition(|&&row| inside(row));
        let child = |rows: Vec<usize>, bound: Bound| {
            let mut bounds = node.bounds.clone();
            match bounds.binary_search_by_key(&cut.axis, |(axis, _)| *axis) {
                Ok(at) => bounds[at].1 = bound,
                Err(at) => bounds.insert(at, (cut.axis, bound)),
            }
            let depth = node.depth + 1;
            Node {
                rows,
                bounds,
                depth,
            }
        };
        [child(left, cut.left), child(right, cut.right)]
    }

    /// The cut that lowers the sum of squared errors the most; of equal ones that of the first axis. A node
    /// looks at all axes: a random part of them makes trees that predict better together, but each would
    /// split on axes without effect, and shares of variance are of each tree.
    fn best_cut(&self, node: &Node) -> Option<Cut> {
        let first = self.values[*node.rows.first()?];
        let same = node.rows.iter().all(|&row| self.values[row] == first);
        if same || node.rows.len() < 2 * MIN_LEAF || node.depth >= MAX_DEPTH {
            return None;
        }
        let mut best: Option<Cut> = None;
        for (axis, scale) in self.scales.iter().enumerate() {
            let cut = match scale {
                Scale::Fixed => None,
                Scale::Line => self.threshold(node, axis),
                Scale::Cells(cells) => self.sets(node, axis, *cells),
            };
            if let Some(cut) = cut
                && best.as_ref().is_none_or(|best| cut.gain > best.gain)
            {
                best = Some(cut);
            }
        }
        best
    }

    fn cell(&self, axis: usize, row: usize) -> u32 {
        match self.scales[axis] {
            Scale::Cells(cells) => Scale::cell(cells, self.columns[axis][row]),
            Scale::Fixed | Scale::Line => 0,
        }
    }

    /// The best threshold, in the middle between two neighbours.
    fn threshold(&self, node: &Node, axis: usize) -> Option<Cut> {
        let column = &self.columns[axis];
        let mut rows: Vec<(f64, f64)> = node
            .rows
            .iter()
            .map(|&row| (column[row], self.values[row]))
            .collect();
        rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let groups = rows.iter().map(|(_, value)| (1, *value));
        let may = |at: usize| rows[at - 1].0 < rows[at].0;
        let (gain, at) = best_prefix(groups, may)?;
        let threshold = 0.5 * (rows[at - 1].0 + rows[at].0);
        let (low, high) = match bound_of(node, axis) {
            Some(Bound::Range(low, high)) => (low, high),
            _ => (0.0, 1.0),
        };
        // Between neighbouring floats there is no middle, and a box without width has no density.
        (low < threshold && threshold < high && rows[at - 1].0 < threshold).then_some(Cut {
            gain,
            axis,
            left: Bound::Range(low, threshold),
            right: Bound::Range(threshold, high),
        })
    }

    /// The best two sets of cells: in the order of their means one is a prefix (Fisher 1958, "On grouping for
    /// maximum homogeneity"). Cells without rows go with the more rows.
    fn sets(&self, node: &Node, axis: usize, cells: u32) -> Option<Cut> {
        let mut groups: Vec<(u32, usize, f64)> = (0..cells).map(|cell| (cell, 0, 0.0)).collect();
        for &row in &node.rows {
            if let Some(group) = groups.get_mut(self.cell(axis, row) as usize) {
                group.1 += 1;
                group.2 += self.values[row];
            }
        }
        groups.retain(|group| group.1 > 0);
        let mean = |group: &(u32, usize, f64)| group.2 / group.1 as f64;
        groups.sort_by(|a, b| mean(a).total_cmp(&mean(b)).then(a.0.cmp(&b.0)));
        let sums = groups.iter().map(|(_, count, sum)| (*count, *sum));
        let (gain, at) = best_prefix(sums, |_| true)?;
        let set = |groups: &[(u32, usize, f64)]| {
            groups.iter().fold(0u64, |set, group| set | 1u64 << group.0)
        };
        let count = |groups: &[(u32, usize, f64)]| groups.iter().map(|g| g.1).sum::<usize>();
        let whole = match bound_of(node, axis) {
            Some(Bound::Cells(set)) => set,
            _ => u64::MAX >> (64 - cells.clamp(1, 64)),
        };
        let (below, above) = groups.split_at(at);
        let (mut left, mut right) = (set(below), set(above));
        if count(below) >= count(above) {
            left = whole & !right;
        } else {
            right = whole & !left;
        }
        Some(Cut {
            gain,
            axis,
            left: Bound::Cells(left),
            right: Bound::Cells(right),
        })
    }
}

fn bound_of(node: &Node, axis: usize) -> Option<Bound> {
    let mut bounds = node.bounds.iter();
    bounds.find(|(bounded, _)| *bounded == axis).map(|b| b.1)
}

/// Of groups (rows, sum of values) in order, how many to put apart, so that the sum of squared errors
/// falls the most, and by how much it falls; `may` forbids cuts before a group.
fn best_prefix(
    groups: impl Iterator<Item = (usize, f64)> + Clone,
    may: impl Fn(usize) -> bool,
) -> Option<(f64, usize)> {
    let square = |(count, sum): (usize, f64)| sum * sum / count as f64;
    let (count, sum) = groups.clone().fold((0, 0.0), |(count, sum), group| {
        (count + group.0, sum + group.1)
    });
    let mut best: Option<(f64, usize)> = None;
    let (mut before, mut below) = (0, 0.0);
    for (at, group) in groups.enumerate() {
        let after = count - before;
        if before >= MIN_LEAF && after >= MIN_LEAF && may(at) {
            let gain =
                square((before, below)) + square((after, sum - below)) - square((count, sum));
            // Rounding alone is no gain.
            let gains = gain > 1e-12 * count as f64;
            if gains && best.is_none_or(|best| gain > best.0) {
                best = Some((gain, at));
            }
        }
        before += group.0;
        below += group.1;
    }
    best
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainyard_common::space::SearchSpace;

    pub(in crate::insight) fn axes(space: Value) -> Axes {
        let space = serde_json::from_value(space).unwrap();
        Axes::new(SearchSpace::new(&space).unwrap())
    }

    pub(in crate::insight) fn mixed() -> Axes {
        axes(json!({
            "x": {"type": "double", "minval": 0.0, "maxval": 1.0},
            "y": {"type": "double", "minval": 1e-4, "maxval": 1.0, "log": true},
            "n": {"type": "int", "minval": 1, "maxval": 4},
            "c": {"type": "categorical", "vals": ["a", "b", "c", "d", "e"]},
            "z": {"type": "double", "minval": 0.0, "maxval": 1.0, "when": {"c": ["a", "b"]}},
            "f": {"type": "const", "val": 3},
        }))
    }

    /// Points drawn evenly, with a cost of their coordinates.
    pub(in crate::insight) fn sample(
        axes: &Axes,
        count: u64,
        cost: impl Fn(&[f64]) -> f64,
    ) -> Vec<(Vec<f64>, f64)> {
        let point = |at| axes.draw(Key::new(5).with(at));
        let points = (0..count).map(point);
        points.map(|point| (point.clone(), cost(&point))).collect()
    }

    pub(in crate::insight) fn lent(trials: &[(Vec<f64>, f64)]) -> Vec<(&[f64], f64)> {
        trials
            .iter()
            .map(|(p, cost)| (p.as_slice(), *cost))
            .collect()
    }

    /// The value at a point, by the only leaf that holds it.
    fn at(tree: &Tree, scales: &[Scale], point: &[f64]) -> f64 {
        let holds = |leaf: &&Leaf| {
            (0..scales.len()).all(|axis| {
                let mut inside = leaf.bound(axis).is_none();
                if let Some(bound) = leaf.bound(axis) {
                    bound.add(scales[axis], &[point[axis]], |_| inside = true);
                }
                inside
            })
        };
        let holding: Vec<&Leaf> = tree.leaves.iter().filter(holds).collect();
        assert_eq!(holding.len(), 1, "{point:?}");
        holding[0].value
    }

    #[test]
    fn leaves_fill_the_cube_and_marginals_are_integrals() {
        let axes = mixed();
        let trials = sample(&axes, 200, |p| {
            p[0] * p[0] + p[1] * p[2] + (p[3] * 7.0) % 1.0
        });
        let forest = Forest::fit(&axes, &lent(&trials), Key::new(1));
        for tree in &forest.trees[..4] {
            let whole: f64 = tree.leaves.iter().map(|leaf| leaf.weight).sum();
            assert!((whole - 1.0).abs() < 1e-12, "{whole}");
            // The mean of 2,000 even draws of the tree lies within five standard errors of the integral.
            let draw = |i: u64| {
                (0..6)
                    .map(|a| Key::new(9).with(i).unit(a))
                    .collect::<Vec<_>>()
            };
            let values = |fixed: &[(usize, f64)]| {
                let value = |i: u64| {
                    let mut point = draw(i);
                    fixed.iter().for_each(|(axis, place)| point[*axis] = *place);
                    at(tree, &forest.scales, &point)
                };
                (0..2_000).map(value).sum::<f64>() / 2_000.0
            };
            let error = 5.0 * 0.3 / 2_000f64.sqrt();
            assert!((values(&[]) - tree.mean()).abs() < error);
            for (axis, place) in [(0, 0.3), (3, 0.5), (3, 0.9)] {
                let scale = forest.scales[axis];
                let marginal = tree.marginal(axis, scale, &[place])[0];
                assert!((values(&[(axis, place)]) - marginal).abs() < error);
            }
            let scales = [forest.scales[1], forest.scales[3]];
            let both = tree.marginal_of_two([1, 3], scales, [&[0.2, 0.8], &[0.1, 0.5]]);
            assert!((values(&[(1, 0.8), (3, 0.5)]) - both[3]).abs() < error);
            assert!((values(&[(1, 0.2), (3, 0.5)]) - both[1]).abs() < error);
        }
    }

    #[test]
    fn the_best_cut_by_hand() {
        let groups = [(2, 0.0), (1, 0.0), (1, 1.0), (3, 3.0)];
        // Squared error 12/7 before: of 7 values four are 1. After a cut before the third group: 0. Before
        // the second it would leave a leaf of two.
        let (gain, at) = best_prefix(groups.into_iter(), |_| true).unwrap();
        assert_eq!(at, 2);
        assert!((gain - 12.0 / 7.0).abs() < 1e-12);
        assert_eq!(best_prefix(groups.into_iter(), |_| false), None);
        assert_eq!(
            best_prefix([(5, 1.0), (5, 1.0)].into_iter(), |_| true),
            None
        );
    }

    #[test]
    fn nothing_and_nonsense_give_a_flat_forest() {
        let axes = mixed();
        let point = axes.draw(Key::new(1));
        let wild: [(&[f64], f64); 4] = [
            (&point, f64::NAN),
            (&point, f64::INFINITY),
            (&point[..2], 1.0),
            (&[], 1.0),
        ];
        for trials in [&wild[..], &wild[..0]] {
            let forest = Forest::fit(&axes, trials, Key::new(1));
            assert!(forest.trees.iter().all(|tree| tree.mean() == 0.0));
        }
        let huge: [(&[f64], f64); 2] = [(&point, f64::MAX), (&point, f64::MIN)];
        let forest = Forest::fit(&axes, &huge, Key::new(1));
        assert!(forest.range.is_finite() && forest.trees[0].mean().is_finite());
    }
}
