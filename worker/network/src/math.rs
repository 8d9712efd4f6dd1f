//! exp, sigmoid and tanh of many values at once.
//!
//! Each value is computed in f64 by a polynomial of a fixed order, without fused multiply-adds, and rounded to f32 once:
//! the compiler makes vectors of it, and the bits are the same on every processor, with and without them. The result is
//! within 1 ulp of the exact one. Call these within [`crate::simd::vectorized`].

/// Values handled together.
const LANES: usize = 8;
/// 1.5 * 2^52: a sum with it has its whole part in the lowest bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// Beyond these e^x is no normal f64.
const LARGEST: f64 = 708.0;
/// Below this tanh(x) = x to 1e-8 of it, and 1 - 2 / (e^2x + 1) begins to lose digits.
const SMALL: f64 = 1e-4;

/// e^x = 2^k e^r, |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 8, whose error is below 3e-10 of it.
#[inline(always)]
fn exp_wide(x: f64) -> f64 {
    // Comparisons that keep NaN.
    let x = if x > LARGEST { LARGEST } else { x };
    let x = if x < -LARGEST { -LARGEST } else { x };
    let shifted = x * std::f64::consts::LOG2_E + MAGIC;
    let r = x - (shifted - MAGIC) * std::f64::consts::LN_2;
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0));
    let middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let e = low + r4 * (middle + r4 * (1.0 / 40320.0));
    // k into the exponent of 1.
    let power = (shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits());
    e * f64::from_bits(power)
}

#[inline(always)]
fn sigmoid_wide(x: f64) -> f64 {
    1.0 / (1.0 + exp_wide(-x))
}

#[inline(always)]
fn tanh_wide(x: f64) -> f64 {
    let far = 1.0 - 2.0 / (exp_wide(2.0 * x) + 1.0);
    if x.abs() < SMALL { x } else { far }
}

#[inline(always)]
fn lanes(values: &mut [f32; LANES], f: impl Fn(f64) -> f64) {
    let mut wide = [0.0f64; LANES];
    for (wide, &value) in wide.iter_mut().zip(values.iter()) {
        *wide = f(f64::from(value));
    }
    for (value, &wide) in values.iter_mut().zip(&wide) {
        *value = wide as f32;
    }
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f64) -> f64) {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    for values in whole {
        lanes(values, &f);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        lanes(&mut padded, &f);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// Each value becomes e^value.
#[inline(always)]
pub(crate) fn exp(values: &mut [f32]) {
    each(values, exp_wide);
}

/// Each value becomes 1 / (1 + e^-value).
#[inline(always)]
pub(crate) fn sigmoid(values: &mut [f32]) {
    each(values, sigmoid_wide);
}

/// Each value becomes its hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(values: &mut [f32]) {
    each(values, tanh_wide);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vectorized;

    /// Values over all exponents, both signs, and many where the functions bend.
    fn arguments() -> Vec<f32> {
        let bits = (0..=u32::MAX).step_by(16_411);
        let all = bits.map(f32::from_bits).filter(|x| x.is_finite());
        let bends = (0..400_000).map(|i| (i as f32 - 200_000.0) * 0.000_13);
        all.chain(bends).collect()
    }

    /// Distance in units of the last place of the reference.
    fn ulps(given: f32, exact: f64) -> f64 {
        let near = exact as f32;
        if !near.is_finite() {
            return if given == near { 0.0 } else { f64::INFINITY };
        }
        let ulp = f64::from(f32::from_bits((near.abs().to_bits()).max(0x0080_0000) + 1))
            - f64::from(f32::from_bits((near.abs().to_bits()).max(0x0080_0000)));
        (f64::from(given) - exact).abs() / ulp
    }

    #[test]
    fn values_are_within_one_ulp_of_libms() {
        type Pair = (fn(&mut [f32]), fn(f64) -> f64, &'static str);
        let functions: [Pair; 3] = [
            (exp, libm::exp, "exp"),
            (tanh, libm::tanh, "tanh"),
            (sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)), "sigmoid"),
        ];
        let arguments = arguments();
        for (ours, theirs, name) in functions {
            let mut values = arguments.clone();
            ours(&mut values);
            let mut worst = (0.0, 0.0);
            for (&x, &value) in arguments.iter().zip(&values) {
                let distance = ulps(value, theirs(f64::from(x)));
                if distance > worst.0 {
                    worst = (distance, x);
                }
            }
            assert!(worst.0 <= 1.0, "{name}: {} ulp at {}", worst.0, worst.1);
        }
    }

    fn is_the_same_in_vectors(function: impl Fn(&mut [f32]) + Copy) {
        let mut plain = arguments();
        let (mut wide, mut one_by_one) = (plain.clone(), plain.clone());
        function(&mut plain);
        vectorized(
            #[inline(always)]
            || function(&mut wide),
        );
        one_by_one
            .iter_mut()
            .for_each(|value| function(std::slice::from_mut(value)));
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&plain) == bits(&wide) && bits(&plain) == bits(&one_by_one));
        let mut nan = [1.0, f32::NAN, -2.0];
        function(&mut nan);
        assert!(nan[1].is_nan() && nan[0].is_finite() && nan[2].is_finite());
    }

    #[test]
    fn vectors_change_no_bit_and_nan_stays() {
        is_the_same_in_vectors(exp);
        is_the_same_in_vectors(tanh);
        is_the_same_in_vectors(sigmoid);
        let mut ends = [f32::INFINITY, f32::NEG_INFINITY];
        tanh(&mut ends);
        assert_eq!(ends, [1.0, -1.0]);
        let mut ends = [f32::INFINITY, f32::NEG_INFINITY];
        sigmoid(&mut ends);
        assert_eq!(ends, [1.0, 0.0]);
    }
}
