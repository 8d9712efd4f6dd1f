//! Recurrent layers: the whole sequence in one operation, with its own way back through time.
//!
//! Samples are cut into pieces by their number alone, and each piece is computed by one thread: the projections of all
//! its steps are one product, then each step adds one of the hidden state. Kernels' gradients are one product over all
//! steps of a piece, and those of the pieces are added in their order.

mod gates;
mod gru;
mod lstm;
mod piece;
mod simple;

use rayon::prelude::*;
use trainyard_common::network::{self, Cell as Kind};

use self::piece::{Flow, Piece, samples_of_task};
use super::{At, Kept, Kernel, Known, parts};

/// Parts of a flow, each as large as the hidden state.
const FLOWS: usize = 3;

/// What a kind of cell does in a step. Its parameters are the kernel [features, gates], the recurrent kernel
/// [units, gates], and the bias, if any.
trait Cell {
    /// The k-th step, from the projections of its input; forward.
    fn forward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize);

    /// From the gradient of what the step put out, in `flow`, to that of the step before; the gates become gradients.
    fn backward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize, flow: &mut Flow<'_>);

    /// Once all gates are gradients: those of the recurrent kernel and of the bias, which is empty where there is none.
    fn weights(&self, piece: &mut Piece<'_>, recurrent: &mut [f32], bias: &mut [f32]);
}

#[derive(Debug)]
pub(super) struct Recurrent(pub(super) network::Recurrent);

impl std::ops::Deref for Recurrent {
    type Target = network::Recurrent;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for Recurrent {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept) {
        let samples = output.len() / self.put_out();
        let task = samples_of_task(samples);
        kept.values.resize(samples * self.kept(), 0.0);
        kept.values
            .par_chunks_mut(task * self.kept())
            .zip(inputs[0].par_chunks(task * self.steps * self.features))
            .zip(output.par_chunks_mut(task * self.put_out()))
            .for_each(|((values, input), output)| {
                let mut piece = Piece::new(&self.0, values);
                match self.cell {
                    Kind::Simple => run(&simple::Simple, &mut piece, at, input),
                    Kind::Lstm => run(&lstm::Lstm, &mut piece, at, input),
                    Kind::Gru { reset_after: true } => run(&gru::After, &mut piece, at, input),
                    Kind::Gru { reset_after: false } => run(&gru::Before, &mut piece, at, input),
                }
                piece.put_out(output);
            });
    }

    fn backward(
        &self,
        at: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        kept: &mut Kept,
    ) {
        let samples = gradient.len() / self.put_out();
        let task = samples_of_task(samples);
        let own = parameter_gradient.len();
        let each = own + FLOWS * task * self.units;
        let Kept {
            values, scratch, ..
        } = kept;
        scratch.resize(samples.div_ceil(task) * each, 0.0);
        let mut onward = parts(
            targets[0].as_deref_mut(),
            task * self.steps * self.features,
            samples.div_ceil(task),
        );
        values
            .par_chunks_mut(task * self.kept())
            .zip(gradient.par_chunks(task * self.put_out()))
            .zip(scratch.par_chunks_mut(each))
            .zip(&mut onward)
            .for_each(|(((values, gradient), scratch), target)| {
                let mut piece = Piece::new(&self.0, values);
                let target = target.as_deref_mut();
                match self.cell {
                    Kind::Simple => go_back(
                        &simple::Simple,
                        &mut piece,
                        at,
                        gradient,
                        scratch,
                        own,
                        target,
                    ),
                    Kind::Lstm => {
                        go_back(&lstm::Lstm, &mut piece, at, gradient, scratch, own, target)
                    }
                    Kind::Gru { reset_after: true } => {
                        go_back(&gru::After, &mut piece, at, gradient, scratch, own, target);
                    }
                    Kind::Gru { reset_after: false } => {
                        go_back(&gru::Before, &mut piece, at, gradient, scratch, own, target);
                    }
                }
            });
        let (first, others) = scratch.split_at(each);
        parameter_gradient.copy_from_slice(&first[..own]);
        for part in others.chunks_exact(each) {
            crate::simd::add(parameter_gradient, &part[..own]);
        }
    }
}

fn run(cell: &impl Cell, piece: &mut Piece<'_>, at: &At<'_>, input: &[f32]) {
    piece.gather(input);
    // The second row of a bias of two belongs to the hidden state.
    let bias = at.parameters.get(2).map(|bias| &bias[..piece.op.gates()]);
    piece.project(at.parameters[0], bias);
    for k in 0..piece.op.steps {
        cell.forward(piece, at.parameters, k);
    }
}

/// `own`: how much of the scratch the gradients of the parameters take.
fn go_back(
    cell: &impl Cell,
    piece: &mut Piece<'_>,
    at: &At<'_>,
    gradient: &[f32],
    scratch: &mut [f32],
    own: usize,
    target: Option<&mut [f32]>,
) {
    let op = piece.op;
    let (parameters, flow) = scratch.split_at_mut(own);
    let (hidden, flow) = flow.split_at_mut(piece.samples * op.units);
    let (state, scratch) = flow.split_at_mut(piece.samples * op.units);
    hidden.fill(0.0);
    state.fill(0.0);
    let mut flow = Flow {
        hidden,
        state,
        scratch,
    };
    for k in (0..op.steps).rev() {
        piece.take_in(gradient, k, flow.hidden);
        cell.backward(piece, at.parameters, k, &mut flow);
    }
    let (kernel, rest) = parameters.split_at_mut(op.features * op.gates());
    let (recurrent, bias) = rest.split_at_mut(op.units * op.gates());
    cell.weights(piece, recurrent, bias);
    piece.unproject(at.parameters[0], kernel, target.is_some());
    if let Some(target) = target {
        piece.scatter(target);
    }
}
