//! SHA: synchronous successive halving (Jamieson and Talwalkar 2016; Li et al. 2020, Algorithm 1): the same
//! bracket again and again. Of n trials that begin at rung 0, floor(n / eta^i) train at rung i until epoch
//! min_resource * eta^i, and the last ones until max_resource.

use trainyard_common::spec::SchedulerSpec;
use trainyard_common::spec::search::Mode;

use super::halving::{Halving, Shape, Step};
use super::rungs::ladder;

pub(super) fn of(spec: &SchedulerSpec, max: u64, mode: Mode) -> Halving {
    let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
    let eta = spec.eta.unwrap_or(SchedulerSpec::ETA).max(2);
    Halving::new(vec![shape(min, max, eta, spec.bracket_trials)], eta, mode)
}

/// Unless told how many trials begin, as many as leave one for the last rung.
pub(super) fn shape(min: u64, max: u64, eta: u32, trials: Option<u32>) -> Shape {
    let rungs = ladder(min, max, eta);
    let steps = u32::try_from(rungs.len() - 1).unwrap_or(u32::MAX);
    let trials = trials.unwrap_or_else(|| eta.saturating_pow(steps));
    let smaller = |left: &mut u32, resource| {
        let trials = *left;
        *left /= eta;
        (trials > 0).then_some(Step { trials, resource })
    };
    rungs.into_iter().scan(trials, smaller).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_shrink_by_eta() {
        let told = |min, max, eta, trials| -> Vec<(u32, u64)> {
            let shape = shape(min, max, eta, trials);
            shape
                .iter()
                .map(|step| (step.trials, step.resource))
                .collect()
        };
        assert_eq!(
            told(1, 81, 3, None),
            [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
        );
        // floor(floor(50 / 3) / 3) is floor(50 / 9).
        assert_eq!(
            told(2, 20, 3, Some(50)),
            [(50, 2), (16, 6), (5, 18), (1, 20)]
        );
        assert_eq!(
            told(1, 9, 3, Some(4)),
            [(4, 1), (1, 3)],
            "nobody is left for more"
        );
        assert_eq!(told(5, 5, 4, None), [(1, 5)]);
    }
}
