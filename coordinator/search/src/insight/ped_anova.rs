//! PED-ANOVA: importance for reaching the best results, from one-dimensional densities alone (Watanabe,
//! Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
//! Subspaces"). Linear in the number of trials, without a model, and unmoved by how bad the worst are.
//!
//! The share of axis j is proportional to the Pearson divergence of its density among the best trials,
//! p, from that among all, q: the integral of (p / q - 1)^2 q. That is the main effect of "is among the best"
//! (theorem 1, up to a factor common to all axes), where trials count as they were drawn.
//!
//! Both densities have the bandwidth of the best, so that nowhere is p / q more than the ratio of the
//! numbers of trials; the paper leaves this open, and a narrower q can vanish where p does not. As in
//! [`super::Forest`], an inactive hyperparameter counts as spread evenly over its axis.

use crate::search::axes::{Axes, Axis, Kind};

/// Bins of an axis of numbers: more than the bandwidth of any number of trials resolves.
const BINS: u64 = 50;

/// Fewest best trials: one has no spread.
const MIN_BEST: usize = 2;

/// The shares of all axes, in their order, among points and their costs. `best` is the share of trials that count
/// as good, 0.1 in the paper. They sum to 1, or are all 0 where nothing can be told apart: costs do not
/// differ, or trials are too few.
pub fn ped_anova(axes: &Axes, trials: &[(&[f64], f64)], best: f64) -> Vec<f64> {
    let count = axes.axes().len();
    let mut rows: Vec<&(&[f64], f64)> = trials
        .iter()
        .filter(|(point, cost)| point.len() == count && cost.is_finite())
        .collect();
    // A stable order: of equal costs the earlier trial comes first.
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let wanted = libm::ceil(best.clamp(0.0, 1.0) * rows.len() as f64) as usize;
    let Some(last) = rows.get(wanted.max(MIN_BEST) - 1) else {
        return vec![0.0; count];
    };
    let good = rows.partition_point(|row| row.1 <= last.1);
    if good == rows.len() {
        return vec![0.0; count];
    }
    let divergence = |(position, axis): (usize, &Axis)| {
        let column: Vec<f64> = rows.iter().map(|row| row.0[position]).collect();
        let (top, _) = column.split_at(good);
        match axis.kind {
            Kind::Fixed => 0.0,
            Kind::Unordered { cells } => of_choices(top, &column, axis, cells),
            Kind::Continuous => of_numbers(top, &column, BINS),
            Kind::Ordered { cells } => of_numbers(top, &column, cells.min(BINS)),
        }
    };
    let mut shares: Vec<f64> = axes.axes().iter().enumerate().map(divergence).collect();
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 {
        shares.iter_mut().for_each(|share| *share /= sum);
    }
    shares
}

/// The Pearson divergence of densities in bins.
fn pearson(top: &[f64], all: &[f64]) -> f64 {
    let bins = top.iter().zip(all).filter(|(_, q)| **q > 0.0);
    bins.map(|(p, q)| (p / q - 1.0) * (p / q - 1.0) * q).sum()
}

/// Without an order: frequencies, those of the best with one trial for each choice added that lies as all
/// do (Laplace's rule), so that a few best trials among many choices are no finding.
fn of_choices(top: &[f64], all: &[f64], axis: &Axis, cells: u64) -> f64 {
    let bin = |place: f64| axis.cell(place);
    let all = histogram(all, cells, bin);
    let mut top_share = histogram(top, cells, bin);
    let (seen, added) = (top.len() as f64, cells as f64);
    for (p, q) in top_share.iter_mut().zip(&all) {
        *p = (seen * *p + added * q) / (seen + added);
    }
    pearson(&top_share, &all)
}

/// Numbers: kernel densities on a grid.
fn of_numbers(top: &[f64], all: &[f64], bins: u64) -> f64 {
    let bin = |place: f64| ((place * bins as f64) as u64).min(bins - 1);
    let kernel = kernel(bandwidth(top, bins), bins as usize);
    let smooth = |share: &[f64]| -> Vec<f64> {
        let sum = |to: usize| {
            (0..share.len())
                .map(|from| share[from] * kernel[from][to])
                .sum()
        };
        (0..share.len()).map(sum).collect()
    };
    pearson(
        &smooth(&histogram(top, bins, bin)),
        &smooth(&histogram(all, bins, bin)),
    )
}

/// The share of coordinates in each bin.
fn histogram(column: &[f64], bins: u64, bin: impl Fn(f64) -> u64) -> Vec<f64> {
    let mut counts = vec![0.0; bins as usize];
    let mut spread = 0.0;
    for &place in column {
        if place.is_nan() {
            spread += 1.0;
        } else if let Some(count) = counts.get_mut(bin(place) as usize) {
            *count += 1.0;
        }
    }
    let total = column.len().max(1) as f64;
    let each = spread / bins.max(1) as f64;
    counts.iter().map(|count| (count + each) / total).collect()
}

