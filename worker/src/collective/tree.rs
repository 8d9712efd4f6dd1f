//! Sums leaves up the perfect binary tree while they come, in memory for at most log2(V) + 1 vectors
//! (2 log2(V) on a rank whose range is crooked).

use std::ops::Range;

use rayon::prelude::*;

use super::partition::{Shape, Subtree};

/// Numbers that one task adds; vectors shorter than two of them are added on the caller's thread.
const ADD_BLOCK: usize = 1 << 16;

/// The sum over virtual shards of one vector and a few 64-bit scalars, complete up to the subtrees
/// that have been seen so far.
#[derive(Debug)]
pub struct TreeSum {
    shape: Shape,
    range: Range<usize>,
    next: usize,
    nodes: Vec<Node>,
    free: Vec<Vec<f32>>,
}

/// The partial sum of one subtree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Subtree,
    pub(crate) values: Vec<f32>,
    pub(crate) scalars: Vec<f64>,
}

impl TreeSum {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            range: 0..0,
            next: 0,
            nodes: Vec::new(),
            free: Vec::new(),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Forgets what was summed; the leaves of `range` come next, in order. Buffers are kept.
    pub fn begin(&mut self, range: Range<usize>) {
        self.next = range.start;
        self.range = range;
        self.free
            .extend(self.nodes.drain(..).map(|node| node.values));
    }

    /// Adds the next leaf. `fill` gets its vector, whose content is left over from earlier use and
    /// must be overwritten, and its scalars, which are 0. A leaf whose `fill` fails is not added.
    ///
    /// # Panics
    /// If every leaf of the range has been added already.
    pub fn add_leaf<T, E>(
        &mut self,
        fill: impl FnOnce(&mut [f32], &mut [f64]) -> Result<T, E>,
    ) -> Result<T, E> {
        assert!(self.next < self.range.end, "all leaves were added already");
        let len = self.shape.values;
        let mut values = self.free.pop().unwrap_or_else(|| vec![0.0; len]);
        let mut scalars = vec![0.0; self.shape.scalars];
        let filled = match fill(&mut values, &mut scalars) {
            Ok(filled) => filled,
            Err(error) => {
                self.free.push(values);
                return Err(error);
            }
        };
        let place = Subtree {
            level: 0,
            index: self.next,
        };
        self.next += 1;
        let spare = push(
            &mut self.nodes,
            Node {
                place,
                values,
                scalars,
            },
        );
        self.free.extend(spare);
        Ok(filled)
    }

    /// The sum over all V leaves, once a group has completed it (or this rank owns them all).
    pub fn root(&self) -> Option<(&[f32], &[f64])> {
        match self.nodes.as_slice() {
            [node] if node.place.leaves() == (0..self.shape.leaves) => {
                Some((&node.values, &node.scalars))
            }
            _ => None,
        }
    }

    /// The same, for whoever adds to it what does not come from leaves.
    pub fn root_mut(&mut self) -> Option<(&mut [f32], &[f64])> {
        let all = 0..self.shape.leaves;
        match self.nodes.as_mut_slice() {
            [node] if node.place.leaves() == all => Some((&mut node.values, &node.scalars)),
            _ => None,
        }
    }

    /// The partials so far, if every leaf of the range was added.
    pub(crate) fn partials(&self) -> Option<&[Node]> {
        (self.next == self.range.end).then_some(&self.nodes)
    }

    /// Turns this rank's partials into the root: `write` gets the vector to fill.
    pub(crate) fn finish<E>(
        &mut self,
        scalars: Vec<f64>,
        write: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.free
            .extend(self.nodes.drain(..).map(|node| node.values));
        let len = self.shape.values;
        let mut values = self.free.pop().unwrap_or_else(|| vec![0.0; len]);
        write(&mut values)?;
        let place = Subtree {
            level: self.shape.leaves.ilog2(),
            index: 0,
        };
        self.nodes.push(Node {
            place,
            values,
            scalars,
        });
        Ok(())
    }
}

/// Adds a node on the right and joins siblings as far as possible; returns vectors no longer needed.
pub(crate) fn push(nodes: &mut Vec<Node>, mut node: Node) -> Vec<Vec<f32>> {
    let mut spare = Vec::new();
    while let Some(place) = nodes.last().and_then(|left| left.place.joined(node.place)) {
        let Some(mut left) = nodes.pop() else { break };
        add(&mut left.values, &node.values);
        for (left, right) in left.scalars.iter_mut().zip(&node.scalars) {
            *left += right;
        }
        left.place = place;
        spare.push(std::mem::replace(&mut node, left).values);
    }
    nodes.push(node);
    spare
}

