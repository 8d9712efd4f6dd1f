//! What the model sees of costs: shifted, scaled, their far upper tail drawn in, and perhaps on a logarithmic
//! scale above the best, which makes a function with a steep rim or a narrow valley look stationary.
//!
//! Which scale fits is told by the likelihood of the costs themselves: that of the warped ones times the
//! Jacobian of the warp (Snelson, Rasmussen and Ghahramani 2003, "Warped Gaussian processes").

/// The warps that are tried: ln(1 + u / s) for these s, u the cost above the best in units of the
/// median's. The first is none.
pub(super) const WARPS: [f64; 3] = [f64::INFINITY, 0.3, 0.03];

/// Costs so many times the median's distance above the best are drawn in from here on, to less than twice
/// as many: how bad the bad ones are does not matter.
const FAR: f64 = 6.0;

/// Costs as the model sees them.
#[derive(Debug, Clone)]
pub(super) struct Warped {
    /// Mean 0 and variance 1; all 0 where all costs are equal.
    pub(super) values: Vec<f64>,
    /// The logarithm of the Jacobian, up to what all warps have in common.
    pub(super) log_jacobian: f64,
    /// The warp's slope at the best: what a small difference of costs there is to the model.
    pub(super) slope: f64,
}

/// Warps costs. They are finite; differences need not be.
pub(super) fn warp(costs: &[f64], scale: f64) -> Warped {
    let (above, unit) = above_best(costs);
    let mut log_jacobian = 0.0;
    let mut values = Vec::with_capacity(above.len());
    for u in above {
        let (near, slope) = if u > FAR {
            let share = FAR / u;
            (FAR * (2.0 - share), (share * share).max(f64::MIN_POSITIVE))
        } else {
            (u, 1.0)
        };
        if scale.is_finite() {
            values.push(libm::log1p(near / scale));
            log_jacobian += libm::log(slope / (scale + near));
        } else {
            values.push(near);
            log_jacobian += libm::log(slope);
        }
    }
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let deviation = (squares / count).sqrt();
    if deviation > 0.0 {
        values.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
        log_jacobian -= count * libm::log(deviation);
    } else {
        values.iter_mut().for_each(|v| *v = 0.0);
    }
    let slope = if scale.is_finite() { 1.0 / scale } else { 1.0 };
    Warped {
        values,
        log_jacobian,
        slope: if deviation > 0.0 {
            slope / deviation / unit
        } else {
            0.0
        },
    }
}

/// Costs above the best, in units of the median's distance (of the worst's where that is none).
fn above_best(costs: &[f64]) -> (Vec<f64>, f64) {
    let mut sorted = costs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(best), Some(worst)) = (sorted.first(), sorted.last()) else {
        return (Vec::new(), 1.0);
    };
    let median = sorted[sorted.len() / 2];
    // Halves, since the difference of two finite numbers can be infinite.
    let unit = median / 2.0 - best / 2.0;
    let widest = worst / 2.0 - best / 2.0;
    let unit = if unit > 0.0 { unit } else { widest };
    let above = |cost: &f64| {
        let share = (cost / 2.0 - best / 2.0) / unit;
        if share.is_nan() { 0.0 } else { share }
    };
    (costs.iter().map(above).collect(), 2.0 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_standardized_in_their_order() {
        let costs = [3.0, -1.0, 2.0, 2.5, 1e3, 1e5, -0.5];
        for scale in WARPS {
            let values = warp(&costs, scale).values;
            let mean: f64 = values.iter().sum::<f64>() / 7.0;
            let variance: f64 = values.iter().map(|v| v * v).sum::<f64>() / 7.0;
            assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-12);
            for (i, a) in costs.iter().enumerate() {
                for (j, b) in costs.iter().enumerate() {
                    assert_eq!(a < b, values[i] < values[j], "{scale} {a} {b}");
                }
            }
        }
    }

    #[test]
    fn a_warp_by_hand() {
        // Best 0, median 1: u = 0, 1, 3; with s = 1 they become 0, ln 2, ln 4 = 2 ln 2, evenly apart:
        // mean ln 2, deviation ln 2 sqrt(2/3); Jacobian (1 * 1/2 * 1/4) / deviation^3.
        let warped = warp(&[0.0, 3.0, 1.0], 1.0);
        let expected = [-(1.5f64.sqrt()), 1.5f64.sqrt(), 0.0];
        for (found, expected) in warped.values.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let deviation = 2f64.ln() * (2f64 / 3.0).sqrt();
        let jacobian = 0.125f64.ln() - 3.0 * deviation.ln();
        assert!((warped.log_jacobian - jacobian).abs() < 1e-12);
    }

    #[test]
    fn equal_and_extreme_costs_are_numbers() {
        for costs in [
            vec![],
            vec![2.0; 4],
            vec![-f64::MAX, f64::MAX, 0.0],
            vec![0.0, f64::MIN_POSITIVE / 4.0],
            vec![1e300, 1e300, -1e300],
            vec![0.0, 1e-300, 1e300],
        ] {
            for scale in WARPS {
                let warped = warp(&costs, scale);
                assert!(warped.values.iter().all(|v| v.is_finite()), "{costs:?}");
                assert!(warped.log_jacobian.is_finite(), "{costs:?}");
            }
        }
        assert_eq!(warp(&[2.0; 4], 0.3).values, [0.0; 4]);
    }
}
