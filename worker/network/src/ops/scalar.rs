//! Functions of a value alone, with their derivatives.

use trainyard_common::network::Scalar;

/// lambda and alpha of Klambauer et al. 2017, with which values of mean 0 and variance 1 keep them.
const SELU_SCALE: f32 = 1.050_701;
const SELU_ALPHA: f32 = 1.673_263_2;

/// 1 / (1 + e^-x), without overflow at any x.
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = libm::expf(-x.abs());
    let small = e / (1.0 + e);
    if x < 0.0 { small } else { 1.0 / (1.0 + e) }
}

/// In place. Not-a-number stays.
pub(super) fn forward(function: Scalar, values: &mut [f32]) {
    match function {
        Scalar::Softplus => each(values, softplus),
        Scalar::Softsign => each(values, |x| x / (1.0 + x.abs())),
        Scalar::Selu => each(values, |x| {
            SELU_SCALE
                * if x > 0.0 {
                    x
                } else {
                    SELU_ALPHA * libm::expm1f(x)
                }
        }),
        Scalar::Mish => each(values, |x| x * libm::tanhf(softplus(x))),
        Scalar::Exponential => each(values, libm::expf),
        Scalar::HardSigmoid => each(values, |x| (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Scalar::Step => each(values, |x| match x {
            x if x >= 0.0 => 1.0,
            x if x < 0.0 => 0.0,
            nan => nan,
        }),
        Scalar::Threshold { theta, value } => each(values, |x| match x <= theta {
            true => value,
            false => x,
        }),
    }
}

/// Multiplies the gradient by the derivative at what came in.
pub(super) fn backward(function: Scalar, gradient: &mut [f32], input: &[f32]) {
    match function {
        Scalar::Softplus => scale(gradient, input, sigmoid),
        Scalar::Softsign => scale(gradient, input, |x| {
            let d = 1.0 + x.abs();
            1.0 / (d * d)
        }),
        Scalar::Selu => scale(gradient, input, |x| {
            SELU_SCALE
                * if x > 0.0 {
                    1.0
                } else {
                    SELU_ALPHA * libm::expf(x)
                }
        }),
        Scalar::Mish => scale(gradient, input, |x| {
            let t = libm::tanhf(softplus(x));
            t + x * (1.0 - t * t) * sigmoid(x)
        }),
        Scalar::Exponential => scale(gradient, input, libm::expf),
        Scalar::HardSigmoid => scale(gradient, input, |x| match x > -3.0 && x < 3.0 {
            true => 1.0 / 6.0,
            false => 0.0,
        }),
        Scalar::Step => gradient.fill(0.0),
        Scalar::Threshold { theta, .. } => {
            scale(gradient, input, |x| f32::from(u8::from(x > theta)));
        }
    }
}

/// log(1 + e^x), without overflow at any x.
fn softplus(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + libm::log1pf(libm::expf(-x.abs()))
}

fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    values
        .iter_mut()
        .for_each(|value| *value = function(*value));
}

fn scale(gradient: &mut [f32], input: &[f32], derivative: impl Fn(f32) -> f32) {
    for (gradient, &x) in gradient.iter_mut().zip(input) {
        *gradient *= derivative(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scalar; 8] = [
        Scalar::Softplus,
        Scalar::Softsign,
        Scalar::Selu,
        Scalar::Mish,
        Scalar::Exponential,
        Scalar::HardSigmoid,
        Scalar::Step,
        Scalar::Threshold {
            theta: 0.5,
            value: -1.0,
        },
    ];

    #[test]
    fn nan_survives_and_extremes_stay_finite() {
        for function in ALL {
            let mut values = [f32::NAN, 1e4, -1e4, 0.0];
            forward(function, &mut values);
            assert!(values[0].is_nan(), "{function:?}");
            let grows = matches!(function, Scalar::Exponential);
            assert!(values[1].is_finite() != grows, "{function:?} {values:?}");
            assert!(
                values[2..].iter().all(|v| v.is_finite()),
                "{function:?} {values:?}"
            );
            let mut gradient = [1.0; 2];
            backward(function, &mut gradient, &[-1e4, 0.0]);
            assert!(gradient.iter().all(|v| v.is_finite()), "{function:?}");
        }
    }

    #[test]
    fn a_step_is_one_from_zero_on() {
        let mut values = [-0.1, 0.0, 0.1];
        forward(Scalar::Step, &mut values);
        assert_eq!(values, [0.0, 1.0, 1.0]);
    }
}
