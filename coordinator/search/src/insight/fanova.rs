//! fANOVA: the share of the variance of the cost over the whole space that each hyperparameter explains
//! (Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance").
//!
//! For each tree of a forest, with f_0 its mean over the cube and a_U its marginal on axes U, the variance
//! is V = integral of (f - f_0)^2, the part of one axis V_j = integral of (a_j - f_0)^2, and that of two
//! V_ij = (integral of (a_ij - f_0)^2) - V_i - V_j. All are exact sums over leaves. A share is V_U / V, its
//! mean over the trees that are not flat. Hyperparameters count as evenly distributed over their axes,
//! conditional ones over the whole.

use super::forest::Forest;
use super::tree::{Scale, Tree};

/// Interactions are computed among so many hyperparameters, those with the largest main effects.
const MAX_PAIRED: usize = 8;

/// The share of one hyperparameter alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    pub axis: usize,
    /// Of the variance, in [0, 1]; the mean over trees.
    pub share: f64,
    /// Standard deviation over trees.
    pub spread: f64,
}

/// The share of two hyperparameters together, beyond what each explains alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interaction {
    pub axes: [usize; 2],
    pub share: f64,
}

/// How the variance is split. All shares together are at most 1; the rest is left to interactions of
/// more hyperparameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// Of every axis, in their order.
    pub effects: Vec<Effect>,
    /// The largest first; empty where they were not asked for.
    pub interactions: Vec<Interaction>,
}

/// Importance in a forest; all 0 where costs do not differ.
pub fn fanova(forest: &Forest, interactions: bool) -> Importance {
    let trees: Vec<Parts> = forest.trees.iter().filter_map(Parts::new).collect();
    let count = forest.scales.len();
    let shares = |axis: usize| -> Vec<f64> {
        let shares = trees.iter();
        shares
            .map(|tree| tree.main(axis, forest.scales[axis]) / tree.variance)
            .collect()
    };
    let by_axis: Vec<Vec<f64>> = (0..count).map(shares).collect();
    let mut effects: Vec<Effect> = (0..count)
        .map(|axis| {
            let (share, spread) = moments(&by_axis[axis]);
            let share = share.clamp(0.0, 1.0);
            Effect {
                axis,
                share,
                spread,
            }
        })
        .collect();
    let mut pairs = Vec::new();
    if interactions {
        for axes in paired(&effects, &forest.scales) {
            let share = |(at, tree): (usize, &Parts)| {
                let both = tree.both(axes, axes.map(|axis| forest.scales[axis]));
                let alone = by_axis[axes[0]][at] + by_axis[axes[1]][at];
                (both / tree.variance - alone).max(0.0)
            };
            let shares: Vec<f64> = trees.iter().enumerate().map(share).collect();
            let (share, _) = moments(&shares);
            pairs.push(Interaction { axes, share });
        }
    }
    // At most 1 by orthogonality of the parts; rounding may add a little.
    let shares = effects.iter().map(|effect| effect.share);
    let sum: f64 = shares.chain(pairs.iter().map(|pair| pair.share)).sum();
    if sum > 1.0 {
        effects.iter_mut().for_each(|effect| effect.share /= sum);
        pairs.iter_mut().for_each(|pair| pair.share /= sum);
    }
    pairs.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.axes.cmp(&b.axes)));
    Importance {
        effects,
        interactions: pairs,
    }
}

/// Pairs of the axes with the largest effects.
fn paired(effects: &[Effect], scales: &[Scale]) -> Vec<[usize; 2]> {
    let mut order: Vec<&Effect> = effects
        .iter()
        .filter(|effect| scales[effect.axis] != Scale::Fixed)
        .collect();
    order.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.axis.cmp(&b.axis)));
    let mut axes: Vec<usize> = order.iter().take(MAX_PAIRED).map(|e| e.axis).collect();
    axes.sort_unstable();
    let pairs = |(at, &first): (usize, &usize)| {
        let later = axes[at + 1..].iter();
        later.map(|&second| [first, second]).collect::<Vec<_>>()
    };
    axes.iter().enumerate().flat_map(pairs).collect()
}

/// Mean and standard deviation; 0 of nothing.
pub(super) fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    (mean, (squares.sum::<f64>() / count).sqrt())
}

/// A tree that is not flat.
struct Parts<'a> {
    tree: &'a Tree,
    mean: f64,
    variance: f64,
}

impl<'a> Parts<'a> {
    fn new(tree: &'a Tree) -> Option<Self> {
        let mean = tree.mean();
        let square = |value: f64| (value - mean) * (value - mean);
        let leaves = tree.leaves.iter();
        let variance: f64 = leaves.map(|leaf| leaf.weight * square(leaf.value)).sum();
        // Leaves have values in [0, 1]: less than this is rounding.
        (variance > 1e-18).then_some(Self {
            tree,
            mean,
            variance,
        })
    }

    fn main(&self, axis: usize, scale: Scale) -> f64 {
        let (places, lengths) = self.pieces(axis, scale);
        let marginal = self.tree.marginal(axis, scale, &places);
        let pieces = marginal.iter().zip(&lengths);
        pieces
            .map(|(value, length)| length * self.square(*value))
            .sum()
    }

