//! Operations on one virtual shard: a file each, and a line in [`kernel`].

mod activation;
mod attention;
mod batch_norm;
mod broadcast;
mod concat;
mod conv;
mod dense;
mod dropout;
mod embedding;
mod frame;
mod merge;
mod noise;
mod norm;
mod permute;
mod pool;
mod pool3d;
mod positions;
mod prelu;
mod recurrent;
mod resample;
mod scalar;

use std::fmt::Debug;

use trainyard_common::network::{Draw, Op};
use trainyard_common::rng::Key;

pub(crate) use activation::softmax;
pub(crate) use scalar::sigmoid;

/// Where an operation runs: in which network, of what mode.
#[derive(Debug)]
pub(crate) struct At<'a> {
    /// The operation's own, in order.
    pub(crate) parameters: &'a [&'a [f32]],
    /// Its running statistics.
    pub(crate) running: &'a [f32],
    /// Of (trial seed, step, virtual shard).
    pub(crate) mask_key: Key,
    pub(crate) draw: &'a Draw,
    pub(crate) training: bool,
}

impl At<'_> {
    /// Of (trial seed, step, virtual shard, operation): what the operation's masks are drawn by.
    pub(crate) fn key(&self) -> Key {
        match self.draw {
            Draw::Position(position) => self.mask_key.with(*position),
            Draw::Name(name, nth) => self.mask_key.named(name).with(*nth),
        }
    }
}

/// What its backward pass reads: whole only where the operation said that it does ([`Op::traits`]).
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) inputs: &'a [&'a [f32]],
    pub(crate) output: &'a [f32],
}

/// What an operation keeps from its forward to its backward pass. It stays as long as its buffers do.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) values: Vec<f32>,
    pub(crate) picks: Vec<u32>,
    /// In training: what [`Kernel::apply_statistics`] understands, to be added up over shards.
    pub(crate) statistics: Vec<f32>,
    /// Between forward and backward anybody's.
    pub(crate) scratch: Vec<f32>,
}

/// An operation on the processor. All buffers hold samples one after the other; work is cut into pieces by shapes
/// alone, and sums are taken in their order.
pub(crate) trait Kernel: Debug + Send + Sync {
    /// Writes the whole output.
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept);

    /// The same where the output takes the only input's place; only asked of who said that it can.
    fn forward_in_place(&self, at: &At<'_>, values: &mut [f32]) {
        let _ = (at, values);
        unreachable!("an operation that cannot work in place");
    }

    /// Writes the gradients of the inputs that are wanted to `targets`, and that of its parameters. Who works in place
    /// turns `gradient` into that of its first input, for which there is no target.
    fn backward(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        kept: &mut Kept,
    );

    /// Moves running statistics by those of a global batch of so many samples.
    fn apply_statistics(&self, summed: &[f32], samples: f64, running: &mut [f32]) {
        let _ = (summed, samples, running);
    }
}

/// The pieces of a gradient, `len` values each, for tasks of their own; where nobody wants it, so many times none.
fn parts(target: Option<&mut [f32]>, len: usize, count: usize) -> Vec<Option<&mut [f32]>> {
    match target {
        Some(target) => target.chunks_mut(len).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

/// What computes an operation here.
pub(crate) fn kernel(op: &Op, lengths: &[usize]) -> Box<dyn Kernel> {
    match op {
        Op::Dense(op) => Box::new(dense::Dense(op.clone())),
        Op::Conv(op) => Box::new(conv::Conv(op.clone())),
        Op::ConvTranspose(op) => Box::new(conv::Transpose::new(op)),
        Op::Conv3d(op) => Box::new(conv::Volume::new(op)),
        Op::Pool3d(op) => Box::new(pool3d::Pool3d(op.clone())),
        Op::Pool(op) => Box::new(pool::Pool(op.clone())),
        Op::Dropout(op) => Box::new(dropout::Dropout::new(op)),
        Op::BatchNorm(op) => Box::new(batch_norm::BatchNorm(op.clone())),
        Op::Activation(op) => Box::new(activation::Pointwise(op.clone())),
        Op::Prelu(op) => Box::new(prelu::Prelu(op.clone())),
        Op::Noise(op) => Box::new(noise::Noise(*op)),
        Op::Merge(op) => Box::new(merge::Merge(*op)),
        Op::Broadcast(op) => Box::new(broadcast::Broadcast(op.clone())),
        Op::Resample(op) => Box::new(resample::Resample::new(op)),
        Op::Frame(op) => Box::new(frame::Frame(op.clone())),
        Op::Concat { rows } => Box::new(concat::Concat::new(lengths, *rows)),
        Op::Permute(op) => Box::new(permute::Permute::new(op)),
        Op::Norm(op) => Box::new(norm::Norm(op.clone())),
        Op::Embedding(op) => Box::new(embedding::Embedding(op.clone())),
        Op::Positions(op) => Box::new(positions::Positions::new(op)),
        Op::Scores(op) => Box::new(attention::Scores(attention::Heads::new(op))),
        Op::Weighted(op) => Box::new(attention::Weighted(attention::Heads::new(op))),
        Op::Recurrent(op) => Box::new(recurrent::Recurrent(op.clone())),
    }
}
