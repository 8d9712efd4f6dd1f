//! Samples of several buffers one after the other, or parts of samples.

use rayon::prelude::*;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

/// Values of a part in each input, and together.
#[derive(Debug)]
pub(super) struct Concat {
    lengths: Vec<usize>,
    row: usize,
}

impl Concat {
    /// `lengths`: of a sample in each input; `rows`: parts of a sample.
    pub(super) fn new(lengths: &[usize], rows: usize) -> Self {
        let lengths: Vec<usize> = lengths.iter().map(|len| len / rows).collect();
        Self {
            row: lengths.iter().sum(),
            lengths,
        }
    }

    /// Samples of one task.
    fn group(&self) -> usize {
        (BLOCK / self.row).max(1)
    }

    /// (input, its start in a row of the output).
    fn starts(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut start = 0;
        self.lengths.iter().enumerate().map(move |(input, len)| {
            start += len;
            (input, start - len)
        })
    }
}

impl Kernel for Concat {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let group = self.group();
        output
            .par_chunks_mut(group * self.row)
            .enumerate()
            .for_each(|(task, rows)| {
                for (at, row) in rows.chunks_exact_mut(self.row).enumerate() {
                    let sample = task * group + at;
                    for (input, start) in self.starts() {
                        let len = self.lengths[input];
                        row[start..start + len]
                            .copy_from_slice(&inputs[input][sample * len..(sample + 1) * len]);
                    }
                }
            });
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
        for (input, start) in self.starts() {
            let len = self.lengths[input];
            let Some(target) = targets[input].as_deref_mut() else {
                continue;
            };
            let group = self.group();
            target
                .par_chunks_mut(group * len)
                .zip(gradient.par_chunks(group * self.row))
                .for_each(|(target, rows)| {
                    let rows = rows.chunks_exact(self.row);
                    for (own, row) in target.chunks_exact_mut(len).zip(rows) {
                        own.copy_from_slice(&row[start..start + len]);
                    }
                });
        }
    }
}
