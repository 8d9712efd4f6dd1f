//! The network: layers, losses and their gradients, in f32 on the CPU.
//!
//! It is given one virtual shard at a time and writes the gradient of the sum of its samples' losses
//! into one flat buffer. It knows nothing of optimizers, epochs, ranks or files. Results do not
//! depend on the number of threads of the current rayon pool: work is cut into pieces that depend on
//! shapes alone, and every sum over pieces is taken in their order.

mod error;
mod features;
mod gemm;
mod head;
mod init;
mod losses;
mod math;
mod network;
mod ops;
mod parameters;
mod program;
mod run;
mod simd;

use candle_core::Device;
use trainyard_common::spec;

pub use error::ModelError;
pub use network::Network;
pub use parameters::Parameter;

/// A tensor of f32 values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// What the samples of a shard should give.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// One class number a sample. A loss over values sees them one-hot (or, with one output, as the
    /// number itself).
    Classes(&'a [u32]),
    /// [samples, outputs], row-major.
    Values(&'a [f32]),
}

/// Sums over the samples of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShardOutcome {
    /// Sum of the samples' losses (each the mean over the outputs where the loss is over values).
    pub loss_sum: f64,
    /// Samples whose prediction is at the class.
    pub correct: u64,
    /// Sum over samples of the mean absolute difference of prediction and target.
    pub abs_err_sum: f64,
    /// Sum over samples of the mean squared difference.
    pub sq_err_sum: f64,
    pub samples: usize,
}

/// The tensor device of a spec's device, or why this program cannot use it.
pub fn open_device(device: spec::Device) -> Result<Device, ModelError> {
    match device {
        spec::Device::Cpu => Ok(Device::Cpu),
        #[cfg(feature = "cuda")]
        spec::Device::Cuda => Ok(Device::new_cuda(0)?),
        #[cfg(not(feature = "cuda"))]
        spec::Device::Cuda => Err(ModelError::NoCuda),
    }
}

fn check_length(what: &'static str, given: usize, expected: usize) -> Result<(), ModelError> {
    if given == expected {
        Ok(())
    } else {
        Err(ModelError::Length {
            what,
            given,
            expected,
        })
    }
}