/// left <- left + right. Each number is added by itself, so the split into blocks changes nothing.
fn add(left: &mut [f32], right: &[f32]) {
    let serial = |left: &mut [f32], right: &[f32]| {
        for (left, right) in left.iter_mut().zip(right) {
            *left += right;
        }
    };
    if left.len() < 2 * ADD_BLOCK {
        serial(left, right);
    } else {
        left.par_chunks_mut(ADD_BLOCK)
            .zip(right.par_chunks(ADD_BLOCK))
            .for_each(|(left, right)| serial(left, right));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::collective::partition;
    use trainyard_common::rng::Key;

    /// Leaves of very different sizes, so that the order of additions shows in the bits.
    pub(crate) fn leaf(seed: u64, leaf: usize, at: usize) -> f64 {
        let key = Key::new(seed).with(leaf as u64);
        (key.unit(at as u64) - 0.5) * 2f64.powi(key.below(at as u64 + 1_000_000, 40) as i32 - 20)
    }

    pub(crate) fn filled(seed: u64, shape: Shape, range: Range<usize>) -> TreeSum {
        let mut sums = TreeSum::new(shape);
        sums.begin(range.clone());
        for number in range {
            let result: Result<(), ()> = sums.add_leaf(|values, scalars| {
                for (at, value) in values.iter_mut().enumerate() {
                    *value = leaf(seed, number, at) as f32;
                }
                for (at, scalar) in scalars.iter_mut().enumerate() {
                    *scalar = leaf(seed ^ 1, number, at);
                }
                Ok(())
            });
            result.unwrap();
        }
        sums
    }

    /// The definition: the sum of a node is the sum of its left plus that of its right half.
    pub(crate) fn definition(leaves: Range<usize>, number: &impl Fn(usize) -> f32) -> f32 {
        if leaves.len() == 1 {
            return number(leaves.start);
        }
        let middle = leaves.start + leaves.len() / 2;
        definition(leaves.start..middle, number) + definition(middle..leaves.end, number)
    }

    #[test]
    fn sums_as_the_tree_is_defined() {
        for leaves in [1usize, 2, 4, 8, 16] {
            let shape = Shape {
                leaves,
                values: 50,
                scalars: 2,
            };
            let sums = filled(3, shape, 0..leaves);
            let (values, scalars) = sums.root().unwrap();
            for (at, value) in values.iter().enumerate() {
                let expected = definition(0..leaves, &|number| leaf(3, number, at) as f32);
                assert_eq!(value.to_bits(), expected.to_bits());
            }
            assert_eq!(scalars.len(), 2);
        }
    }

    #[test]
    fn holds_few_vectors_and_reuses_them() {
        let shape = Shape {
            leaves: 64,
            values: 3,
            scalars: 0,
        };
        let mut sums = filled(1, shape, 0..64);
        assert!(sums.nodes.len() + sums.free.len() <= 7);
        for _ in 0..10 {
            sums.begin(5..63);
            for _ in 5..63 {
                sums.add_leaf(|_, _| Ok::<_, ()>(())).unwrap();
            }
        }
        assert!(sums.nodes.len() + sums.free.len() <= 13);
        assert_eq!(
            sums.partials().unwrap().len(),
            partition::subtrees(5..63).len()
        );
    }

    #[test]
    fn large_vectors_are_added_the_same() {
        let right: Vec<f32> = (0..3 * ADD_BLOCK).map(|at| leaf(1, 0, at) as f32).collect();
        let mut left: Vec<f32> = (0..3 * ADD_BLOCK).map(|at| leaf(1, 1, at) as f32).collect();
        let expected: Vec<f32> = left.iter().zip(&right).map(|(l, r)| l + r).collect();
        add(&mut left, &right);
        assert_eq!(left, expected);
    }

    #[test]
    fn a_leaf_that_fails_is_not_added() {
        let shape = Shape {
            leaves: 2,
            values: 1,
            scalars: 1,
        };
        let mut sums = TreeSum::new(shape);
        sums.begin(0..1);
        assert_eq!(sums.add_leaf(|_, _| Err::<(), _>("no")), Err("no"));
        assert!(sums.partials().is_none());
    }
}