    fn both(&self, axes: [usize; 2], scales: [Scale; 2]) -> f64 {
        let (first, widths) = self.pieces(axes[0], scales[0]);
        let (second, heights) = self.pieces(axes[1], scales[1]);
        let marginal = self.tree.marginal_of_two(axes, scales, [&first, &second]);
        let mut sum = 0.0;
        for (row, width) in marginal.chunks(second.len().max(1)).zip(&widths) {
            let cells = row.iter().zip(&heights);
            let line: f64 = cells
                .map(|(value, height)| height * self.square(*value))
                .sum();
            sum += width * line;
        }
        sum
    }

    fn square(&self, value: f64) -> f64 {
        (value - self.mean) * (value - self.mean)
    }

    /// The pieces of an axis on which every marginal is constant: a place in each, and their lengths.
    fn pieces(&self, axis: usize, scale: Scale) -> (Vec<f64>, Vec<f64>) {
        match scale {
            Scale::Fixed => (vec![0.5], vec![1.0]),
            Scale::Cells(cells) => {
                let width = 1.0 / f64::from(cells);
                let places = (0..cells).map(|cell| (f64::from(cell) + 0.5) * width);
                (places.collect(), vec![width; cells as usize])
            }
            Scale::Line => {
                let edges = self.tree.edges(axis);
                let pieces = edges.windows(2);
                pieces
                    .map(|ends| (0.5 * (ends[0] + ends[1]), ends[1] - ends[0]))
                    .unzip()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forest::tests::{axes, lent, mixed, sample};
    use super::*;
    use crate::search::axes::Axes;
    use serde_json::json;
    use trainyard_common::rng::Key;

    fn importance(axes: &Axes, count: u64, cost: impl Fn(&[f64]) -> f64) -> Importance {
        let trials = sample(axes, count, cost);
        let forest = Forest::fit(axes, &lent(&trials), Key::new(2));
        let importance = fanova(&forest, true);
        let shares = importance.effects.iter().map(|effect| effect.share);
        let pairs = importance.interactions.iter().map(|pair| pair.share);
        let sum: f64 = shares.chain(pairs).sum();
        assert!((0.0..=1.0 + 1e-12).contains(&sum), "{sum}");
        importance
    }

    fn shares(importance: &Importance) -> Vec<f64> {
        importance
            .effects
            .iter()
            .map(|effect| effect.share)
            .collect()
    }

    #[test]
    fn additive_functions_have_known_shares() {
        let axes = mixed();
        // Variances of the parts: 4/12 of a range of 2; 1/12; of {0, 1} with two of five cells 6/25.
        let cost = |p: &[f64]| 2.0 * p[0] + p[1] + f64::from(u8::from(p[3] < 0.4));
        let found = shares(&importance(&axes, 600, cost));
        let parts = [4.0 / 12.0, 1.0 / 12.0, 0.0, 0.24, 0.0, 0.0];
        let whole: f64 = parts.iter().sum();
        for (found, part) in found.iter().zip(parts) {
            assert!(
                (found - part / whole).abs() < 0.05,
                "{found} {}",
                part / whole
            );
        }
        assert_eq!(found[5], 0.0);
    }

    #[test]
    fn a_conditional_part_counts_where_it_is_active() {
        let axes = mixed();
        // z is active in 2 of 5 choices: alone it explains the variance of its mean, 0.4^2 / 12; the choice
        // that of 0.5 with chance 0.4, 0.25 * 0.24; both together the rest of 0.4 / 3 - 0.04.
        let cost = |p: &[f64]| if p[4].is_nan() { 0.0 } else { p[4] };
        let importance = importance(&axes, 800, cost);
        let whole = 0.4 / 3.0 - 0.04;
        let found = shares(&importance);
        assert!((found[4] - 0.16 / 12.0 / whole).abs() < 0.05, "{found:?}");
        assert!((found[3] - 0.06 / whole).abs() < 0.05, "{found:?}");
        let pair = importance.interactions[0];
        let expected = (whole - 0.16 / 12.0 - 0.06) / whole;
        assert_eq!(pair.axes, [3, 4]);
        assert!(
            (pair.share - expected).abs() < 0.05,
            "{} {expected}",
            pair.share
        );
    }

    #[test]
    fn a_product_is_an_interaction() {
        let axes = axes(json!({
            "x": {"type": "double", "minval": 0.0, "maxval": 1.0},
            "y": {"type": "double", "minval": 0.0, "maxval": 1.0},
            "z": {"type": "double", "minval": 0.0, "maxval": 1.0},
        }));
        // (x - 1/2)(y - 1/2) has no main effects at all.
        let importance = importance(&axes, 800, |p| (p[0] - 0.5) * (p[1] - 0.5));
        let found = shares(&importance);
        assert!(found.iter().all(|share| *share < 0.1), "{found:?}");
        assert_eq!(importance.interactions[0].axes, [0, 1]);
        assert!(importance.interactions[0].share > 0.6, "{importance:?}");
        assert!(importance.interactions[1].share < 0.1, "{importance:?}");
    }

    #[test]
    fn the_same_costs_have_no_important_axis() {
        let axes = mixed();
        for count in [0, 1, 3, 50] {
            let importance = importance(&axes, count, |_| 0.1);
            assert!(
                importance
                    .effects
                    .iter()
                    .all(|e| e.share == 0.0 && e.spread == 0.0)
            );
            assert!(importance.interactions.iter().all(|pair| pair.share == 0.0));
        }
    }

    #[test]
    fn the_same_key_gives_the_same_shares() {
        let axes = mixed();
        let cost = |p: &[f64]| p[0] + p[1] * p[2];
        assert_eq!(importance(&axes, 60, cost), importance(&axes, 60, cost));
    }
}
