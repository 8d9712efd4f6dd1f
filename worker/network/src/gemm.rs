//! Matrix products, cut into pieces by shape alone.
//!
//! The only module that calls the `gemm` crate, and always with one thread: rayon runs the pieces.

use rayon::prelude::*;

/// Multiply-adds below which a product is not cut.
const SMALL: usize = 1 << 18;
/// Pieces of a large product.
const PIECES: usize = 4;
/// Widths of pieces are multiples of this, the widest tile of the micro-kernels.
const TILE: usize = 16;

/// A matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Row-major without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "matrix larger than its slice");
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// Row-major, rows `row_stride` apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let view = Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        };
        assert!(view.is_inside(), "matrix larger than its slice");
        view
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn row_range(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.rows, "rows outside the matrix");
        Self {
            data: &self.data[start * self.row_stride..],
            rows: count,
            ..self
        }
    }

    fn column_range(self, start: usize, count: usize) -> Self {
        self.transposed().row_range(start, count).transposed()
    }

    /// Whether every element lies within the slice.
    fn is_inside(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_stride
            + (self.columns.max(1) - 1) * self.column_stride;
        self.rows == 0 || self.columns == 0 || last < self.data.len()
    }
}

/// dst = lhs rhs, or dst += lhs rhs; dst row-major without gaps. One thread.
pub(crate) fn gemm(dst: &mut [f32], accumulate: bool, lhs: View<'_>, rhs: View<'_>) {
    assert!(
        dst.len() >= lhs.rows * rhs.columns,
        "product larger than its slice"
    );
    // SAFETY: dst holds all rows, each of rhs.columns values, and is borrowed for writing.
    #[allow(unsafe_code)]
    unsafe {
        gemm_into(dst.as_mut_ptr(), rhs.columns, accumulate, lhs, rhs);
    }
}

/// As [`gemm`], into rows that are `row_stride` apart; what lies between them stays.
pub(crate) fn gemm_strided(
    dst: &mut [f32],
    row_stride: usize,
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
) {
    let last = lhs.rows.saturating_sub(1) * row_stride;
    assert!(
        rhs.columns <= row_stride && dst.len() >= last + rhs.columns,
        "product larger than its slice"
    );
    // SAFETY: dst holds all rows, each of rhs.columns values, and is borrowed for writing.
    #[allow(unsafe_code)]
    unsafe {
        gemm_into(dst.as_mut_ptr(), row_stride, accumulate, lhs, rhs);
    }
}

/// As [`gemm`], into rows that are `row_stride` apart.
///
/// # Safety
/// `dst` must be valid for writing lhs.rows rows of rhs.columns values, `row_stride` apart, which
/// nobody else touches meanwhile.
#[allow(unsafe_code)]
unsafe fn gemm_into(
    dst: *mut f32,
    row_stride: usize,
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
) {
    assert_eq!(lhs.columns, rhs.rows, "inner dimensions differ");
    assert!(
        lhs.is_inside() && rhs.is_inside(),
        "matrix outside its slice"
    );
    // SAFETY: the operands were checked to lie inside their slices; dst is the caller's promise.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            dst,
            1,
            row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// dst = lhs rhs, row-major without gaps, with the current pool's threads.
///
/// Cut by rows, by columns or, where the inner dimension dwarfs both, along it with the partial
/// products summed in order: a function of the shape, not of the number of threads.
pub(crate) fn parallel_gemm(dst: &mut [f32], lhs: View<'_>, rhs: View<'_>) {
    let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
    if m * n * k < SMALL {
        gemm(dst, false, lhs, rhs);
    } else if k >= 8 * m.max(n) {
        split_inner(dst, lhs, rhs);
    } else if m >= n {
        let rows = piece(m);
        dst[..m * n]
            .par_chunks_mut(rows * n)
            .enumerate()
            .for_each(|(i, dst)| {
                gemm(dst, false, lhs.row_range(i * rows, dst.len() / n), rhs);
            });
    } else {
        split_columns(dst, lhs, rhs);
    }
}

fn piece(len: usize) -> usize {
    len.div_ceil(PIECES).next_multiple_of(TILE)
}

fn split_inner(dst: &mut [f32], lhs: View<'_>, rhs: View<'_>) {
    let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
    let depth = piece(k);
    let partials: Vec<Vec<f32>> = (0..k.div_ceil(depth))
        .into_par_iter()
        .map(|i| {
            let (start, count) = (i * depth, depth.min(k - i * depth));
            let mut partial = vec![0.0; m * n];
            let (lhs, rhs) = (lhs.column_range(start, count), rhs.row_range(start, count));
            gemm(&mut partial, false, lhs, rhs);
            partial
        })
        .collect();
    dst[..m * n].copy_from_slice(&partials[0]);
    for partial in &partials[1..] {
        for (sum, value) in dst.iter_mut().zip(partial) {
            *sum += value;
        }
    }
}

/// A destination that tasks write to in disjoint columns.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

impl Shared {
    /// # Safety
    /// `start` must be within the first row.
    #[allow(unsafe_code)]
    unsafe fn column(self, start: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(start) }
    }
}

// SAFETY: `split_columns` hands each task columns of its own.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

fn split_columns(dst: &mut [f32], lhs: View<'_>, rhs: View<'_>) {
    let (m, n) = (lhs.rows, rhs.columns);
    assert!(dst.len() >= m * n, "product larger than its slice");
    let width = piece(n);
    let shared = Shared(dst.as_mut_ptr());
    (0..n.div_ceil(width)).into_par_iter().for_each(|i| {
        let (start, count) = (i * width, width.min(n - i * width));
        // SAFETY: columns start..start + count of each of the m rows of dst belong to this task.
        #[allow(unsafe_code)]
        unsafe {
            gemm_into(
                shared.column(start),
                n,
                false,
                lhs,
                rhs.column_range(start, count),
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, salt: usize) -> Vec<f32> {
        (0..rows * columns)
            .map(|i| ((i * 7919 + salt * 104_729) % 1000) as f32 / 500.0 - 1.0)
            .collect()
    }

    #[test]
    fn every_cut_gives_the_product() {
        // Shapes for: no cut, inner, rows, columns. Reference: the definition in f64.
        for (m, n, k) in [(3, 5, 7), (8, 24, 4000), (300, 40, 50), (20, 310, 60)] {
            let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let mut plain = vec![f32::NAN; m * n];
            parallel_gemm(&mut plain, View::new(&a, m, k), View::new(&b, k, n));
            let mut turned = vec![f32::NAN; m * n];
            parallel_gemm(
                &mut turned,
                View::new(&a, m, k),
                View::new(&bt, n, k).transposed(),
            );
            for (i, (&plain, &turned)) in plain.iter().zip(&turned).enumerate() {
                let (row, column) = (i / n, i % n);
                let expected: f64 = (0..k)
                    .map(|j| f64::from(a[row * k + j]) * f64::from(b[j * n + column]))
                    .sum();
                let tolerance = 1e-6 * k as f64;
                assert!(
                    (f64::from(plain) - expected).abs() < tolerance,
                    "{m} {n} {k}"
                );
                assert!(
                    (f64::from(turned) - expected).abs() < tolerance,
                    "{m} {n} {k}"
                );
            }
        }
    }
}
