//! The logarithm of the expected improvement (Ament et al. 2023, "Unexpected improvements to expected
//! improvement for Bayesian optimization"), exact far below the incumbent too.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Below this z the ratio of tail and density is a continued fraction.
const TAIL: f64 = -4.0;

/// Terms of the fraction: at z = -4 the first 60 give all digits.
const TERMS: u32 = 60;

/// ln h(z) with h(z) = phi(z) + z Phi(z), and its derivative Phi(z) / h(z).
fn log_h(z: f64) -> (f64, f64) {
    let log_density = -0.5 * z * z - 0.5 * libm::log(2.0 * PI);
    if z > TAIL {
        let below = 0.5 * libm::erfc(-z * FRAC_1_SQRT_2);
        let h = libm::exp(log_density) + z * below;
        return (libm::log(h), below / h);
    }
    // Mills' ratio Phi(-t) / phi(t) = 1 / (t + K), K = 1 / (t + 2 / (t + 3 / ...)) (Laplace), so that
    // h = phi (1 - t / (t + K)) = phi K / (t + K) and Phi / h = 1 / K: nothing cancels.
    let t = -z;
    let terms = if t > 20.0 { 12 } else { TERMS };
    let fraction = (1..=terms).rev();
    let k = fraction.fold(0.0, |inner, term| f64::from(term) / (t + inner));
    (log_density + libm::log(k / (t + k)), 1.0 / k)
}

/// ln E max(0, best - f) for f normal with this mean and standard deviation, and its derivatives by both.
pub(super) fn log_improvement(mean: f64, deviation: f64, best: f64) -> (f64, f64, f64) {
    let z = (best - mean) / deviation;
    let (log_h, slope) = log_h(z);
    (
        libm::log(deviation) + log_h,
        -slope / deviation,
        (1.0 - slope * z) / deviation,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms_near_and_far() {
        // h(0) = 1 / sqrt(2 pi).
        assert!((log_h(0.0).0 + 0.5 * (2.0 * PI).ln()).abs() < 1e-15);
        // h(1) = phi(1) + Phi(1) = 0.24197072451914337 + 0.8413447460685429.
        assert!((log_h(1.0).0 - 1.083_315_470_587_686_3_f64.ln()).abs() < 1e-14);
        // h(-1) = phi(1) - Phi(-1) = 0.24197072451914337 - 0.15865525393145707.
        assert!((log_h(-1.0).0 - 0.083_315_470_587_686_3_f64.ln()).abs() < 1e-13);
        // Far below, h(z) = phi(z) (1/z^2 - 3/z^4 + 15/z^6 - 105/z^8 + 945/z^10 ...).
        for z in [-30.0f64, -100.0, -1e4, -1e8] {
            let series = [1.0, -3.0, 15.0, -105.0, 945.0, -10_395.0];
            let w = z * z;
            let sum = series.iter().rev().fold(0.0, |sum, term| (sum + term) / w);
            let expected = -0.5 * w - 0.5 * (2.0 * PI).ln() + sum.ln();
            let found = log_h(z).0;
            assert!((found - expected).abs() < 1e-9 * expected.abs(), "{z}");
        }
    }

    #[test]
    fn both_forms_agree_where_they_meet() {
        let (above, below) = (log_h(TAIL + 1e-9), log_h(TAIL - 1e-9));
        assert!((above.0 - below.0).abs() < 1e-8, "{above:?} {below:?}");
        assert!((above.1 - below.1).abs() < 1e-8);
    }

    #[test]
    fn derivatives_are_the_differences_limits() {
        for mean in [-2.0, 0.3, 4.0, 20.0, 300.0] {
            for deviation in [0.1, 1.0, 3.0] {
                let at = |mean: f64, deviation: f64| log_improvement(mean, deviation, 0.5);
                let (value, by_mean, by_deviation) = at(mean, deviation);
                let step = 1e-6 * deviation;
                let means =
                    (at(mean + step, deviation).0 - at(mean - step, deviation).0) / step / 2.0;
                let deviations =
                    (at(mean, deviation + step).0 - at(mean, deviation - step).0) / step / 2.0;
                assert!(value.is_finite());
                assert!(
                    (means - by_mean).abs() < 1e-4 * (1.0 + by_mean.abs()),
                    "{mean}"
                );
                assert!((deviations - by_deviation).abs() < 1e-4 * (1.0 + by_deviation.abs()));
            }
        }
    }
}
