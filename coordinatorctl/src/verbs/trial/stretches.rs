//! Which stretches of a trial's training can be trained once more, and on which processor each was. Pure.

use trainyard_worker::train::TrainedOn;

/// From one stored checkpoint to the next, by steps; the beginning of the trial is one as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Stretch {
    pub(super) fn steps(self) -> u64 {
        self.to - self.from
    }
}

/// The newest stretches that have at most `steps` steps together, newest first; one that does not fit is
/// left out. `stored`: steps of the checkpoints, ascending. `since`: nothing before this step can be
/// trained again; 0 is where the trial begins.
///
/// # Errors
/// Why there is none.
pub(super) fn choose(stored: &[u64], since: u64, steps: u64) -> Result<Vec<Stretch>, String> {
    let begin = (since == 0).then_some(0);
    let mut ends: Vec<u64> = begin.into_iter().chain(stored.iter().copied()).collect();
    ends.retain(|&step| step >= since);
    ends.dedup();
    let all = || {
        ends.windows(2).map(|pair| Stretch {
            from: pair[0],
            to: pair[1],
        })
    };
    let mut left = steps;
    let mut chosen = Vec::new();
    for stretch in all().rev() {
        if stretch.steps() <= left {
            left -= stretch.steps();
            chosen.push(stretch);
        }
    }
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    Err(match all().min_by_key(|stretch| stretch.steps()) {
        Some(shortest) => format!(
            "the shortest stretch between stored checkpoints is from step {} to {}: --replay {} trains it again",
            shortest.from,
            shortest.to,
            shortest.steps()
        ),
        None if since > 0 => format!(
            "hyperparameters or weights came from another trial before step {since}, and since then fewer \
             than two checkpoints are stored: checkpoint_storage.keep_last keeps more"
        ),
        None => "no checkpoint is stored".to_owned(),
    })
}

/// The kinds of processor on which a stretch was trained, in order; `None` stands for steps of which it was
/// not kept.
pub(super) fn processors(stretch: Stretch, trained_on: &[TrainedOn]) -> Vec<Option<&str>> {
    let mut kinds = Vec::new();
    let first = trained_on.first().map_or(u64::MAX, |first| first.from_step);
    if stretch.from < first {
        kinds.push(None);
    }
    for (at, entry) in trained_on.iter().enumerate() {
        let end = trained_on
            .get(at + 1)
            .map_or(u64::MAX, |next| next.from_step);
        if entry.from_step < stretch.to && end > stretch.from {
            kinds.push(Some(entry.processor.as_str()));
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(from: u64, to: u64) -> Stretch {
        Stretch { from, to }
    }

    #[test]
    fn the_newest_stretches_that_fit_are_chosen() {
        let stored = [100, 200, 260, 300];
        let newest = [stretch(260, 300), stretch(200, 260)];
        assert_eq!(choose(&stored, 0, 100), Ok(newest.to_vec()));
        assert_eq!(choose(&stored, 0, 99), Ok(vec![stretch(260, 300)]));
        assert_eq!(choose(&stored, 0, u64::MAX).unwrap().len(), 4);
        // The newest is too long, an older one is not.
        assert_eq!(choose(&[5, 500], 0, 10), Ok(vec![stretch(0, 5)]));
        // Two attempts may have stored the same step.
        assert_eq!(choose(&[7, 7], 0, 10), Ok(vec![stretch(0, 7)]));
    }

    #[test]
    fn what_came_from_another_trial_is_not_trained_again() {
        let stored = [100, 200, 300];
        assert_eq!(choose(&stored, 200, 1000), Ok(vec![stretch(200, 300)]));
        assert_eq!(choose(&stored, 150, 1000), Ok(vec![stretch(200, 300)]));
        let why = choose(&stored, 300, 1000).unwrap_err();
        assert!(why.contains("before step 300"), "{why}");
    }

    #[test]
    fn why_there_is_none_is_said_with_the_way_out() {
        let why = choose(&[100, 130], 0, 20).unwrap_err();
        assert!(why.contains("from step 100 to 130: --replay 30"), "{why}");
        assert_eq!(choose(&[], 0, 20).unwrap_err(), "no checkpoint is stored");
    }

    #[test]
    fn a_stretch_knows_its_processors() {
        let on = |from_step, processor: &str| TrainedOn {
            from_step,
            processor: processor.to_owned(),
        };
        let history = [on(10, "a"), on(50, "b"), on(90, "a")];
        let kinds = |from, to| processors(stretch(from, to), &history);
        assert_eq!(kinds(10, 50), [Some("a")]);
        assert_eq!(kinds(0, 20), [None, Some("a")]);
        assert_eq!(kinds(40, 60), [Some("a"), Some("b")]);
        assert_eq!(kinds(95, 99), [Some("a")]);
        assert_eq!(processors(stretch(0, 5), &[]), [None]);
    }
}
