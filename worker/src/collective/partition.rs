//! Who owns which virtual shards and slices, and what is sent to whom. Pure arithmetic: no socket,
//! no clock, no thread.
//!
//! The V virtual shards are the leaves of a perfect binary tree (V is a power of two). A rank owns a
//! contiguous range of leaves and sums it as far as the tree allows: into the maximal aligned subtrees
//! of its range. The owner of a slice of the vector gets those partials of its slice from every rank
//! and adds them up the rest of the tree. Every addition is one node of the tree, `left + right`, so
//! the result does not depend on who owned the leaves.

use std::ops::Range;

/// A node of the tree: it covers leaves `index << level` to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subtree {
    pub level: u32,
    pub index: usize,
}

impl Subtree {
    pub fn leaves(self) -> Range<usize> {
        self.index << self.level..(self.index + 1) << self.level
    }

    /// The parent, if `self` and `next` are its left and right child.
    pub fn joined(self, next: Subtree) -> Option<Subtree> {
        let siblings = self.level == next.level
            && self.index.is_multiple_of(2)
            && next.index == self.index + 1;
        siblings.then_some(Subtree {
            level: self.level + 1,
            index: self.index / 2,
        })
    }
}

/// The leaves of `rank`: floor(rank V / W) to floor((rank + 1) V / W).
pub fn owned_leaves(leaves: usize, world_size: usize, rank: usize) -> Range<usize> {
    rank * leaves / world_size..(rank + 1) * leaves / world_size
}

/// The maximal aligned subtrees of a range of leaves, from left to right; at most 2 log2(V) of them.
pub fn subtrees(range: Range<usize>) -> Vec<Subtree> {
    let mut nodes = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let aligned = if start == 0 {
            usize::BITS - 1
        } else {
            start.trailing_zeros()
        };
        let level = aligned.min((range.end - start).ilog2());
        nodes.push(Subtree {
            level,
            index: start >> level,
        });
        start += 1 << level;
    }
    nodes
}

/// The part of a vector of `len` numbers that `rank` finishes.
pub fn slice(len: usize, world_size: usize, rank: usize) -> Range<usize> {
    let at = |rank: usize| (rank as u128 * len as u128 / world_size as u128) as usize;
    at(rank)..at(rank + 1)
}

/// Bytes of payload that `from` sends to the owner `to` of a slice: the partials of that slice and,
/// so that every rank can finish them, all partials of the 64-bit scalars.
pub fn partial_bytes(shape: Shape, world_size: usize, from: usize, to: usize) -> usize {
    let partials = subtrees(owned_leaves(shape.leaves, world_size, from)).len();
    let values = slice(shape.values, world_size, to).len();
    partials * (values * size_of::<f32>() + shape.scalars * size_of::<f64>())
}

/// What is summed: a vector of 32-bit numbers and a few 64-bit ones for each leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// V, a power of two.
    pub leaves: usize,
    pub values: usize,
    pub scalars: usize,
}

/// Says what is wrong with a world size for V leaves, if anything is.
pub fn check(leaves: usize, world_size: usize) -> Result<(), String> {
    if !leaves.is_power_of_two() {
        return Err(format!(
            "virtual_shards is {leaves}, expected a power of two"
        ));
    }
    if world_size == 0 || world_size > leaves {
        return Err(format!(
            "{world_size} ranks for {leaves} virtual shards, expected 1 to {leaves} ranks"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: [usize; 6] = [1, 2, 4, 8, 16, 64];

    #[test]
    fn every_leaf_has_one_owner_and_no_rank_is_idle() {
        for leaves in LEAVES {
            for world_size in 1..=leaves {
                let ranges: Vec<_> = (0..world_size)
                    .map(|rank| owned_leaves(leaves, world_size, rank))
                    .collect();
                assert_eq!(ranges[0].start, 0);
                assert_eq!(ranges[world_size - 1].end, leaves);
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(ranges.iter().all(|range| !range.is_empty()));
            }
        }
    }

    #[test]
    fn subtrees_tile_their_range_and_are_maximal() {
        for start in 0..64 {
            for end in start..=64 {
                let nodes = subtrees(start..end);
                let tiled: Vec<_> = nodes.iter().flat_map(|node| node.leaves()).collect();
                assert_eq!(tiled, (start..end).collect::<Vec<_>>());
                assert!(
                    nodes
                        .windows(2)
                        .all(|pair| pair[0].joined(pair[1]).is_none())
                );
                assert!(nodes.len() <= 12);
            }
        }
    }

    #[test]
    fn subtrees_of_a_crooked_range() {
        let nodes: Vec<_> = subtrees(1..7)
            .into_iter()
            .map(|node| (node.level, node.index))
            .collect();
        assert_eq!(nodes, [(0, 1), (1, 1), (1, 2), (0, 6)]);
    }

    #[test]
    fn partials_of_all_ranks_finish_in_one_root() {
        for leaves in LEAVES {
            for world_size in 1..=leaves {
                let mut stack: Vec<Subtree> = Vec::new();
                for rank in 0..world_size {
                    for node in subtrees(owned_leaves(leaves, world_size, rank)) {
                        let mut node = node;
                        while let Some(parent) = stack.last().and_then(|left| left.joined(node)) {
                            stack.pop();
                            node = parent;
                        }
                        stack.push(node);
                    }
                }
                assert_eq!(stack.len(), 1);
                assert_eq!(stack[0].leaves(), 0..leaves);
            }
        }
    }

    #[test]
    fn slices_tile_vectors_shorter_than_the_world_too() {
        for len in [0, 1, 2, 3, 7, 100] {
            for world_size in 1..=9 {
                let tiled: Vec<_> = (0..world_size)
                    .flat_map(|rank| slice(len, world_size, rank))
                    .collect();
                assert_eq!(tiled, (0..len).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn worlds_that_do_not_fit_are_refused() {
        assert!(check(4, 3).is_ok());
        assert_eq!(
            check(4, 5).unwrap_err(),
            "5 ranks for 4 virtual shards, expected 1 to 4 ranks"
        );
        assert!(check(4, 0).is_err());
        assert_eq!(
            check(6, 2).unwrap_err(),
            "virtual_shards is 6, expected a power of two"
        );
    }
}
