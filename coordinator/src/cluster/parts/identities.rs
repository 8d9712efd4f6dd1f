//! Whose each worker's id is, as far as is known: the digests of their secrets.
//!
//! Owns what is compared, and which ids wait for their workers after a take-over.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::WorkerId;

use crate::cluster::model::{IdentityRecord, Record, SecretDigest};

/// Ids and what their processes have to show.
#[derive(Default)]
pub(in crate::cluster) struct Identities {
    pub(in crate::cluster) known: BTreeMap<WorkerId, IdentityRecord>,
    /// Those that the last leader knew and that have not come back to this one, nor held slots when it began;
    /// and until when they may.
    pub(in crate::cluster) unclaimed: BTreeSet<WorkerId>,
    pub(in crate::cluster) unclaimed_until_ms: u64,
    /// To be written with this step.
    pub(in crate::cluster) changed: BTreeSet<WorkerId>,
}

impl Identities {
    pub(in crate::cluster) fn restore(&mut self, record: IdentityRecord) {
        self.known.insert(record.worker.clone(), record);
    }

    pub(in crate::cluster) fn knows(&self, worker: &WorkerId) -> bool {
        self.known.contains_key(worker)
    }

    /// Records that this step has changed.
    pub(in crate::cluster) fn take_changed(&mut self) -> impl Iterator<Item = Record> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let known = &self.known;
        changed.filter_map(|id| known.get(&id).cloned().map(Record::Identity))
    }

    /// When something is to be let go.
    pub(in crate::cluster) fn deadline(&self) -> Option<u64> {
        (!self.unclaimed.is_empty()).then_some(self.unclaimed_until_ms)
    }

    /// The coordinator stood still for so long.
    pub(in crate::cluster) fn stalled(&mut self, ms: u64) {
        self.unclaimed_until_ms = self.unclaimed_until_ms.saturating_add(ms);
    }
}

/// Whether both are there and the same, or neither is. Takes as long wherever they differ.
pub(in crate::cluster) fn same(known: Option<&SecretDigest>, given: Option<&SecretDigest>) -> bool {
    match (known, given) {
        (Some(known), Some(given)) => {
            let pairs = known.0.iter().zip(given.0);
            pairs.fold(0, |differs, (known, given)| differs | (known ^ given)) == 0
        }
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_secret_counts() {
        let known = SecretDigest([7; 32]);
        assert!(same(Some(&known), Some(&known)));
        for byte in 0..32 {
            for bit in 0..8 {
                let mut other = known;
                other.0[byte] ^= 1 << bit;
                assert!(!same(Some(&known), Some(&other)), "{byte} {bit}");
            }
        }
        assert!(same(None, None));
        assert!(!same(Some(&known), None) && !same(None, Some(&known)));
    }
}
