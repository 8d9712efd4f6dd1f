//! Where one tap of a kernel reads in an image.

use trainyard_common::network::Window;

use super::super::dense::add;

/// One tap of a kernel: where it reads for each output column.
pub(super) struct Tap {
    /// Rows from the first of the window.
    down: usize,
    /// Output columns whose input column lies inside the image.
    first: usize,
    end: usize,
    /// Input column of the output column `first`.
    start: usize,
}

impl Tap {
    pub(super) fn new(window: &Window, tap: usize) -> Self {
        let (ky, kx) = (tap / window.kw, tap % window.kw);
        let (down, across) = (ky * window.dh, kx * window.dw);
        let first = window.left.saturating_sub(across).div_ceil(window.sw);
        let start = first * window.sw + across - window.left;
        let count = window.width.saturating_sub(start).div_ceil(window.sw);
        Self {
            down,
            first: first.min(window.out_width),
            end: (first + count).min(window.out_width),
            start,
        }
    }

    /// Input row of an output row, if inside the image.
    pub(super) fn row(&self, window: &Window, oy: usize) -> Option<usize> {
        (oy * window.sh + self.down)
            .checked_sub(window.top)
            .filter(|&y| y < window.height)
    }

    #[inline(always)]
    pub(super) fn read(&self, window: &Window, source: &[f32], line: &mut [f32]) {
        if self.first >= self.end {
            line.fill(0.0);
            return;
        }
        line[..self.first].fill(0.0);
        line[self.end..].fill(0.0);
        let line = &mut line[self.first..self.end];
        if window.sw == 1 {
            line.copy_from_slice(&source[self.start..self.start + line.len()]);
        } else {
            let source = source[self.start..].iter().step_by(window.sw);
            line.iter_mut()
                .zip(source)
                .for_each(|(to, from)| *to = *from);
        }
    }

    #[inline(always)]
    pub(super) fn add(&self, window: &Window, line: &[f32], target: &mut [f32]) {
        if self.first >= self.end {
            return;
        }
        let line = &line[self.first..self.end];
        if window.sw == 1 {
            add(&mut target[self.start..self.start + line.len()], line);
        } else {
            let target = target[self.start..].iter_mut().step_by(window.sw);
            target.zip(line).for_each(|(to, from)| *to += from);
        }
    }
}
