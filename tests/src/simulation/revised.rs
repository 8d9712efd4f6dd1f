//! What a record may not become: nothing that was decided is revised.

use trainyard_common::ids::JobId;
use trainyard_coordinator::cluster::model::{
    AttemptRecord, JobRecord, JobState, Leaving, Position, Record, SearchEntry, TrialRecord,
};

/// The job whose search is extended by a record, or of which a trial is tried again.
pub(super) fn more(record: &Record) -> Option<JobId> {
    match record {
        Record::Search(entry) => match entry.entry {
            SearchEntry::Extended { .. } | SearchEntry::Retried { .. } => Some(entry.job.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// `extended`: more trials were asked for, or failed ones, which opens an ended job and its search again.
pub(super) fn job_revised(old: &JobRecord, new: &JobRecord, extended: bool) -> bool {
    let reopened = extended && old.state != JobState::Cancelled;
    let searched = |state| matches!(state, JobState::Pending | JobState::Running);
    (old.state.ended() && old.state != new.state && !reopened)
        || (old.state == JobState::Evaluating && searched(new.state) && !reopened)
        || old.number != new.number
        || old.next_generation > new.next_generation
        || (old.search_closed.is_some() && old.search_closed != new.search_closed && !extended)
        || old.checkpoint_url != new.checkpoint_url
        || !may_become(old.leaving, new.leaving)
        || old.submitted_ms != new.submitted_ms
}

/// Who is archived may be deleted instead; nobody who leaves stays.
fn may_become(old: Option<Leaving>, new: Option<Leaving>) -> bool {
    let rank = |leaving| match leaving {
        None => 0,
        Some(Leaving::Archive) => 1,
        Some(Leaving::Delete { checkpoints }) => 2 + u8::from(checkpoints),
    };
    rank(old) <= rank(new)
}

fn position(trial: &TrialRecord) -> Option<Position> {
    trial.reported.map(|newest| newest.position())
}

/// `reopened`: what has failed of its job is tried again.
pub(super) fn trial_revised(old: &TrialRecord, new: &TrialRecord, reopened: bool) -> bool {
    let told = |trial: &TrialRecord| (trial.state, trial.best, trial.reported);
    (old.state.ended() && told(old) != told(new) && !reopened)
        || old.suggested_params() != new.suggested_params()
        || old.created_ms != new.created_ms
        || old.next_attempt > new.next_attempt
        || (old.restarts > new.restarts && !reopened)
        || position(old) > position(new)
        || (old.best.is_some() && new.best.is_none())
}

pub(super) fn attempt_revised(old: &AttemptRecord, new: &AttemptRecord) -> bool {
    let ranks = old.ranks.iter().zip(&new.ranks);
    let revised = ranks.into_iter().any(|(old, new)| {
        old.place != new.place
            || old.applied > new.applied
            || (old.ended.is_some() && old.ended != new.ended)
    });
    revised
        || old.ranks.len() != new.ranks.len()
        || old.generation != new.generation
        || old.kind != new.kind
        || (old.outcome.is_some() && old.outcome != new.outcome)
}
