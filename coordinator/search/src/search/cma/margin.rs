//! The margin of ordered axes: their neighbouring values keep a probability, however narrow the distribution.
//!
//! Hamano et al. 2022, "CMA-ES with Margin: Lower-Bounding Marginal Probability for Mixed-Integer Black-Box
//! Optimization" (arXiv:2205.13482), section 4.

use super::super::axes::Axis;
use super::gaussian::Gaussian;

/// Halvings that find where a cell ends, and a normal quantile, to the last digits.
const HALVINGS: u32 = 60;

/// Corrects the mean and stretch of an ordered axis after an update; `alpha` is the probability that is
/// kept outside the mean's cell.
pub(super) fn keep(gaussian: &mut Gaussian, at: usize, axis: &Axis, alpha: f64) {
    let deviation = gaussian.deviation(at);
    let mean = gaussian.mean[at].clamp(0.0, 1.0);
    if !(deviation > 0.0 && deviation.is_finite()) {
        return;
    }
    match (edge(axis, mean, 0.0), edge(axis, mean, 1.0)) {
        (Some(low), Some(high)) => {
            if let Some((mean, wanted)) = between((low, high), mean, deviation, alpha) {
                gaussian.mean[at] = mean;
                gaussian.stretch[at] *= wanted / deviation;
            }
        }
        // At an end there is one neighbour, and the mean moves towards it (equation 15).
        (Some(low), None) => {
            gaussian.mean[at] = low + (mean - low).min(quantile(alpha) * deviation)
        }
        (None, Some(high)) => {
            gaussian.mean[at] = high - (high - mean).min(quantile(alpha) * deviation)
        }
        (None, None) => {}
    }
}

/// Where the cell of a place ends in the direction of an end of the axis; `None` where it is the last.
fn edge(axis: &Axis, place: f64, end: f64) -> Option<f64> {
    let cell = axis.snap(place);
    if axis.snap(end) == cell {
        return None;
    }
    let (mut inside, mut outside) = (place, end);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (inside + outside);
        if axis.snap(middle) == cell {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(outside)
}

/// The mean and deviation that leave both sides of a cell at least half of `alpha` (equations 16 to 23);
/// `None` where they have it.
fn between((low, high): (f64, f64), mean: f64, deviation: f64, alpha: f64) -> Option<(f64, f64)> {
    let least = alpha / 2.0;
    let below = upper_tail((mean - low) / deviation);
    let above = upper_tail((high - mean) / deviation);
    if below >= least && above >= least {
        return None;
    }
    let inside = 1.0 - below - above;
    let (raised_below, raised_above) = (below.max(least), above.max(least));
    let excess = 1.0 - raised_below - raised_above - inside;
    let spare = raised_below + raised_above + inside - 3.0 * least;
    let taken = |raised: f64| raised + excess / spare * (raised - least);
    let (z_below, z_above) = (quantile(taken(raised_below)), quantile(taken(raised_above)));
    let width = z_below + z_above;
    if width <= 0.0 || width.is_nan() {
        return None;
    }
    Some((
        (low * z_above + high * z_below) / width,
        (high - low) / width,
    ))
}

/// P(Z > z) of a standard normal number.
fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// The z with P(Z > z) = p.
fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if upper_tail(middle) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_the_normal_distributions() {
        // Abramowitz and Stegun, table 26.5: z of P(Z > z).
        for (p, z) in [
            (0.5, 0.0),
            (0.05, 1.644_853_626_951),
            (0.025, 1.959_963_984_540),
        ] {
            assert!((quantile(p) - z).abs() < 1e-11, "{p}");
        }
    }

    #[test]
    fn both_neighbours_keep_their_half() {
        let alpha = 0.02;
        for mean in [0.41, 0.5, 0.55, 0.6] {
            let (mean, deviation) = between((0.4, 0.6), mean, 0.01, alpha).unwrap_or((mean, 0.01));
            let below = upper_tail((mean - 0.4) / deviation);
            let above = upper_tail((0.6 - mean) / deviation);
            assert!(
                below > 0.499 * alpha && above > 0.499 * alpha,
                "{below} {above}"
            );
        }
        // Wide enough already.
        assert_eq!(between((0.4, 0.6), 0.5, 0.3, alpha), None);
    }
}
