//! Shapes of one sample, without the batch: `[features]`, `[steps, features]`, `[channels, height, width]`.

use super::error::{MAX_ELEMENTS, Problem};
use super::words::{Border, Pair};

/// How a window moves along one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    pub size: usize,
    pub stride: usize,
    /// Distance of the values that it reads; 1: side by side.
    pub dilation: usize,
    pub border: Border,
    /// Whether the last position may reach over the end, as PyTorch's `ceil_mode`. With `Same` it always may.
    pub ceil: bool,
}

/// Where a window stands along a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Padding before and after.
    pub before: usize,
    pub after: usize,
    /// Positions.
    pub out: usize,
}

impl Along {
    /// From the first value that it reads to the last, with both.
    fn reach(&self) -> Option<usize> {
        let last = self.size.checked_sub(1)?.checked_mul(self.dilation)?;
        last.checked_add(1)
    }

    /// Along a dimension of `n`; `None` where it does not fit.
    pub fn place(&self, n: usize) -> Option<Placed> {
        if self.stride == 0 || self.dilation == 0 {
            return None;
        }
        let (before, after) = match self.border {
            Border::Valid => (0, 0),
            Border::Around(before, after) => (before, after),
            Border::Same => return self.place_same(n),
        };
        let padded = n.checked_add(before)?.checked_add(after)?;
        let over = if self.ceil { self.stride - 1 } else { 0 };
        let free = padded.checked_add(over)?.checked_sub(self.reach()?)?;
        let mut out = free / self.stride + 1;
        // The last window begins within the image or the padding before it.
        if self.ceil && (out - 1) * self.stride >= n + before {
            out -= 1;
        }
        Some(Placed { before, after, out })
    }

    /// ceil(n / stride) positions. As in TensorFlow, the odd value of the padding is at the end.
    fn place_same(&self, n: usize) -> Option<Placed> {
        let out = n.div_ceil(self.stride);
        let last = out.saturating_sub(1) * self.stride;
        let total = last.checked_add(self.reach()?)?.saturating_sub(n);
        Some(Placed {
            before: total / 2,
            after: total - total / 2,
            out,
        })
    }
}

/// A window that moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub height: usize,
    pub width: usize,
    pub kh: usize,
    pub kw: usize,
    pub sh: usize,
    pub sw: usize,
    /// Distance of its taps.
    pub dh: usize,
    pub dw: usize,
    /// Rows and columns of padding before the image, and after it.
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
    pub out_height: usize,
    pub out_width: usize,
}

/// How a window moves over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moves {
    /// `kernel` or `window`, as messages call it.
    pub(super) what: &'static str,
    pub(super) size: Pair,
    pub(super) stride: Pair,
    pub(super) dilation: Pair,
    /// Of height and width.
    pub(super) borders: [Border; 2],
    pub(super) ceil: bool,
}

impl Moves {
    fn along(&self) -> [Along; 2] {
        let each = |pair: Pair| <[usize; 2]>::from(pair.get());
        let (size, stride, dilation) = (each(self.size), each(self.stride), each(self.dilation));
        [0, 1].map(|at| Along {
            size: size[at],
            stride: stride[at],
            dilation: dilation[at],
            border: self.borders[at],
            ceil: self.ceil,
        })
    }

    /// What numbers that are 0 are called.
    fn zero(&self) -> Option<&'static str> {
        let size = if self.what == "kernel" {
            "kernel"
        } else {
            "size"
        };
        let fields = [
            (self.size, size),
            (self.stride, "stride"),
            (self.dilation, "dilation"),
        ];
        let zero = |pair: Pair| pair.get().0.min(pair.get().1) == 0;
        let found = fields.into_iter().find(|&(pair, _)| zero(pair));
        found.map(|(_, field)| field)
    }

    fn padding(&self) -> String {
        let words = match self.borders {
            [Border::Same, Border::Same] => "same".to_owned(),
            [Border::Around(..), _] | [_, Border::Around(..)] => {
                let sides = self.borders.map(|border| match border {
                    Border::Around(before, after) => [before, after],
                    _ => [0, 0],
                });
                format!("{sides:?}")
            }
            _ => "valid".to_owned(),
        };
        match self.dilation.get() {
            (1, 1) => words,
            (height, width) => format!("{words} and dilation {height}x{width}"),
        }
    }
}

impl Window {
    pub(super) fn over(image: &[usize], moves: Moves) -> Result<Self, Problem> {
        let [_, height, width] = *image else {
            return Err(Problem::NeedsImage(image.to_vec()));
        };
        if let Some(field) = moves.zero() {
            return Err(Problem::Zero { field });
        }
        let [rows, columns] = moves.along();
        let (Some(down), Some(across)) = (rows.place(height), columns.place(width)) else {
            return Err(Problem::DoesNotFit {
                window: moves.what,
                kernel: (rows.size, columns.size),
                input: (height, width),
                padding: moves.padding(),
            });
        };
        Ok(Self {
            height,
            width,
            kh: rows.size,
            kw: columns.size,
            sh: rows.stride,
            sw: columns.stride,
            dh: rows.dilation,
            dw: columns.dilation,
            top: down.before,
            left: across.before,
            bottom: down.after,
            right: across.after,
            out_height: down.out,
            out_width: across.out,
        })
    }

    pub fn taps(&self) -> usize {
        self.kh.saturating_mul(self.kw)
    }

    pub fn area(&self) -> usize {
        self.height * self.width
    }

    pub fn out_area(&self) -> usize {
        self.out_height * self.out_width
    }
}

/// The product, unless it is above [`MAX_ELEMENTS`].
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .filter(|&product| product <= MAX_ELEMENTS)
}

/// Whether samples of data may have this shape: `[features]`, `[steps, features]`,
/// `[channels, height, width]` or `[channels, depth, height, width]`.
pub(crate) fn is_sample_shape(shape: &[usize]) -> bool {
    (1..=4).contains(&shape.len()) && !shape.contains(&0)
}
