//! Triangular matrices: factor, extension, solves, inverse. Sums are taken in an order that the source fixes,
//! so that every machine has the same bits.

/// Right-hand sides that are solved together.
pub(super) const LANES: usize = 8;

/// A lower triangular matrix, its rows one after the other; row i has i + 1 entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Factor {
    rows: usize,
    data: Vec<f64>,
}

/// Where a row begins; also the number of entries of so many rows.
pub(super) const fn start(row: usize) -> usize {
    row * (row + 1) / 2
}

impl Factor {
    /// Cholesky's factor of a matrix given as its lower triangle. In exact arithmetic no pivot of K + eta I is
    /// below eta: pivots that rounding made smaller are raised to this `floor`.
    pub(super) fn cholesky(mut lower: Vec<f64>, rows: usize, floor: f64) -> Self {
        for row in 0..rows {
            let (above, rest) = lower.split_at_mut(start(row));
            let Some(current) = rest.get_mut(..=row) else {
                break;
            };
            eliminate(above, current, floor);
        }
        Self { rows, data: lower }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.data[start(row)..start(row + 1)]
    }

    /// One more row and column of the factored matrix; `row` ends with the diagonal's entry.
    pub(super) fn append(&mut self, row: &[f64], floor: f64) {
        let at = self.data.len();
        self.data.extend_from_slice(row);
        let (above, current) = self.data.split_at_mut(at);
        eliminate(above, current, floor);
        self.rows += 1;
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        self.data.truncate(start(self.rows));
    }

    /// x := L^-1 x.
    pub(super) fn forward(&self, x: &mut [f64]) {
        for row in 0..self.rows.min(x.len()) {
            let entries = self.row(row);
            let sum = x[row] - dot(&entries[..row], &x[..row]);
            x[row] = sum / entries[row];
        }
    }

    /// x := L^-T x.
    pub(super) fn backward(&self, x: &mut [f64]) {
        for row in (0..self.rows.min(x.len())).rev() {
            let entries = self.row(row);
            let found = x[row] / entries[row];
            x[row] = found;
            for (x, entry) in x[..row].iter_mut().zip(&entries[..row]) {
                *x -= found * entry;
            }
        }
    }

    /// x := L^-1 x for several right-hand sides, entry i of each side by side.
    pub(super) fn forward_batch(&self, x: &mut [[f64; LANES]]) {
        for row in 0..self.rows.min(x.len()) {
            let entries = self.row(row);
            let (before, rest) = x.split_at_mut(row);
            let Some(current) = rest.first_mut() else {
                break;
            };
            let mut sums = *current;
            for (entry, solved) in entries[..row].iter().zip(before.iter()) {
                for (sum, solved) in sums.iter_mut().zip(solved) {
                    *sum -= entry * solved;
                }
            }
            for (found, sum) in current.iter_mut().zip(&sums) {
                *found = sum / entries[row];
            }
        }
    }

    /// ln det (L L^T) / 2.
    pub(super) fn half_log_det(&self) -> f64 {
        let pivots = (0..self.rows).map(|row| self.row(row)[row]);
        pivots.map(libm::log).sum()
    }

    /// The lower triangle of (L L^T)^-1.
    pub(super) fn inverse(&self) -> Vec<f64> {
        let inverse = self.inverted();
        // (L L^T)^-1 = M^T M with M = L^-1: row k of M adds to all entries up to (k, k).
        let mut product = vec![0.0; start(self.rows)];
        for four in (0..self.rows).step_by(4) {
            let end = self.rows.min(four + 4);
            for i in 0..end {
                let target = &mut product[start(i)..start(i + 1)];
                if i <= four && end == four + 4 {
                    let rows = [0, 1, 2, 3].map(|k| &inverse[start(four + k)..]);
                    add_four(target, rows.map(|row| row[i]), rows);
                } else {
                    for k in four.max(i)..end {
                        let row = &inverse[start(k)..start(k + 1)];
                        add(target, row[i], row);
                    }
                }
            }
        }
        product
    }

    /// L^-1 by rows: L_ii M_i = e_i - sum over k < i of L_ik M_k.
    fn inverted(&self) -> Vec<f64> {
        let mut inverse = vec![0.0; start(self.rows)];
        for i in 0..self.rows {
            let entries = self.row(i);
            let (before, rest) = inverse.split_at_mut(start(i));
            let target = &mut rest[..=i];
            let mut k = 0;
            while k + 4 <= i {
                // Rows k to k + 3 are as long as k + 1 to k + 4: the ends beyond the first come singly.
                let rows = [0, 1, 2, 3].map(|at| &before[start(k + at)..start(k + at + 1)]);
                let factors = [0, 1, 2, 3].map(|at| -entries[k + at]);
                add_four(&mut target[..=k], factors, rows);
                for at in 1..4 {
                    add(&mut target[k + 1..], factors[at], &rows[at][k + 1..]);
                }
                k += 4;
            }
            for k in k..i {
                let row = &before[start(k)..start(k + 1)];
                add(&mut *target, -entries[k], row);
            }
            target[i] = 1.0;
            for entry in target.iter_mut() {
                *entry /= entries[i];
            }
        }
        inverse
    }
}

