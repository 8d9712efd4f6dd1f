//! Who may speak in a worker's name. An id is made by a worker's process and is no secret; with its first
//! join the process gives a secret, and who comes later under the same id must give it again. Only its
//! digest is known here, and stored, so that the next leader asks for it as well.
//!
//! An id is free again when nothing holds on to it any more: its worker has left, its lease has run out, or
//! an operator says so (`forget`). Old workers give no secret; for as long as one of them is known, its id
//! is not anybody's who gives one.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::Rejection;
use crate::cluster::model::{IdentityRecord, SecretDigest, identity_key};
use crate::cluster::parts::same;

/// Ids that one turn lets go after a take-over: their removals fit one transaction of etcd, beside what
/// else the turn writes.
const MOST_FREED: usize = 100;

impl Machine {
    /// Refuses who cannot show what the id's process has shown.
    pub(in crate::cluster) fn check_identity(
        &self,
        worker: &WorkerId,
        given: Option<&SecretDigest>,
    ) -> Result<(), Rejection> {
        let Some(known) = self.identities.known.get(worker) else {
            return Ok(());
        };
        if same(known.secret.as_ref(), given) {
            return Ok(());
        }
        let why = match (&known.secret, given) {
            (Some(_), Some(_)) => "another secret was given than at the first join",
            (Some(_), None) => "it joined with a secret, and none was given",
            (None, _) => "it joined without a secret, and one was given",
        };
        Err(Rejection::Impostor {
            worker: worker.clone(),
            why,
        })
    }

    /// From now on the id is the worker's who has joined.
    pub(in crate::cluster) fn claim_identity(
        &mut self,
        worker: &WorkerId,
        secret: Option<SecretDigest>,
    ) {
        self.identities.unclaimed.remove(worker);
        if self.identities.knows(worker) {
            return;
        }
        // Let go and taken within one step.
        let key = identity_key(worker);
        self.draft.step.removed.retain(|removed| *removed != key);
        let record = IdentityRecord {
            worker: worker.clone(),
            secret,
            joined_ms: self.now,
        };
        self.identities.known.insert(worker.clone(), record);
        self.identities.changed.insert(worker.clone());
    }

    /// The id is anybody's.
    pub(in crate::cluster) fn free_identity(&mut self, worker: &WorkerId) {
        self.identities.unclaimed.remove(worker);
        if self.identities.known.remove(worker).is_some() {
            self.identities.changed.remove(worker);
            self.draft.step.removed.push(identity_key(worker));
        }
    }

    /// Ids whose workers hold no slots wait a lease for them, as slots wait for the others.
    pub(in crate::cluster) fn await_identities(&mut self) {
        let known = self.identities.known.keys();
        let absent = known.filter(|id| !self.workers.contains_key(id));
        self.identities.unclaimed = absent.cloned().collect();
        self.identities.unclaimed_until_ms = self.now + self.config.lease_ms;
    }

    pub(in crate::cluster) fn expire_identities(&mut self) {
        if self.identities.unclaimed_until_ms > self.now {
            return;
        }
        let over: Vec<WorkerId> = self
            .identities
            .unclaimed
            .iter()
            .take(MOST_FREED)
            .cloned()
            .collect();
        for worker in over {
            self.free_identity(&worker);
        }
    }
}
