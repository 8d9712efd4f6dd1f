//! From what the driver has to say to a worker to messages of the session.

use trainyard_common::ids::Term;
use trainyard_proto::v1::{self, coordinator_message::Message};

use super::convert;
use super::status::ApiError;
use crate::cluster::api::{Assignment, ToWorker};
use crate::cluster::model::{AttemptKind, RankRef};
use crate::driver::Outgoing;

/// One message of the session, under the coordinator's term.
pub(super) fn message(term: Term, outgoing: Outgoing) -> Result<v1::CoordinatorMessage, ApiError> {
    let message = match outgoing {
        Outgoing::ProbeStore {
            url,
            path,
            content,
            reply_path,
        } => Message::ProbeStore(v1::ProbeStore {
            url,
            path,
            content,
            reply_path,
        }),
        Outgoing::Machine(ToWorker::Registered {
            heartbeat_ms,
            lease_ms,
            abandon,
        }) => Message::Registered(v1::Registered {
            heartbeat_interval_ms: u32::try_from(heartbeat_ms).unwrap_or(u32::MAX),
            lease_ms: u32::try_from(lease_ms).unwrap_or(u32::MAX),
            abandon: abandon.into_iter().map(running).collect(),
        }),
        Outgoing::Machine(ToWorker::Acknowledged { sequence }) => {
            Message::Acknowledged(v1::Acknowledged { sequence, lines: 0 })
        }
        Outgoing::Machine(ToWorker::LinesStored { through }) => {
            Message::Acknowledged(v1::Acknowledged {
                sequence: 0,
                lines: through,
            })
        }
        Outgoing::Machine(ToWorker::Stop {
            at,
            checkpoint,
            why,
        }) => Message::Stop(v1::StopAttempt {
            job_id: at.job.0,
            trial_id: at.trial.0,
            attempt: at.attempt.0,
            generation: at.generation.0,
            checkpoint,
            why,
        }),
        Outgoing::Machine(ToWorker::Assign(assignment)) => {
            Message::Assignment(assign(*assignment)?)
        }
    };
    Ok(v1::CoordinatorMessage {
        term: term.0,
        message: Some(message),
    })
}

fn running(rank: RankRef) -> v1::RunningAttempt {
    v1::RunningAttempt {
        job_id: rank.at.job.0,
        trial_id: rank.at.trial.0,
        attempt: rank.at.attempt.0,
        generation: rank.at.generation.0,
        rank: rank.rank,
    }
}

fn assign(assignment: Assignment) -> Result<v1::Assignment, ApiError> {
    let spec = serde_json::to_string(&*assignment.spec)
        .map_err(|error| ApiError::Internal(format!("trial spec: {error}")))?;
    let kind = match assignment.kind {
        AttemptKind::Train => v1::AssignmentKind::Train,
        AttemptKind::Evaluate => v1::AssignmentKind::Evaluate,
    };
    Ok(v1::Assignment {
        job_id: assignment.at.job.0,
        trial_id: assignment.at.trial.0,
        attempt: assignment.at.attempt.0,
        generation: assignment.at.generation.0,
        rank: assignment.rank,
        ranks: assignment.ranks.into_iter().map(convert::rank).collect(),
        trial_spec_json: spec,
        resume_from: assignment.resume_from.map(convert::checkpoint),
        checkpoints: assignment
            .checkpoints
            .into_iter()
            .map(convert::checkpoint)
            .collect(),
        kind: kind.into(),
        rendezvous_token: assignment.rendezvous_token,
        until_epoch: assignment.until_epoch,
        copies: assignment.copies,
        reported_epoch: assignment.reported_epoch,
        reported_step: assignment.reported_step,
        epochs_from_zero: assignment.epochs_from_zero,
    })
}
