//! Functions of a value alone whose derivative is had from what came in.

/// A function with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// log(1 + e^x).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// scale x above 0, scale alpha (e^x - 1) below, with the constants of Klambauer et al. 2017.
    Selu,
    /// x tanh(log(1 + e^x)); Misra 2019.
    Mish,
    /// e^x.
    Exponential,
    /// x / 6 + 1 / 2, between 0 and 1.
    HardSigmoid,
    /// 1 from 0 on, 0 below. Its derivative is taken as 0.
    Step,
    /// x above `theta`, `value` elsewhere.
    Threshold { theta: f32, value: f32 },
}

/// Where the values of a channel lie in a sample: `outer` times each of `channels` runs of `inner` values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    pub channels: usize,
    pub inner: usize,
}

impl Channels {
    /// Channels come first in images and volumes, features last in sequences.
    pub fn of(shape: &[usize]) -> Self {
        match shape {
            [] => Self {
                channels: 1,
                inner: 1,
            },
            [features] | [_, features] => Self {
                channels: *features,
                inner: 1,
            },
            [channels, rest @ ..] => Self {
                channels: *channels,
                inner: rest.iter().product(),
            },
        }
    }
}

/// max(x, 0) + alpha min(x, 0), alpha `[channels]` or, of all of them, `[1]`; He et al. 2015.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prelu {
    pub channels: Channels,
    pub shared: bool,
}

/// Noise of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// x + N(0, deviation^2).
    Additive { deviation: f64 },
    /// x N(1, deviation^2).
    Multiplicative { deviation: f64 },
    /// Whole channels of a sample of so many values become 0, the others grow by 1 / (1 - rate).
    Channels {
        rate: f64,
        channels: Channels,
        len: usize,
    },
}
