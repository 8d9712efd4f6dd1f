//! The normal distribution and the exponential, quick and the same on every machine.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E, PI};

/// Knots of the table of the lower tail in one standard deviation.
const KNOTS: f64 = 64.0;

/// Where the table ends: less than 2e-33 of the probability lies below.
const END: f64 = -12.0;

/// Adding and subtracting it rounds a small number to a whole one, whose lowest bits are its mantissa's.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Below this the exponential is taken for 0.
const NOTHING: f64 = -700.0;

/// LN_2 in two parts; a product of the first with a whole number below 2^11 is exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = LN_2 - LN_2_HIGH;

/// A table of the standard normal distribution, between whose knots cubics with its values and slopes go:
/// the error is at most h^4 / 384 max |f''''| (cubic Hermite interpolation), which is below 4e-8 of the value
/// down to -4 and below 5e-6 of it at the end.
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    /// From `END` to 0: value, and slope times the distance of knots.
    knots: Vec<[f64; 2]>,
}

impl Normal {
    pub(crate) fn new() -> Self {
        let last = (-END * KNOTS) as i32;
        let knot = |index: i32| {
            let z = END + f64::from(index) / KNOTS;
            let density = libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI);
            [0.5 * libm::erfc(-z * FRAC_1_SQRT_2), density / KNOTS]
        };
        Self {
            knots: (0..=last).map(knot).collect(),
        }
    }

    /// The probability below z, for z up to 0; 0 where the table has ended.
    fn tail(&self, z: f64) -> f64 {
        let place = (z - END) * KNOTS;
        if place.is_nan() || place < 0.0 {
            return 0.0;
        }
        let index = place as usize;
        let (Some([low, rise]), Some([high, fall])) =
            (self.knots.get(index), self.knots.get(index + 1))
        else {
            return 0.5;
        };
        let t = place - index as f64;
        let u = 1.0 - t;
        low * (u * u * (1.0 + 2.0 * t))
            + high * (t * t * (1.0 + 2.0 * u))
            + t * u * (rise * u - fall * t)
    }

    /// The probability between a and b, a at most b, of the standard normal distribution.
    pub(crate) fn between(&self, a: f64, b: f64) -> f64 {
        if a > 0.0 {
            self.tail(-a) - self.tail(-b)
        } else if b > 0.0 {
            1.0 - self.tail(a) - self.tail(-b)
        } else {
            self.tail(b) - self.tail(a)
        }
    }
}

/// The exponential of a number up to 0, to 1e-13 of its value: 2^k times a polynomial of the rest.
#[inline]
pub(crate) fn exp(x: f64) -> f64 {
    let x = if x > NOTHING { x } else { NOTHING };
    let shifted = x * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut sum = 1.0 / 39_916_800.0;
    for factor in [
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * rest + factor;
    }
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    sum * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_distribution() {
        let normal = Normal::new();
        let exact = |z: f64| 0.5 * libm::erfc(-z * FRAC_1_SQRT_2);
        for step in 0..100_000 {
            let z = -11.9 + f64::from(step) * 1.19e-4;
            let error = (normal.tail(z) - exact(z)).abs() / exact(z);
            assert!(error < 5e-6, "{z}: {error}");
            assert!(z < -4.0 || error < 4e-8, "{z}: {error}");
        }
        assert_eq!((normal.tail(-13.0), normal.tail(f64::NAN)), (0.0, 0.0));
        for (a, b, known) in [
            (-1.0, 1.0, 0.682_689_492_137_085_9),
            (-1.959_963_984_540_054, 1.959_963_984_540_054, 0.95),
            (1.0, 2.0, 0.135_905_121_983_277_87),
            (-2.0, -1.0, 0.135_905_121_983_277_87),
            (0.0, f64::INFINITY, 0.5),
        ] {
            assert!((normal.between(a, b) - known).abs() < 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn the_exponential_is_one() {
        for step in 0..100_000 {
            let x = -f64::from(step) * 6.9e-3;
            let error = (exp(x) / libm::exp(x) - 1.0).abs();
            assert!(error < 1e-12, "{x}: {error}");
        }
        assert!(exp(f64::NEG_INFINITY) < 1e-300 && exp(f64::NAN) < 1e-300);
        assert!((exp(0.0) - 1.0).abs() < f64::EPSILON);
    }
}
