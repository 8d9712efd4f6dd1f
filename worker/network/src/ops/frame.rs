//! Zeros around volumes, or volumes without their borders.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Frame(pub(super) network::Frame);

/// Where a dimension of `from` and one of `to` that begins `offset` before it have something in common: (start in `from`,
/// start in `to`, length).
fn common(from: usize, to: usize, offset: isize) -> (usize, usize, usize) {
    let (skipped, start) = match offset < 0 {
        true => (offset.unsigned_abs(), 0),
        false => (0, offset.unsigned_abs()),
    };
    let len = from.saturating_sub(skipped).min(to.saturating_sub(start));
    (skipped, start, len)
}

/// Volumes into volumes; 0 where there is nothing to take.
fn place(input: &[f32], from: [usize; 3], output: &mut [f32], to: [usize; 3], offset: [isize; 3]) {
    let (len, out): (usize, usize) = (from.iter().product(), to.iter().product());
    let volumes = (BLOCK / out).max(1);
    let [depth, height, width] = [0, 1, 2].map(|at| common(from[at], to[at], offset[at]));
    output
        .par_chunks_mut(volumes * out)
        .zip(input.par_chunks(volumes * len))
        .for_each(|(output, input)| {
            output.fill(0.0);
            let pairs = output.chunks_exact_mut(out).zip(input.chunks_exact(len));
            for (output, input) in pairs {
                for z in 0..depth.2 {
                    for y in 0..height.2 {
                        let row = (depth.0 + z) * from[1] + height.0 + y;
                        let source = &input[row * from[2] + width.0..][..width.2];
                        let row = (depth.1 + z) * to[1] + height.1 + y;
                        output[row * to[2] + width.1..][..width.2].copy_from_slice(source);
                    }
                }
            }
        });
}

impl Kernel for Frame {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let frame = &self.0;
        place(inputs[0], frame.input, output, frame.output, frame.offset);
    }

    fn backward(
        &self,
        _: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        if let Some(target) = targets[0].as_deref_mut() {
            let frame = &self.0;
            let back = frame.offset.map(|offset| -offset);
            place(gradient, frame.output, target, frame.input, back);
        }
    }
}