/// Scott's rule with Silverman's guard against long tails, 1.059 min(sigma, IQR / 1.34) n^(-1/5), and no
/// narrower than what puts nine tenths of a kernel into its own bin (1.64 standard deviations).
fn bandwidth(column: &[f64], bins: u64) -> f64 {
    let mut known: Vec<f64> = column.iter().copied().filter(|x| !x.is_nan()).collect();
    known.sort_by(f64::total_cmp);
    let narrowest = 0.5 / 1.64 / bins as f64;
    let quartile = |share: f64| {
        let at = share * known.len().saturating_sub(1) as f64;
        known.get(at as usize).copied().unwrap_or(0.0)
    };
    let (_, sigma) = super::fanova::moments(&known);
    let spread = sigma.min((quartile(0.75) - quartile(0.25)) / 1.34);
    let count = known.len().max(1) as f64;
    (1.059 * spread * libm::pow(count, -0.2)).max(narrowest)
}

/// For a trial in the middle of each bin, the mass of its normal kernel in every bin, cut to the axis.
fn kernel(bandwidth: f64, bins: usize) -> Vec<Vec<f64>> {
    let scale = 1.0 / (bandwidth * std::f64::consts::SQRT_2 * bins as f64);
    let row = |from: usize| {
        let below = |edge: usize| libm::erf((edge as f64 - from as f64 - 0.5) * scale);
        let whole = below(bins) - below(0);
        let mass = |to: usize| (below(to + 1) - below(to)) / whole;
        (0..bins).map(mass).collect()
    };
    (0..bins).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::forest::tests::{axes, lent, mixed, sample};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_divergence_of_a_choice_by_hand() {
        let axes = axes(json!({
            "c": {"type": "categorical", "vals": ["a", "b"]},
            "d": {"type": "categorical", "vals": ["a", "b"]},
        }));
        // Of 8 trials the best 2 have c = a, as 4 of all do; d is a and b once among the best, as in all.
        let points: Vec<[f64; 2]> = (0..8)
            .map(|i| {
                [
                    if i < 4 { 0.25 } else { 0.75 },
                    if i % 2 == 0 { 0.25 } else { 0.75 },
                ]
            })
            .collect();
        let trials: Vec<(&[f64], f64)> = (0..8).map(|i| (&points[i][..], i as f64)).collect();
        assert_eq!(ped_anova(&axes, &trials, 0.25), [1.0, 0.0]);
        // p = (2 * 1 + 2 * 0.5) / 4 = 3/4 and 1/4 against 1/2: (1/2)^2 / 2 + (1/2)^2 / 2.
        let column: Vec<f64> = points.iter().map(|point| point[0]).collect();
        let found = of_choices(&column[..2], &column, &axes.axes()[0], 2);
        assert!((found - 0.25).abs() < 1e-12, "{found}");
    }

    #[test]
    fn the_divergence_of_the_best_half_of_an_axis() {
        // p is 2 on the lower half: the integral of (p / q - 1)^2 q is 1, less what the kernel blurs:
        // sigma is 0.5 / sqrt(12), so about 0.04 wide around the edge.
        let all: Vec<f64> = (0..2_000).map(|i| (f64::from(i) + 0.5) / 2_000.0).collect();
        let found = of_numbers(&all[..1_000], &all, BINS);
        assert!((0.9..1.0).contains(&found), "{found}");
    }

    #[test]
    fn the_inactive_lie_evenly() {
        // Two in the first half, one in the second, and one that is a half in each.
        let shares = histogram(&[0.1, 0.2, 0.9, f64::NAN], 2, |place| (place * 2.0) as u64);
        assert_eq!(shares, [0.625, 0.375]);
    }

    #[test]
    fn what_decides_the_best_is_important() {
        let axes = mixed();
        let trials = sample(&axes, 500, |p| {
            (p[0] - 0.3) * (p[0] - 0.3) + 0.3 * f64::from(u8::from(p[3] > 0.5))
        });
        let shares = ped_anova(&axes, &lent(&trials), 0.1);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(shares[0] > 0.5 && shares[3] > 0.1, "{shares:?}");
        assert!(
            shares[1] < 0.1 && shares[2] < 0.1 && shares[4] < 0.1,
            "{shares:?}"
        );
        assert_eq!(shares[5], 0.0);
    }

    #[test]
    fn nothing_to_tell_is_zero() {
        let axes = mixed();
        let flat = sample(&axes, 100, |_| 0.1);
        let nan = sample(&axes, 100, |_| f64::NAN);
        for trials in [&flat[..], &nan[..], &flat[..1], &flat[..0]] {
            assert_eq!(ped_anova(&axes, &lent(trials), 0.1), [0.0; 6]);
        }
    }
}
