//! How far a trial's reports have come: the order in which points of its learning curve count.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::AttemptId;

/// Where a point lies: by its epoch first, then by its step; the end of an epoch comes after what lies within it.
///
/// Steps alone would not do: a program that goes on from files of its own may number its epochs and count its steps
/// anew in each attempt.
pub type Position = (u64, u64, bool);

/// The newest point of a trial that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub epoch: u64,
    pub step: u64,
    pub end_of_epoch: bool,
    /// Who told it.
    pub attempt: AttemptId,
    /// At the end of this epoch every objective has had its value.
    #[serde(default)]
    pub whole: bool,
}

impl Reported {
    pub fn position(&self) -> Position {
        (self.epoch, self.step, self.end_of_epoch)
    }

    /// Whether a point that comes now adds to what was told, rather than telling it once more.
    ///
    /// Reports of one epoch belong together, so that one attempt may tell several of them, even under one step.
    /// Another attempt tells an epoch anew that has had its result: that counts once, whatever its steps are. Where
    /// the epoch has none yet (the attempt ended between two reports), its `objective` is what was missing.
    pub fn adds(&self, point: Position, attempt: AttemptId, objective: bool) -> bool {
        let (epoch, _, end) = point;
        let same_end = end && self.end_of_epoch && epoch == self.epoch;
        match attempt == self.attempt {
            true => point >= self.position(),
            false if same_end && self.whole => false,
            false => point > self.position() || (same_end && objective),
        }
    }
}

/// Reports of an attempt that told once more what had counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// The first and the last epoch of them.
    pub from: u64,
    pub to: u64,
    /// People were told.
    #[serde(default)]
    pub told: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(whole: bool) -> Reported {
        Reported {
            epoch: 5,
            step: 50,
            end_of_epoch: true,
            attempt: AttemptId(1),
            whole,
        }
    }

    #[test]
    fn points_count_in_the_order_of_their_epochs() {
        let (own, other) = (AttemptId(1), AttemptId(2));
        for whole in [false, true] {
            let newest = newest(whole);
            // A later epoch, whatever its step.
            assert!(newest.adds((6, 1, true), other, true));
            assert!(newest.adds((5, 51, false), other, false));
            // An earlier one, whatever its step.
            for attempt in [own, other] {
                assert!(!newest.adds((4, 900, true), attempt, true));
                assert!(!newest.adds((5, 49, true), attempt, false));
                assert!(!newest.adds((5, 50, false), attempt, true));
            }
            // One attempt's reports of an epoch are merged, under one step, too.
            assert!(newest.adds((5, 50, true), own, true));
            assert!(newest.adds((5, 60, true), own, false));
        }
    }

    #[test]
    fn an_epoch_that_has_its_result_counts_once() {
        let other = AttemptId(2);
        assert!(!newest(true).adds((5, 50, true), other, true));
        assert!(!newest(true).adds((5, 60, true), other, true));
        // What the attempt before did not come to tell.
        assert!(newest(false).adds((5, 50, true), other, true));
        assert!(newest(false).adds((5, 9, true), other, true));
        assert!(!newest(false).adds((5, 50, true), other, false));
    }
}
