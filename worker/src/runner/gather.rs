//! The ranks of an attempt coming together.

use std::time::Duration;

use trainyard_proto::v1::{Assignment, AttemptOutcome};

use super::Host;
use crate::attempt::{AttemptKey, End};
use crate::collective::{Cancel, CollectiveError, Group, LocalGroup, Membership, Timeouts};
use crate::outbox::Reporter;

/// A rank that ends because of another waits so long for the coordinator to say why.
const OTHER_RANK_PATIENCE: Duration = Duration::from_secs(2);

/// As [`gather_for`], for as long as ranks take that are ready to start.
pub(super) fn gather(
    assignment: &Assignment,
    key: &AttemptKey,
    host: &Host,
    cancel: &Cancel,
    cpu_kind: String,
) -> Result<Box<dyn Group>, CollectiveError> {
    let timeouts = Timeouts::default();
    gather_for(assignment, key, host, cancel, cpu_kind, timeouts)
}

/// All ranks of the attempt, together. Blocks. Who names different kinds of processor is refused: with the
/// built-in trainer's they could not have the same bits.
pub(super) fn gather_for(
    assignment: &Assignment,
    key: &AttemptKey,
    host: &Host,
    cancel: &Cancel,
    cpu_kind: String,
    timeouts: Timeouts,
) -> Result<Box<dyn Group>, CollectiveError> {
    if assignment.ranks.len() == 1 {
        return Ok(Box::new(LocalGroup));
    }
    let addresses = assignment
        .ranks
        .iter()
        .map(|rank| rank.collective_address.clone());
    let membership = Membership {
        job: key.job.clone(),
        trial: key.trial,
        attempt: key.attempt,
        generation: key.generation,
        rank: key.rank as usize,
        addresses: addresses.collect(),
        token: assignment.rendezvous_token.clone(),
        cpu_kind,
    };
    let group = host.rendezvous.join(&membership, timeouts, cancel)?;
    Ok(Box::new(group))
}

/// The end of an attempt whose ranks could not come together, or lost one. That another rank has ended is seen before
/// the coordinator has said why: that is waited for a moment.
pub(super) async fn parted(error: CollectiveError, reporter: &Reporter) -> End {
    // Only whether it came matters.
    let _ = tokio::time::timeout(OTHER_RANK_PATIENCE, reporter.stop.requested()).await;
    apart(&error, reporter)
}

/// As [`parted`], as far as the coordinator has said why by now.
pub(super) fn apart(error: &CollectiveError, reporter: &Reporter) -> End {
    match reporter.stop.get() {
        Some(stop) => End::stopped(stop, 0),
        None if error.is_loss() => End::new(AttemptOutcome::NodeLost, error.to_string(), 0),
        None => End::error(error, 0),
    }
}
