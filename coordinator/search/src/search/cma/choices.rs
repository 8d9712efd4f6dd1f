//! The distribution of CMA-ES over unordered axes: each has its own probabilities, all learned together by
//! an adaptive natural gradient.
//!
//! Akimoto et al. 2019, "Adaptive Stochastic Natural Gradient Method for One-Shot Neural Architecture Search"
//! (ASNG), as Hamano et al. 2024, "CatCMA" combine it with CMA-ES, with their margin.

use trainyard_common::rng::Key;

/// ASNG's threshold on the signal-to-noise ratio, section 3.3 there.
const ALPHA: f64 = 1.5;

/// The largest trust region.
const MAX_DELTA: f64 = 1e4;

/// Probability, in each sample, that no axis takes a value which its distribution has given up (CatCMA, section 4.3).
const UNTOUCHED: f64 = 0.73;

/// The value of an axis that is inactive: nothing is learned from it.
pub(super) const UNKNOWN: u64 = u64::MAX;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choices {
    /// Of each axis, of each value.
    pub(super) shares: Vec<Vec<f64>>,
    /// Radius of the trust region.
    delta: f64,
    /// Accumulated normalized gradient, in the layout of `shares` less each axis' last value, and its
    /// expected squared length under noise.
    path: Vec<Vec<f64>>,
    gamma: f64,
}

impl Choices {
    /// Even, for axes of so many values each.
    pub(super) fn new(cells: &[u64]) -> Self {
        let even = |cells: &u64| vec![1.0 / *cells as f64; *cells as usize];
        let zero = |cells: &u64| vec![0.0; (*cells as usize).saturating_sub(1)];
        Self {
            shares: cells.iter().map(even).collect(),
            delta: 1.0,
            path: cells.iter().map(zero).collect(),
            gamma: 0.0,
        }
    }

    pub(super) fn draw(&self, key: Key) -> Vec<u64> {
        let axes = self.shares.iter().zip(0..);
        axes.map(|(shares, axis)| pick(shares, key.unit(axis)))
            .collect()
    }

    /// Learns from a generation, the best first, with weights of which the positive count.
    pub(super) fn update(&mut self, ranked: &[&[u64]], weights: &[f64]) {
        let gradient = self.gradient(ranked, weights);
        let white: Vec<Vec<f64>> = self
            .shares
            .iter()
            .zip(&gradient)
            .map(|(q, g)| whitened(q, g))
            .collect();
        let squared: f64 = white.iter().flatten().fold(0.0, |sum, g| sum + g * g);
        let length = squared.sqrt();
        let free: usize = self.path.iter().map(Vec::len).sum();
        if length <= 0.0 || free == 0 {
            return;
        }
        for (shares, gradient) in self.shares.iter_mut().zip(&gradient) {
            for (share, slope) in shares.iter_mut().zip(gradient) {
                *share += self.delta / length * slope;
            }
        }
        self.adapt(&white, length, free);
        self.keep_margin();
    }

    /// The natural gradient in the parameters of expectation: sum of w (chosen - q).
    fn gradient(&self, ranked: &[&[u64]], weights: &[f64]) -> Vec<Vec<f64>> {
        let mut gradient: Vec<Vec<f64>> = self.shares.iter().map(|q| vec![0.0; q.len()]).collect();
        for (cells, weight) in ranked.iter().zip(weights).filter(|(_, w)| **w > 0.0) {
            for ((slopes, shares), cell) in gradient.iter_mut().zip(&self.shares).zip(*cells) {
                if *cell == UNKNOWN {
                    continue;
                }
                for ((slope, share), at) in slopes.iter_mut().zip(shares).zip(0..) {
                    let chosen = if at == *cell { 1.0 } else { 0.0 };
                    *slope += weight * (chosen - share);
                }
            }
        }
        gradient
    }

