//! Layers whose window moves over a volume `[channels, depth, height, width]`.

use super::super::builder::{Builder, NewParameter};
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Conv, Conv3d, Op, Pool, Pool3d, PoolKind, Slices};
use super::super::shape::{Along, Moves, Window};
use super::super::words::{Padding, Pair, Triple};
use super::moving::{Filters, VOLUME, needs};
use super::shared::{activate, bias};

/// How a kernel or a window moves.
pub(super) struct Movement<'a> {
    pub(super) what: &'static str,
    pub(super) size: Triple,
    pub(super) stride: Triple,
    pub(super) dilation: Triple,
    pub(super) padding: &'a Padding,
    pub(super) ceil: bool,
}

impl Movement<'_> {
    fn over(&self, input: &Tensor) -> Result<(Window, Slices), Problem> {
        let [_, depth, height, width] = input.shape[..] else {
            return Err(needs(VOLUME, input));
        };
        let mut borders = Vec::with_capacity(3);
        for at in 0..3 {
            borders.push(self.padding.border(3, at).ok_or_else(|| {
                Problem::Other(format!(
                    "padding {} is not for three dimensions",
                    self.padding
                ))
            })?);
        }
        let ([size, kh, kw], [stride, sh, sw]) = (self.size.get(), self.stride.get());
        let [dilation, dh, dw] = self.dilation.get();
        let moves = Moves {
            what: self.what,
            size: Pair::Each([kh, kw]),
            stride: Pair::Each([sh, sw]),
            dilation: Pair::Each([dh, dw]),
            borders: [borders[1], borders[2]],
            ceil: self.ceil,
        };
        let window = Window::over(&[1, height, width], moves)?;
        let along = Along {
            size,
            stride,
            dilation,
            border: borders[0],
            ceil: self.ceil,
        };
        let placed = along.place(depth).ok_or_else(|| {
            Problem::Other(format!(
                "a {} of depth {size}, stride {stride} and dilation {dilation} does not fit a depth of {depth} with padding {}",
                self.what, self.padding
            ))
        })?;
        let slices = Slices {
            n: depth,
            size,
            stride,
            dilation,
            before: placed.before,
            after: placed.after,
            out: placed.out,
        };
        Ok((window, slices))
    }
}

pub(super) fn convolve(
    at: &mut Builder,
    input: &Tensor,
    filters: &Filters,
    movement: &Movement<'_>,
) -> Result<Tensor, Problem> {
    let (window, slices) = movement.over(input)?;
    let (count, channels) = (filters.filters, input.shape[0]);
    let depth = filters.channels_of(channels)?;
    let conv = Conv {
        channels,
        filters: count,
        groups: filters.groups,
        window,
        bias: filters.use_bias,
        relu: false,
    };
    let taps = slices.size.saturating_mul(window.taps());
    let fans = (depth.saturating_mul(taps), count.saturating_mul(taps));
    let kernel = vec![count, depth, slices.size, window.kh, window.kw];
    let kernel = NewParameter::drawn("kernel", kernel, filters.kernel_initializer, fans);
    let parameters = [kernel].into_iter().chain(bias(filters.use_bias, count));
    let shape = vec![count, slices.out, window.out_height, window.out_width];
    let op = Op::Conv3d(Conv3d { conv, slices });
    let output = at.apply(op, &[input], shape, parameters.collect())?;
    activate(at, output, filters.activation, None)
}

pub(super) fn pool(
    at: &mut Builder,
    input: &Tensor,
    kind: PoolKind,
    count_padding: bool,
    movement: &Movement<'_>,
) -> Result<Tensor, Problem> {
    let (window, slices) = movement.over(input)?;
    let fits = window.top.max(window.bottom) < window.kh
        && window.left.max(window.right) < window.kw
        && slices.before.max(slices.after) < slices.size;
    if !fits {
        return Err(Problem::Other(format!(
            "padding {}; accepted is less than the window's size, {:?}",
            movement.padding,
            movement.size.get()
        )));
    }
    let shape = vec![
        input.shape[0],
        slices.out,
        window.out_height,
        window.out_width,
    ];
    let pool = Pool {
        kind,
        count_padding,
        window,
    };
    let op = Op::Pool3d(Pool3d { pool, slices });
    at.apply(op, &[input], shape, Vec::new())
}