/// Turns a row of the matrix into a row of the factor, given the rows above.
fn eliminate(above: &[f64], current: &mut [f64], floor: f64) {
    let last = current.len() - 1;
    for column in 0..last {
        let other = &above[start(column)..start(column + 1)];
        let sum = current[column] - dot(&other[..column], &current[..column]);
        current[column] = sum / other[column];
    }
    let pivot = current[last] - dot(&current[..last], &current[..last]);
    current[last] = pivot.max(floor).sqrt();
}

/// Eight partial sums, entry i in sum i modulo 8, added in pairs.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
}

/// target += factor * row, as far as both go.
pub(super) fn add(target: &mut [f64], factor: f64, row: &[f64]) {
    for (target, entry) in target.iter_mut().zip(row) {
        *target += factor * entry;
    }
}

/// The same with four rows at once; each row is at least as long as the target.
fn add_four(target: &mut [f64], factors: [f64; 4], rows: [&[f64]; 4]) {
    let length = target.len();
    let [a, b, c, d] = rows.map(|row| &row[..length]);
    for i in 0..length {
        let first = factors[0] * a[i] + factors[1] * b[i];
        target[i] += first + (factors[2] * c[i] + factors[3] * d[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_common::rng::Key;

    /// The lower triangle of A A^T + I for a random A.
    fn matrix(rows: usize) -> Vec<f64> {
        let key = Key::new(5);
        let at = |i: usize, j: usize| key.with(i as u64).normal(j as u64);
        let mut lower = Vec::new();
        for i in 0..rows {
            for j in 0..=i {
                let sum: f64 = (0..rows).map(|k| at(i, k) * at(j, k)).sum();
                lower.push(sum + f64::from(u8::from(i == j)));
            }
        }
        lower
    }

    #[test]
    fn a_factor_by_hand() {
        // [4 2; 2 5] = [2 0; 1 2] [2 1; 0 2], its inverse [5 -2; -2 4] / 16.
        let factor = Factor::cholesky(vec![4.0, 2.0, 5.0], 2, 1e-12);
        assert_eq!(factor.data, [2.0, 1.0, 2.0]);
        assert_eq!(factor.inverse(), [5.0 / 16.0, -2.0 / 16.0, 4.0 / 16.0]);
        assert!((factor.half_log_det() - 16f64.ln() / 2.0).abs() < 1e-15);
        let mut x = [2.0, 5.0];
        factor.forward(&mut x);
        assert_eq!(x, [1.0, 2.0]);
        factor.backward(&mut x);
        assert_eq!(x, [0.0, 1.0]);
    }

    #[test]
    fn a_factor_multiplies_to_its_matrix_and_the_inverse_inverts() {
        for rows in [1, 3, 8, 21, 40] {
            let lower = matrix(rows);
            let full = |of: &[f64], i: usize, j: usize| of[start(i.max(j)) + i.min(j)];
            let factor = Factor::cholesky(lower.clone(), rows, 1e-12);
            let inverse = factor.inverse();
            for i in 0..rows {
                for j in 0..rows {
                    let product: f64 = (0..rows)
                        .map(|k| full(&lower, i, k) * full(&inverse, k, j))
                        .sum();
                    let one = f64::from(u8::from(i == j));
                    assert!((product - one).abs() < 1e-8, "{rows} {i} {j}: {product}");
                }
            }
            let mut x: Vec<f64> = (0..rows).map(|i| i as f64 - 3.0).collect();
            let expected: Vec<f64> = (0..rows)
                .map(|i| (0..rows).map(|j| full(&inverse, i, j) * x[j]).sum())
                .collect();
            let mut batch: Vec<[f64; LANES]> = x.iter().map(|x| [*x; LANES]).collect();
            factor.forward(&mut x);
            factor.forward_batch(&mut batch);
            for (x, lanes) in x.iter().zip(&batch) {
                assert!(lanes.iter().all(|lane| (lane - x).abs() < 1e-12));
            }
            factor.backward(&mut x);
            for (x, expected) in x.iter().zip(&expected) {
                assert!((x - expected).abs() < 1e-8, "{x} {expected}");
            }
        }
    }

    #[test]
    fn appended_rows_have_the_bits_of_a_factor_of_all() {
        let lower = matrix(20);
        let whole = Factor::cholesky(lower.clone(), 20, 1e-12);
        let mut grown = Factor::cholesky(lower[..start(12)].to_vec(), 12, 1e-12);
        for row in 12..20 {
            grown.append(&lower[start(row)..start(row + 1)], 1e-12);
        }
        assert_eq!(grown.data, whole.data);
        grown.truncate(12);
        assert_eq!((grown.rows(), grown.data.len()), (12, start(12)));
    }

    #[test]
    fn a_singular_matrix_has_the_floor_as_pivot() {
        let factor = Factor::cholesky(vec![1.0, 1.0, 1.0], 2, 1e-8);
        assert_eq!(factor.data, [1.0, 1.0, 1e-4]);
    }
}
