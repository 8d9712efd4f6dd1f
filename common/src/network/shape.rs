//! Shapes of one sample, without the batch: `[features]`, `[channels, height, width]`.

use super::error::{MAX_ELEMENTS, Problem};
use super::words::{Padding, Pair};

/// Positions of a window of size `kernel` along a dimension of `n`; `None` where it does not fit.
pub fn positions(n: usize, kernel: usize, stride: usize, padding: Padding) -> Option<usize> {
    if kernel == 0 || stride == 0 {
        return None;
    }
    match padding {
        Padding::Valid => Some(n.checked_sub(kernel)? / stride + 1),
        Padding::Same => Some(n.div_ceil(stride)),
    }
}

/// Zeros `(before, after)` a dimension of `n` so that a window takes [`positions`] there. As in
/// TensorFlow, the odd one is at the end.
pub fn padding_of(n: usize, kernel: usize, stride: usize, padding: Padding) -> (usize, usize) {
    match padding {
        Padding::Valid => (0, 0),
        Padding::Same => {
            let covered = n.div_ceil(stride.max(1)).saturating_sub(1) * stride + kernel;
            let total = covered.saturating_sub(n);
            (total / 2, total - total / 2)
        }
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
    /// Rows and columns of padding before the image.
    pub top: usize,
    pub left: usize,
    pub out_height: usize,
    pub out_width: usize,
}

impl Window {
    /// `what`: `kernel` or `window`, as messages call it.
    pub(super) fn over(
        image: &[usize],
        what: &'static str,
        size: Pair,
        stride: Pair,
        padding: Padding,
    ) -> Result<Self, Problem> {
        let [_, height, width] = *image else {
            return Err(Problem::NeedsImage(image.to_vec()));
        };
        let ((kh, kw), (sh, sw)) = (size.get(), stride.get());
        if kh == 0 || kw == 0 {
            let field = if what == "kernel" { "kernel" } else { "size" };
            return Err(Problem::Zero { field });
        }
        if sh == 0 || sw == 0 {
            return Err(Problem::Zero { field: "stride" });
        }
        let rows = positions(height, kh, sh, padding);
        let columns = positions(width, kw, sw, padding);
        let (Some(out_height), Some(out_width)) = (rows, columns) else {
            return Err(Problem::DoesNotFit {
                window: what,
                kernel: (kh, kw),
                input: (height, width),
                padding: match padding {
                    Padding::Valid => "valid",
                    Padding::Same => "same",
                },
            });
        };
        Ok(Self {
            height,
            width,
            kh,
            kw,
            sh,
            sw,
            top: padding_of(height, kh, sh, padding).0,
            left: padding_of(width, kw, sw, padding).0,
            out_height,
            out_width,
        })
    }

    pub fn taps(&self) -> usize {
        self.kh * self.kw
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
