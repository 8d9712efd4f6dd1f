//! The ranks of an attempt coming together.

use trainyard_proto::v1::Assignment;

use super::Host;
use crate::attempt::AttemptKey;
use crate::collective::{Cancel, CollectiveError, Group, LocalGroup, Membership, Timeouts};

/// All ranks of the attempt, together. Blocks. Who names different kinds of processor is refused: with the
/// built-in trainer's they could not have the same bits.
pub(super) fn gather(
    assignment: &Assignment,
    key: &AttemptKey,
    host: &Host,
    cancel: &Cancel,
    cpu_kind: String,
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
    let group = host
        .rendezvous
        .join(&membership, Timeouts::default(), cancel)?;
    Ok(Box::new(group))
}
