//! Eigendecomposition of small symmetric matrices by Jacobi's rotations, in a fixed order, so that the same
//! matrix has the same bits for eigenvectors on every machine.

/// Sweeps after which rounding errors are all that is left; convergence is quadratic and takes under ten.
const MAX_SWEEPS: usize = 30;

/// Eigenvalues, and eigenvectors as columns of a row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Vec<f64>,
}

impl Eigen {
    /// Of the identity.
    pub(super) fn identity(n: usize) -> Self {
        let mut vectors = vec![0.0; n * n];
        for i in 0..n {
            vectors[i * n + i] = 1.0;
        }
        Self {
            values: vec![1.0; n],
            vectors,
        }
    }

    /// Of a symmetric row-major matrix of n rows (Golub and Van Loan, "Matrix Computations", section 8.5:
    /// cyclic by row).
    pub(super) fn of(matrix: &[f64], n: usize) -> Self {
        let mut a = matrix.to_vec();
        let mut vectors = Self::identity(n).vectors;
        for _ in 0..MAX_SWEEPS {
            let mut rotated = false;
            for p in 0..n {
                for q in p + 1..n {
                    if let Some((c, s)) = rotation(a[p * n + p], a[q * n + q], a[p * n + q]) {
                        rotate(&mut a, n, (p, q), (c, s));
                        turn_columns(&mut vectors, n, (p, q), (c, s));
                        rotated = true;
                    }
                }
            }
            if !rotated {
                break;
            }
        }
        let values = (0..n).map(|i| a[i * n + i]).collect();
        Self { values, vectors }
    }
}

/// Cosine and sine of the angle that makes the element off the diagonal zero; `None` where it is zero
/// beside the diagonal already, or no number.
fn rotation(app: f64, aqq: f64, apq: f64) -> Option<(f64, f64)> {
    let small = f64::EPSILON * 0.5 * (app.abs() * aqq.abs()).sqrt();
    if !(apq.abs() > small && apq.abs() > f64::MIN_POSITIVE) {
        return None;
    }
    let tau = (aqq - app) / (2.0 * apq);
    let root = (1.0 + tau * tau).sqrt();
    let t = if tau >= 0.0 {
        1.0 / (tau + root)
    } else {
        -1.0 / (root - tau)
    };
    let c = 1.0 / (1.0 + t * t).sqrt();
    Some((c, t * c))
}

/// A := J' A J.
fn rotate(a: &mut [f64], n: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    turn_columns(a, n, (p, q), (c, s));
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    a[p * n + q] = 0.0;
    a[q * n + p] = 0.0;
}

/// A := A J.
fn turn_columns(a: &mut [f64], n: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    for row in a.chunks_exact_mut(n) {
        let (x, y) = (row[p], row[q]);
        row[p] = c * x - s * y;
        row[q] = s * x + c * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_common::rng::Key;

    #[test]
    fn a_matrix_is_its_eigenvectors_stretched() {
        for n in 1..12 {
            let key = Key::new(n as u64);
            let mut matrix = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..=i {
                    let x = key.with(i as u64).normal(j as u64);
                    matrix[i * n + j] = x;
                    matrix[j * n + i] = x;
                }
            }
            let Eigen { values, vectors } = Eigen::of(&matrix, n);
            for i in 0..n {
                for j in 0..n {
                    let term = |k: usize| vectors[i * n + k] * values[k] * vectors[j * n + k];
                    let again: f64 = (0..n).map(term).sum();
                    assert!((again - matrix[i * n + j]).abs() < 1e-12);
                    let dot: f64 = (0..n)
                        .map(|k| vectors[k * n + i] * vectors[k * n + j])
                        .sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn closed_form_of_two_rows() {
        // Eigenvalues (a + c -+ sqrt((a - c)^2 + 4 b^2)) / 2 of [[a, b], [b, c]].
        let eigen = Eigen::of(&[4.0, 1.5, 1.5, 0.0], 2);
        let off = (eigen.values[0] - 4.5).abs() + (eigen.values[1] + 0.5).abs();
        assert!(off < 1e-15 * 4.5, "{:?}", eigen.values);
    }
}
