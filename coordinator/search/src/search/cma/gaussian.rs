//! The normal distribution of CMA-ES over the numeric axes, and its update from a ranked generation.
//!
//! Equations and defaults are those of Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772),
//! figure 6 and table 1, with negative weights. Samples that were drawn from an older distribution than the
//! one that is updated are taken in as Hansen, "Injecting External Solutions Into CMA-ES" (arXiv:1110.4181)
//! does. Only the order of costs enters.

use trainyard_common::rng::Key;

use super::eigen::Eigen;

/// Beyond so many axes only variances are learned (Ros and Hansen 2008, "A Simple Modification in CMA-ES
/// Achieving Linear Time and Space Complexity"): an eigendecomposition would take longer than a suggestion may.
const MAX_FULL: usize = 64;

/// Largest ratio of eigenvalues before a run counts as degenerate.
const MAX_CONDITION: f64 = 1e14;

/// Strategy parameters, functions of the number of axes and the size of a generation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rates {
    /// Recombination weights, the best's first; the positive ones sum to 1, the others are negative.
    pub(super) weights: Vec<f64>,
    pub(super) mu_eff: f64,
    pub(super) c_sigma: f64,
    pub(super) d_sigma: f64,
    pub(super) c_c: f64,
    pub(super) c_1: f64,
    pub(super) c_mu: f64,
}

impl Rates {
    /// Table 1 of the tutorial.
    pub(super) fn new(axes: usize, lambda: usize) -> Self {
        let n = axes.max(1) as f64;
        let half = libm::log((lambda as f64 + 1.0) / 2.0);
        let raw: Vec<f64> = (1..=lambda).map(|i| half - libm::log(i as f64)).collect();
        let sums = |sign: f64| {
            let side = raw.iter().map(|w| (w * sign).max(0.0));
            side.fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w))
        };
        let ((plus, plus_squares), (minus, minus_squares)) = (sums(1.0), sums(-1.0));
        let mu_eff = plus * plus / plus_squares;
        let mu_minus = minus * minus / minus_squares;
        let mut c_1 = 2.0 / ((n + 1.3) * (n + 1.3) + mu_eff);
        let mut c_mu =
            2.0 * (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / ((n + 2.0) * (n + 2.0) + mu_eff);
        if axes > MAX_FULL {
            // Ros and Hansen, section 3: fewer numbers are learned the faster.
            c_1 *= (n + 2.0) / 3.0;
            c_mu *= (n + 2.0) / 3.0;
        }
        c_1 = c_1.min(1.0);
        c_mu = c_mu.min(1.0 - c_1);
        let least = (1.0 + c_1 / c_mu)
            .min(1.0 + 2.0 * mu_minus / (mu_eff + 2.0))
            .min((1.0 - c_1 - c_mu) / (n * c_mu));
        let weight = |w: &f64| {
            if *w >= 0.0 {
                w / plus
            } else {
                w * least / minus
            }
        };
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        let excess = ((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0;
        Self {
            weights: raw.iter().map(weight).collect(),
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * excess.max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            c_1,
            c_mu,
        }
    }
}

/// The distribution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gaussian {
    pub(super) mean: Vec<f64>,
    pub(super) sigma: f64,
    /// Row-major.
    pub(super) covariance: Vec<f64>,
    /// Stretches an axis without being learned, so that a grid's neighbouring values stay within reach.
    pub(super) stretch: Vec<f64>,
    pub(super) rates: Rates,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    generation: u32,
    /// Of the covariance; roots of eigenvalues.
    basis: Vec<f64>,
    roots: Vec<f64>,
}

impl Gaussian {
    pub(super) fn new(mean: Vec<f64>, sigma: f64, lambda: usize) -> Self {
        let n = mean.len();
        let Eigen { values, vectors } = Eigen::identity(n);
        Self {
            rates: Rates::new(n, lambda),
            sigma,
            covariance: vectors.clone(),
            stretch: vec![1.0; n],
            path_sigma: vec![0.0; n],
            path_c: vec![0.0; n],
            generation: 0,
            basis: vectors,
            roots: values,
            mean,
        }
    }

    /// An independent sample.
    pub(super) fn draw(&self, key: Key) -> Vec<f64> {
        let z: Vec<f64> = (0..self.mean.len() as u64).map(|i| key.normal(i)).collect();
        self.at(&z)
    }

