//! The functions of gates, over vectors of values.

use trainyard_common::network::Gate;

use crate::math;
use crate::ops::activation::relu;

#[inline(always)]
pub(super) fn apply(gate: Gate, values: &mut [f32]) {
    match gate {
        Gate::Linear => {}
        Gate::Relu => relu(values),
        Gate::Sigmoid => math::sigmoid(values),
        Gate::Tanh => math::tanh(values),
    }
}

/// The derivative of a function, by what it put out.
pub(super) trait Slope: Copy {
    fn at(self, output: f32) -> f32;
}

#[derive(Clone, Copy)]
pub(super) struct SigmoidSlope;
#[derive(Clone, Copy)]
pub(super) struct TanhSlope;

impl Slope for SigmoidSlope {
    #[inline(always)]
    fn at(self, output: f32) -> f32 {
        output * (1.0 - output)
    }
}

impl Slope for TanhSlope {
    #[inline(always)]
    fn at(self, output: f32) -> f32 {
        1.0 - output * output
    }
}

/// Any function, looked up for each value: not as fast.
impl Slope for Gate {
    #[inline(always)]
    fn at(self, output: f32) -> f32 {
        match self {
            Self::Linear => 1.0,
            Self::Relu => f32::from(u8::from(output > 0.0)),
            Self::Sigmoid => SigmoidSlope.at(output),
            Self::Tanh => TanhSlope.at(output),
        }
    }
}
