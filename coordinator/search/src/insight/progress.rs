//! How good the results have become: the best so far after each trial, for one objective and for several.

use trainyard_common::spec::search::Mode;

use super::hypervolume::{exclusive, is_below};

/// The best of the trials until one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Its position among the trials that were given.
    pub trial: usize,
    pub value: f64,
}

/// After each trial, in the order given, the best so far; of equal ones the first. `None` until one has a
/// finite value.
pub fn best_so_far(values: &[Option<f64>], mode: Mode) -> Vec<Option<Best>> {
    let better = |value: f64, best: Best| match mode {
        Mode::Minimize => value < best.value,
        Mode::Maximize => value > best.value,
    };
    let mut best: Option<Best> = None;
    let after = |(trial, value): (usize, &Option<f64>)| {
        if let Some(value) = value.filter(|value| value.is_finite())
            && best.is_none_or(|best| better(value, best))
        {
            best = Some(Best { trial, value });
        }
        best
    };
    values.iter().enumerate().map(after).collect()
}

/// After each trial, in the order given, the hypervolume of all so far. It never falls.
pub fn hypervolume_so_far(costs: &[Option<Vec<f64>>], reference: &[f64]) -> Vec<f64> {
    let mut front: Vec<Vec<f64>> = Vec::new();
    let mut volume = 0.0;
    let after = |costs: &Option<Vec<f64>>| {
        if let Some(costs) = costs
            && is_below(costs, reference)
            && !front.iter().any(|known| is_no_worse(known, costs))
        {
            volume += exclusive(costs, &front, reference);
            front.retain(|known| !is_no_worse(costs, known));
            front.push(costs.clone());
        }
        volume
    };
    costs.iter().map(after).collect()
}

fn is_no_worse(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

#[cfg(test)]
mod tests {
    use super::super::hypervolume::hypervolume;
    use super::*;
    use trainyard_common::rng::Key;

    #[test]
    fn the_best_so_far_by_hand() {
        let values = [
            None,
            Some(f64::NAN),
            Some(2.0),
            Some(3.0),
            Some(2.0),
            Some(1.0),
        ];
        let positions = |mode| -> Vec<Option<usize>> {
            let best = best_so_far(&values, mode).into_iter();
            best.map(|best| best.map(|best| best.trial)).collect()
        };
        let (none, some) = (None, Some);
        assert_eq!(
            positions(Mode::Minimize),
            [none, none, some(2), some(2), some(2), some(5)]
        );
        assert_eq!(
            positions(Mode::Maximize),
            [none, none, some(2), some(3), some(3), some(3)]
        );
    }

    #[test]
    fn the_volume_so_far_is_that_of_all_so_far() {
        for objectives in 2..=4usize {
            let key = Key::new(3).with(objectives as u64);
            let costs: Vec<Option<Vec<f64>>> = (0..40)
                .map(|at| {
                    let key = key.with(at);
                    let vector = (0..objectives as u64).map(|j| key.unit(j)).collect();
                    (at % 7 != 3).then_some(vector)
                })
                .collect();
            let reference = vec![0.95; objectives];
            let history = hypervolume_so_far(&costs, &reference);
            for (at, found) in history.iter().enumerate() {
                let known: Vec<&Vec<f64>> = costs[..=at].iter().flatten().collect();
                let expected = hypervolume(&known, &reference);
                assert!((found - expected).abs() < 1e-12, "{objectives} {at}");
            }
            assert!(history.windows(2).all(|two| two[0] <= two[1]));
        }
    }
}