    /// The sample of a number, of a series with a key. Pairs are mirrored at the mean, and the directions of
    /// as many pairs as there are axes are orthogonal (Wang, Emmerich and Baeck 2019, "Mirrored Orthogonal
    /// Sampling for Covariance Matrix Adaptation Evolution Strategies"): few samples tell more. Both of a
    /// pair are ranked, which narrows the distribution earlier; that suits searches of few trials.
    pub(super) fn draw_paired(&self, key: Key, number: u64) -> Vec<f64> {
        let n = self.mean.len() as u64;
        let pair = number / 2;
        let mut z = match n {
            0 => return Vec::new(),
            n if n > MAX_FULL as u64 => direction(key.with(pair), n),
            n => orthogonal(key.with(pair / n), n, pair % n),
        };
        if number % 2 == 1 {
            for z in &mut z {
                *z = -*z;
            }
        }
        self.at(&z)
    }

    /// m + sigma A B D z.
    fn at(&self, z: &[f64]) -> Vec<f64> {
        let scaled: Vec<f64> = z.iter().zip(&self.roots).map(|(z, d)| z * d).collect();
        let y = self.turned(&scaled);
        let place = |i: usize| self.mean[i] + self.sigma * self.stretch[i] * y[i];
        (0..y.len()).map(place).collect()
    }

    /// The standard deviation along an axis.
    pub(super) fn deviation(&self, axis: usize) -> f64 {
        let n = self.mean.len();
        self.sigma * self.stretch[axis] * self.covariance[axis * n + axis].sqrt()
    }

    fn widest(&self) -> f64 {
        (0..self.mean.len()).fold(0.0, |most: f64, i| most.max(self.deviation(i)))
    }

    /// Whether it has degenerated: it cannot improve any more, or not be computed with.
    pub(super) fn is_spent(&self, smallest: f64) -> bool {
        let largest = self.roots.iter().fold(0.0, |most: f64, d| most.max(*d));
        let least = self
            .roots
            .iter()
            .fold(f64::INFINITY, |least, d| least.min(*d));
        let condition = (largest / least) * (largest / least);
        let widest = self.widest();
        let numbers = self.mean.iter().all(|m| m.is_finite()) && widest.is_finite();
        self.roots.is_empty()
            || !numbers
            || condition.is_nan()
            || condition > MAX_CONDITION
            || widest < smallest
    }

    /// Learns from a generation, the best first.
    pub(super) fn update(&mut self, ranked: &[&[f64]]) {
        let n = self.mean.len();
        if n == 0 {
            return;
        }
        let steps: Vec<Vec<f64>> = ranked.iter().map(|x| self.step(x)).collect();
        let mean_step = self.clamped_mean(&steps);
        for ((mean, stretch), step) in self.mean.iter_mut().zip(&self.stretch).zip(&mean_step) {
            *mean += self.sigma * stretch * step;
        }
        let r = &self.rates;
        let (c_sigma, c_c) = (r.c_sigma, r.c_c);
        let gain = (c_sigma * (2.0 - c_sigma) * r.mu_eff).sqrt();
        let white = self.whitened(&mean_step);
        for (path, step) in self.path_sigma.iter_mut().zip(&white) {
            *path = (1.0 - c_sigma) * *path + gain * step;
        }
        self.generation += 1;
        let expected = expected_length(n);
        let length = norm(&self.path_sigma);
        let settled = 1.0 - libm::pow(1.0 - c_sigma, 2.0 * f64::from(self.generation));
        let moving = length / settled.sqrt() < (1.4 + 2.0 / (n as f64 + 1.0)) * expected;
        let gain = if moving {
            (c_c * (2.0 - c_c) * r.mu_eff).sqrt()
        } else {
            0.0
        };
        for (path, step) in self.path_c.iter_mut().zip(&mean_step) {
            *path = (1.0 - c_c) * *path + gain * step;
        }
        self.learn_covariance(&steps, moving);
        // Hansen 2011, equation 8, bounds what one generation may do to the step size.
        let change = (c_sigma / self.rates.d_sigma * (length / expected - 1.0)).min(1.0);
        self.sigma *= libm::exp(change);
        // Nothing is learned from samples that all lie outside the cube.
        self.sigma /= self.widest().max(1.0);
        self.decompose();
    }

