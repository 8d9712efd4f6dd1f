//! The group of a trial that has one rank.

use super::{CollectiveError, Group, TreeSum};

/// A world of one: nothing is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalGroup;

impl Group for LocalGroup {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn tree_sum(&mut self, sums: &mut TreeSum) -> Result<(), CollectiveError> {
        match sums.root() {
            Some(_) => Ok(()),
            None => Err(CollectiveError::Membership {
                reason: format!(
                    "a group of one must own all {} virtual shards",
                    sums.shape().leaves
                ),
            }),
        }
    }

    fn all_gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(vec![bytes.to_vec()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::{partition::Shape, tree::tests::filled};

    #[test]
    fn needs_every_leaf() {
        let shape = Shape {
            leaves: 4,
            values: 2,
            scalars: 1,
        };
        let mut group = LocalGroup;
        assert!(group.tree_sum(&mut filled(1, shape, 0..4)).is_ok());
        assert!(group.tree_sum(&mut filled(1, shape, 0..3)).is_err());
        assert_eq!(group.all_gather(b"x").unwrap(), [b"x"]);
        let mut bytes = b"y".to_vec();
        group.broadcast(0, &mut bytes).unwrap();
        assert_eq!(bytes, b"y");
        assert!(group.broadcast(1, &mut bytes).is_err());
    }
}
