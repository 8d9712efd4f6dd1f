//! How large the generations of runs are, and how wide they begin.

use trainyard_common::rng::Key;

/// Times that the generation is doubled at most.
const MAX_DOUBLINGS: u32 = 5;

/// Sizes of generations of runs (Hansen 2009, "Benchmarking a BI-population CMA-ES on the BBOB-2009 Function
/// Testbed"): doubled ones, and small ones for as many evaluations.
#[derive(Debug, Clone, Default)]
pub(super) struct Restarts {
    pub(super) runs: u64,
    doublings: u32,
    is_small: bool,
    /// Samples that were learned from in runs of either kind.
    spent_large: u64,
    spent_small: u64,
}

impl Restarts {
    pub(super) fn spent(&mut self, samples: usize) {
        let spent = if self.is_small {
            &mut self.spent_small
        } else {
            &mut self.spent_large
        };
        *spent += samples as u64;
    }

    /// The next run's size of a generation and step size.
    pub(super) fn next(&mut self, first: usize, sigma: f64, key: Key) -> (usize, f64) {
        self.runs += 1;
        self.is_small = self.spent_small < self.spent_large && self.doublings > 0;
        if !self.is_small {
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
            return (first << self.doublings, sigma);
        }
        let key = key.with(self.runs);
        let (size, width) = (key.unit(0), key.unit(1));
        let ratio = f64::from(1 << self.doublings) / 2.0;
        let lambda = first as f64 * libm::pow(ratio, size * size);
        (lambda as usize, sigma * libm::pow(10.0, -2.0 * width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_runs_follow_until_they_have_cost_as_much() {
        let mut restarts = Restarts::default();
        let (mut sizes, mut sigmas) = (Vec::new(), Vec::new());
        restarts.spent(100);
        for _ in 0..40 {
            let (size, sigma) = restarts.next(6, 0.2, Key::new(1));
            restarts.spent(10 * size);
            sizes.push(size);
            sigmas.push(sigma);
        }
        assert_eq!(sizes[0], 12);
        let doubled: Vec<usize> = sizes
            .iter()
            .copied()
            .filter(|size| size % 12 == 0)
            .collect();
        assert!(doubled.starts_with(&[12, 24, 48]), "{sizes:?}");
        assert!(
            sizes.iter().all(|size| (6..=192).contains(size)),
            "{sizes:?}"
        );
        assert!(restarts.spent_small.abs_diff(restarts.spent_large) <= 1920);
        assert!(sigmas.iter().all(|sigma| (0.002..=0.2).contains(sigma)));
    }
}