    /// A sample in units of the distribution; one drawn from an older one is pulled in where it lies
    /// farther out than any of this would (Hansen 2011, equation 3).
    fn step(&self, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let unit = |i: usize| (x[i] - self.mean[i]) / (self.sigma * self.stretch[i]);
        let y: Vec<f64> = (0..x.len()).map(unit).collect();
        let farthest = n.sqrt() + 2.0 * n / (n + 2.0);
        let shrink = (farthest / norm(&self.whitened(&y))).min(1.0);
        y.iter().map(|y| y * shrink).collect()
    }

    /// The weighted mean of the best samples' steps.
    fn clamped_mean(&self, steps: &[Vec<f64>]) -> Vec<f64> {
        let mut mean = vec![0.0; self.mean.len()];
        for (weight, step) in self
            .rates
            .weights
            .iter()
            .zip(steps)
            .filter(|(w, _)| **w > 0.0)
        {
            for (sum, y) in mean.iter_mut().zip(step) {
                *sum += weight * y;
            }
        }
        mean
    }

    /// Equation 47 of the tutorial.
    fn learn_covariance(&mut self, steps: &[Vec<f64>], moving: bool) {
        let n = self.mean.len();
        let Rates {
            weights,
            c_1,
            c_mu,
            c_c,
            ..
        } = &self.rates;
        let lost = if moving { 0.0 } else { c_c * (2.0 - c_c) };
        let sum = weights.iter().fold(0.0, |sum, w| sum + w);
        let keep = 1.0 + c_1 * lost - c_1 - c_mu * sum;
        let scaled = |(weight, y): (&f64, &Vec<f64>)| {
            let length = norm(&self.whitened(y));
            let squared = length * length;
            match *weight {
                weight if weight >= 0.0 => c_mu * weight,
                _ if squared <= 0.0 => 0.0,
                weight => c_mu * weight * n as f64 / squared,
            }
        };
        let weights: Vec<f64> = weights.iter().zip(steps).map(scaled).collect();
        for i in 0..n {
            for j in (0..=i).filter(|j| n <= MAX_FULL || *j == i) {
                let mut element = keep * self.covariance[i * n + j];
                element += c_1 * self.path_c[i] * self.path_c[j];
                for (weight, y) in weights.iter().zip(steps) {
                    element += weight * y[i] * y[j];
                }
                self.covariance[i * n + j] = element;
                self.covariance[j * n + i] = element;
            }
        }
    }

    fn decompose(&mut self) {
        let n = self.mean.len();
        if n > MAX_FULL {
            self.roots = (0..n)
                .map(|i| self.covariance[i * n + i].max(0.0).sqrt())
                .collect();
            return;
        }
        let Eigen { values, vectors } = Eigen::of(&self.covariance, n);
        self.basis = vectors;
        self.roots = values.iter().map(|value| value.max(0.0).sqrt()).collect();
    }

    /// B v.
    fn turned(&self, v: &[f64]) -> Vec<f64> {
        let n = v.len();
        if n > MAX_FULL {
            return v.to_vec();
        }
        self.basis
            .chunks_exact(n.max(1))
            .map(|row| dot(row, v))
            .collect()
    }

    /// C^(-1/2) v.
    fn whitened(&self, v: &[f64]) -> Vec<f64> {
        let n = v.len();
        if n > MAX_FULL {
            return v.iter().zip(&self.roots).map(|(v, d)| v / d).collect();
        }
        let along = |k: usize| {
            let part = (0..n).fold(0.0, |sum, i| sum + self.basis[i * n + k] * v[i]);
            part / self.roots[k]
        };
        self.turned(&(0..n).map(along).collect::<Vec<_>>())
    }
}

/// Independent standard normal numbers.
fn direction(key: Key, n: u64) -> Vec<f64> {
    (0..n).map(|i| key.normal(i)).collect()
}

/// One of n normal vectors that were made orthogonal (Gram and Schmidt, twice) and kept their lengths.
fn orthogonal(key: Key, n: u64, wanted: u64) -> Vec<f64> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut found = Vec::new();
    for row in 0..=wanted {
        let mut z = direction(key.with(row), n);
        let length = norm(&z);
        for _ in 0..2 {
            for unit in &basis {
                let along = dot(&z, unit);
                for (z, unit) in z.iter_mut().zip(unit) {
                    *z -= along * unit;
                }
            }
        }
        let rest = norm(&z);
        found = z.iter().map(|z| z / rest * length).collect();
        basis.push(z.iter().map(|z| z / rest).collect());
    }
    found
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

/// Of a standard normal vector, E|N(0, I)|.
pub(super) fn expected_length(axes: usize) -> f64 {
    let n = axes as f64;
    n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n))
}
