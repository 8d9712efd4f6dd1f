//! Logical time: results in an order that does not depend on how fast machines were. Pure.
//!
//! W logical workers run one stint at a time: a trial from the resource that it has until its next rung
//! or its end. A stint's result comes at its logical start plus the resource that it used; a trial that
//! ends before its rung does so one unit after the last resource that it reported. Results are applied in
//! the order (time, trial), each held back until no stint under way can still have an earlier one. A new
//! stint starts at the time of the result that made its logical worker free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trainyard_common::ids::TrialId;

use crate::search::Outcome;

/// One trial on a logical worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stint {
    /// Logical time.
    pub start: u64,
    /// The resource that the trial had when it began.
    pub from: u64,
    /// Until which it runs; `None`: to the end of training.
    pub until: Option<u64>,
    /// The newest resource that was reported.
    pub reported: u64,
    /// Its value at the rung, once told; inside: none that counts.
    #[serde(default, with = "told_value")]
    pub rung: Option<Option<f64>>,
    /// Its attempt has ended at the rung. Until then the trial may still end there by itself.
    #[serde(default)]
    pub left: bool,
    /// How the trial ended, once it has.
    pub ended: Option<Outcome>,
    /// No rung lies behind this one: the result is the trial's end.
    pub last: bool,
}

/// JSON has one `null` for both kinds of nothing; a list tells them apart.
mod told_value {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        told: &Option<Option<f64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        told.map(|value| [value]).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<f64>>, D::Error> {
        let told = Option::<[Option<f64>; 1]>::deserialize(deserializer)?;
        Ok(told.map(|[value]| value))
    }
}

impl Stint {
    pub fn new(start: u64, from: u64, until: Option<u64>, last: bool) -> Self {
        Self {
            start,
            from,
            until,
            reported: from,
            rung: None,
            left: false,
            ended: None,
            last,
        }
    }

    /// Whether all that it came to is known.
    fn ready(&self) -> bool {
        self.ended.is_some() || (self.rung.is_some() && self.left && !self.last)
    }

    /// The time of its result, or the earliest at which it can still have one.
    fn time(&self) -> u64 {
        let at_rung = self.until.is_some_and(|until| self.reported >= until);
        let used = match self.until {
            Some(until) if at_rung || self.rung.is_some() => until,
            Some(until) => self.reported.saturating_add(1).min(until),
            None => self.reported.saturating_add(1),
        };
        self.start.saturating_add(used.saturating_sub(self.from))
    }
}

/// The stint whose result is the next one of all, and its time, if that is certain.
pub fn due(stints: &BTreeMap<TrialId, Stint>) -> Option<(u64, TrialId)> {
    let first = stints
        .iter()
        .map(|(trial, stint)| (stint.time(), *trial, stint.ready()));
    let (time, trial, ready) = first.min()?;
    ready.then_some((time, trial))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stints(list: Vec<Stint>) -> BTreeMap<TrialId, Stint> {
        (0u32..).map(TrialId).zip(list).collect()
    }

    #[test]
    fn a_result_is_held_back_until_nobody_can_be_earlier() {
        let mut running = stints(vec![
            Stint::new(0, 0, Some(3), false),
            Stint::new(0, 0, Some(3), false),
        ]);
        let at = |running: &mut BTreeMap<_, Stint>, trial: u32, reported: u64| {
            running.get_mut(&TrialId(trial)).unwrap().reported = reported;
        };
        at(&mut running, 1, 3);
        let told = |running: &mut BTreeMap<_, Stint>, trial: u32, value: Option<f64>| {
            let stint = running.get_mut(&TrialId(trial)).unwrap();
            (stint.rung, stint.left) = (Some(value), true);
        };
        told(&mut running, 1, Some(0.5));
        // Trial 0 may still fail after one, two or three epochs; at the same time it is the first.
        for reported in 0..3 {
            at(&mut running, 0, reported);
            assert_eq!(due(&running), None, "{reported}");
        }
        at(&mut running, 0, 3);
        told(&mut running, 0, None);
        assert_eq!(due(&running), Some((3, TrialId(0))));
        running.remove(&TrialId(0));
        assert_eq!(due(&running), Some((3, TrialId(1))));
    }

    #[test]
    fn a_value_alone_does_not_tell_whether_the_trial_ends_there() {
        let mut stint = Stint::new(0, 0, Some(3), false);
        (stint.reported, stint.rung) = (3, Some(Some(0.5)));
        assert_eq!(due(&stints(vec![stint.clone()])), None);
        let ended = Stint {
            ended: Some(Outcome::Completed { value: Some(0.5) }),
            ..stint.clone()
        };
        let left = Stint {
            left: true,
            ..stint
        };
        for known in [ended, left] {
            assert_eq!(due(&stints(vec![known])), Some((3, TrialId(0))));
        }
    }

    #[test]
    fn times_follow_from_the_resource_alone() {
        let failed = |stint: Stint| Stint {
            ended: Some(Outcome::Failed),
            ..stint
        };
        // On from epoch 3 at time 7 to the last rung at 9: a failure in the fifth epoch comes at 9.
        let mut stint = Stint::new(7, 3, Some(9), true);
        stint.reported = 4;
        let mut running = stints(vec![failed(stint.clone())]);
        assert_eq!(due(&running), Some((9, TrialId(0))));
        // At the last rung the value alone is not the end.
        stint.reported = 9;
        stint.rung = Some(Some(0.1));
        running.insert(TrialId(0), stint.clone());
        assert_eq!(due(&running), None);
        running.insert(TrialId(0), failed(stint));
        assert_eq!(due(&running), Some((13, TrialId(0))));
        // Without rungs an end is noticed one unit after the last report.
        let mut whole = Stint::new(0, 0, None, true);
        whole.reported = 5;
        assert_eq!(due(&stints(vec![failed(whole)])), Some((6, TrialId(0))));
    }

    #[test]
    fn a_value_that_does_not_count_is_stored_as_such() {
        for rung in [None, Some(None), Some(Some(0.1))] {
            let stint = Stint {
                rung,
                ..Stint::new(1, 2, Some(3), false)
            };
            let text = serde_json::to_string(&stint).unwrap();
            assert_eq!(serde_json::from_str::<Stint>(&text).unwrap(), stint);
        }
    }
}
