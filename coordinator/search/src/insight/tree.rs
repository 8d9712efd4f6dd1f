//! A regression tree as the list of its leaves, and integrals over them.

/// Leaves that fill the unit cube and do not overlap.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) leaves: Vec<Leaf>,
}

/// How an axis is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// One value only.
    Fixed,
    /// Below and above a threshold.
    Line,
    /// Into two sets of so many cells.
    Cells(u32),
}

/// The part of an axis that a leaf covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// From the lower one to the one below the upper.
    Range(f64, f64),
    /// Bit k stands for cell k.
    Cells(u64),
}

/// A box of the unit cube, and the mean of the rows in it.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) value: f64,
    /// Its share of the cube.
    pub(super) weight: f64,
    /// Of the axes that it does not cover whole, in their order.
    pub(super) bounds: Vec<(usize, Bound)>,
}

impl Tree {
    /// The integral over the cube.
    pub(super) fn mean(&self) -> f64 {
        let leaves = self.leaves.iter();
        leaves.map(|leaf| leaf.weight * leaf.value).sum()
    }

    /// At each of the places of an axis, which ascend: the integral over all other axes.
    pub(super) fn marginal(&self, axis: usize, scale: Scale, places: &[f64]) -> Vec<f64> {
        let mut base = 0.0;
        let mut marginal = vec![0.0; places.len()];
        for leaf in &self.leaves {
            let mass = leaf.weight * leaf.value;
            match leaf.bound(axis) {
                None => base += mass,
                Some(bound) => {
                    let height = mass / bound.share(scale);
                    bound.add(scale, places, |at| marginal[at] += height);
                }
            }
        }
        marginal.iter_mut().for_each(|value| *value += base);
        marginal
    }

    /// The same for two axes, the places of the second fastest.
    pub(super) fn marginal_of_two(
        &self,
        axes: [usize; 2],
        scales: [Scale; 2],
        places: [&[f64]; 2],
    ) -> Vec<f64> {
        let [first, second] = places;
        let mut marginal = vec![0.0; first.len() * second.len()];
        let mut base = 0.0;
        let mut rows = vec![0.0; first.len()];
        let mut columns = vec![0.0; second.len()];
        for leaf in &self.leaves {
            let mass = leaf.weight * leaf.value;
            let bounds = axes.map(|axis| leaf.bound(axis));
            match bounds {
                [None, None] => base += mass,
                [Some(a), None] => {
                    let height = mass / a.share(scales[0]);
                    a.add(scales[0], first, |row| rows[row] += height);
                }
                [None, Some(b)] => {
                    let height = mass / b.share(scales[1]);
                    b.add(scales[1], second, |column| columns[column] += height);
                }
                [Some(a), Some(b)] => {
                    let height = mass / a.share(scales[0]) / b.share(scales[1]);
                    a.add(scales[0], first, |row| {
                        let from = row * second.len();
                        b.add(scales[1], second, |column| {
                            marginal[from + column] += height;
                        });
                    });
                }
            }
        }
        for (row, cells) in marginal.chunks_mut(second.len().max(1)).enumerate() {
            for (cell, column) in cells.iter_mut().zip(&columns) {
                *cell += base + rows[row] + column;
            }
        }
        marginal
    }

    /// The thresholds on an axis, ascending, with both ends of the axis around them.
    pub(super) fn edges(&self, axis: usize) -> Vec<f64> {
        let mut edges = vec![0.0, 1.0];
        for leaf in &self.leaves {
            if let Some(Bound::Range(low, high)) = leaf.bound(axis) {
                edges.extend([low, high]);
            }
        }
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        edges
    }
}

impl Scale {
    /// The cell at a coordinate.
    pub(super) fn cell(cells: u32, coordinate: f64) -> u32 {
        ((coordinate * f64::from(cells)) as u32).min(cells.saturating_sub(1))
    }
}

impl Bound {
    /// The share of its axis.
    pub(super) fn share(self, scale: Scale) -> f64 {
        match (self, scale) {
            (Self::Range(low, high), _) => high - low,
            (Self::Cells(set), Scale::Cells(cells)) => {
                f64::from(set.count_ones()) / f64::from(cells)
            }
            (Self::Cells(_), _) => 1.0,
        }
    }

    /// Adds to what stands at each of the places, which ascend, where they lie inside.
    pub(super) fn add(self, scale: Scale, places: &[f64], mut add: impl FnMut(usize)) {
        match (self, scale) {
            (Self::Range(low, high), _) => {
                let from = places.partition_point(|&place| place < low);
                // The upper end of the axis belongs to its last box.
                let to = places.partition_point(|&place| place < high || high >= 1.0);
                (from..to).for_each(add);
            }
            (Self::Cells(set), Scale::Cells(cells)) => {
                for (at, &place) in places.iter().enumerate() {
                    if set >> Scale::cell(cells, place) & 1 == 1 {
                        add(at);
                    }
                }
            }
            (Self::Cells(_), _) => (0..places.len()).for_each(add),
        }
    }
}

impl Leaf {
    pub(super) fn bound(&self, axis: usize) -> Option<Bound> {
        let at = self.bounds.binary_search_by_key(&axis, |(axis, _)| *axis);
        at.ok().map(|at| self.bounds[at].1)
    }
}
