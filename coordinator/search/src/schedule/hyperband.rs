//! Hyperband (Li et al. 2018, JMLR 18): brackets s = s_max, ..., 0 of successive halving, one after the
//! other and then again, each with about the same budget.
//!
//! With s_max = floor(log_eta(max_resource / min_resource)), bracket s begins with n trials at
//! max_resource * eta^-s epochs (rounded down to whole epochs), and at its rung i are floor(n * eta^-i).
//! Table 1 of the paper has n = floor((s_max + 1) / (s + 1)) * eta^s; its Algorithm 1, and code that was
//! published later, n = ceil((s_max + 1) / (s + 1) * eta^s).

use trainyard_common::spec::SchedulerSpec;
use trainyard_common::spec::search::{BracketRounding, Mode};

use super::halving::{Halving, Shape, Step};

pub(super) fn of(spec: &SchedulerSpec, max: u64, mode: Mode) -> Halving {
    let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
    let eta = spec.eta.unwrap_or(SchedulerSpec::ETA);
    let rounding = spec.bracket_rounding.unwrap_or_default();
    Halving::new(shapes(min, max, eta, rounding), eta, mode)
}

/// Of brackets s_max, ..., 0.
pub(super) fn shapes(min: u64, max: u64, eta: u32, rounding: BracketRounding) -> Vec<Shape> {
    let (eta, max) = (u64::from(eta.max(2)), max.max(1));
    let fits = |s: &u32| max / eta.saturating_pow(*s) >= min.max(1);
    let last = (0..64).take_while(fits).last().unwrap_or(0);
    (0..=last)
        .rev()
        .map(|s| {
            let (all, rungs) = (u64::from(last) + 1, u64::from(s) + 1);
            let power = eta.saturating_pow(s);
            let n = match rounding {
                BracketRounding::Floor => (all / rungs).saturating_mul(power),
                BracketRounding::Ceil => all.saturating_mul(power).div_ceil(rungs),
            };
            (0..=s)
                .map(|i| Step {
                    trials: u32::try_from(n / eta.saturating_pow(i)).unwrap_or(u32::MAX),
                    resource: max / eta.saturating_pow(s - i),
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(shapes: Vec<Shape>) -> Vec<Vec<(u32, u64)>> {
        let pairs = |shape: Shape| {
            let steps = shape.iter();
            steps.map(|step| (step.trials, step.resource)).collect()
        };
        shapes.into_iter().map(pairs).collect()
    }

    /// Li et al. 2018, Table 1: n_i and r_i for R = 81 and eta = 3.
    #[test]
    fn the_brackets_are_those_of_the_paper_s_table() {
        assert_eq!(
            told(shapes(1, 81, 3, BracketRounding::Floor)),
            [
                vec![(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
                vec![(27, 3), (9, 9), (3, 27), (1, 81)],
                vec![(9, 9), (3, 27), (1, 81)],
                vec![(6, 27), (2, 81)],
                vec![(5, 81)],
            ]
        );
    }

    /// The same with n = ceil(5 / (s + 1) * 3^s).
    #[test]
    fn the_brackets_are_those_of_the_paper_s_algorithm() {
        assert_eq!(
            told(shapes(1, 81, 3, BracketRounding::Ceil)),
            [
                vec![(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
                vec![(34, 3), (11, 9), (3, 27), (1, 81)],
                vec![(15, 9), (5, 27), (1, 81)],
                vec![(8, 27), (2, 81)],
                vec![(5, 81)],
            ]
        );
    }

    #[test]
    fn resources_are_whole_and_not_below_the_least() {
        assert_eq!(
            told(shapes(4, 100, 3, BracketRounding::Floor)),
            [
                vec![(9, 11), (3, 33), (1, 100)],
                vec![(3, 33), (1, 100)],
                vec![(3, 100)],
            ]
        );
        assert_eq!(told(shapes(1, 1, 3, BracketRounding::Ceil)), [[(1, 1)]]);
        for (min, max, eta) in [(1, 1_000_000_000, 2), (7, 12_345, 5), (3, 2, 9)] {
            for shape in shapes(min, max, eta, BracketRounding::Ceil) {
                let resources: Vec<u64> = shape.iter().map(|step| step.resource).collect();
                assert!(resources.is_sorted_by(|a, b| a < b), "{resources:?}");
                assert_eq!(resources.last(), Some(&max));
                assert!(resources[0] >= min.min(max));
            }
        }
    }
}