    /// The trust region grows while gradients agree.
    fn adapt(&mut self, white: &[Vec<f64>], length: f64, free: usize) {
        let beta = (self.delta / (free as f64).sqrt()).min(1.0);
        let gain = (beta * (2.0 - beta)).sqrt();
        let mut squared = 0.0;
        for (path, step) in self.path.iter_mut().flatten().zip(white.iter().flatten()) {
            *path = (1.0 - beta) * *path + gain * step / length;
            squared += *path * *path;
        }
        self.gamma = (1.0 - beta) * (1.0 - beta) * self.gamma + beta * (2.0 - beta);
        let grown = self.delta * libm::exp(beta * (squared / ALPHA - self.gamma));
        self.delta = grown.min(MAX_DELTA);
    }

    /// No value becomes impossible.
    fn keep_margin(&mut self) {
        let axes = self.shares.len() as f64;
        let all = 1.0 - libm::pow(UNTOUCHED, 1.0 / axes);
        for shares in &mut self.shares {
            let least = all / (shares.len() as f64 - 1.0).max(1.0);
            let least = least.min(1.0 / shares.len() as f64);
            for share in shares.iter_mut() {
                *share = share.max(least);
            }
            // What the raised ones took comes from the others, in proportion to what they can give.
            let total = shares.iter().fold(0.0, |sum, share| sum + share);
            let spare = shares.iter().fold(0.0, |sum, share| sum + (share - least));
            if spare > 0.0 {
                for share in shares.iter_mut() {
                    *share += (1.0 - total) / spare * (*share - least);
                }
            }
        }
    }
}

/// The value at a place in [0, 1).
fn pick(shares: &[f64], place: f64) -> u64 {
    let mut sum = 0.0;
    let passed = shares.iter().take_while(|share| {
        sum += **share;
        sum <= place
    });
    (passed.count() as u64).min(shares.len() as u64 - 1)
}

/// The gradient multiplied by the root of Fisher's information, of an axis without its last value:
/// F = diag(1/q) + 1 1'/q_last, so F^(1/2) g = g/sqrt(q) + sqrt(q) sum(g)/(q_last + sqrt(q_last)).
fn whitened(shares: &[f64], gradient: &[f64]) -> Vec<f64> {
    let Some((last, others)) = shares.split_last() else {
        return Vec::new();
    };
    let sum: f64 = gradient
        .iter()
        .take(others.len())
        .fold(0.0, |sum, g| sum + g);
    let common = sum / (last + last.sqrt());
    let pairs = others.iter().zip(gradient);
    pairs
        .map(|(q, g)| g / q.sqrt() + q.sqrt() * common)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_radius_of_the_trust_region() {
        let mut choices = Choices::new(&[2, 3, 4]);
        let before = choices.shares.clone();
        choices.update(&[&[0, 2, 1], &[1, 2, 3]], &[0.7, 0.3, -1.0]);
        // Fisher's information of an axis is sum (change)^2 / q.
        let axes = before.iter().zip(&choices.shares);
        let squared: f64 = axes
            .flat_map(|(q, new)| q.iter().zip(new))
            .map(|(q, new)| (new - q) * (new - q) / q)
            .sum();
        assert!((squared - 1.0).abs() < 1e-12, "{squared}");
        assert!(choices.shares[1][2] > 0.6 && choices.shares[0][0] > 0.5);
    }

    #[test]
    fn no_value_becomes_impossible() {
        let mut choices = Choices::new(&[2, 5, 1]);
        for _ in 0..200 {
            choices.update(&[&[1, 4, 0], &[1, 4, UNKNOWN]], &[0.6, 0.4]);
        }
        for shares in &choices.shares {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        // (1 - 0.73^(1/3)) / (K - 1).
        let least = 1.0 - libm::pow(0.73, 1.0 / 3.0);
        assert!((choices.shares[0][0] - least).abs() < 1e-12);
        assert!((choices.shares[1][3] - least / 4.0).abs() < 1e-12);
        assert!(choices.shares[0][1] > 0.89);
    }

    #[test]
    fn picks_by_shares() {
        let shares = [0.2, 0.5, 0.3];
        let picked: Vec<u64> = [0.0, 0.19, 0.2, 0.69, 0.71, 1.0]
            .iter()
            .map(|at| pick(&shares, *at))
            .collect();
        assert_eq!(picked, [0, 0, 1, 1, 2, 2]);
    }
}
