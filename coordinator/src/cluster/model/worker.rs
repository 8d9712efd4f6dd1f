//! A worker: what it says of itself, its session, its slots, its proofs of stores.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{JobId, WorkerId};
use trainyard_common::spec::Device;

use super::attempt::RankRef;
use super::progress::Progress;

/// One worker's connection, numbered by the driver; never used again within a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub u64);

/// What a worker says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    pub worker: WorkerId,
    pub host: String,
    pub version: String,
    /// One a slot: `cpu`, `cuda:0`.
    pub devices: Vec<String>,
    pub collective_address: String,
    pub cpu_kind: String,
    /// Whether it runs programs; an old worker, which does not say, does.
    pub programs: bool,
}

/// BLAKE3 of a worker's secret, under a context of its own: the secret itself is known to the worker alone.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretDigest(pub [u8; 32]);

impl SecretDigest {
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::derive_key("trainyard worker secret v1", secret))
    }
}

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretDigest")
    }
}

impl From<SecretDigest> for String {
    fn from(digest: SecretDigest) -> Self {
        blake3::Hash::from_bytes(digest.0).to_hex().to_string()
    }
}

impl TryFrom<String> for SecretDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hash = blake3::Hash::from_hex(&text);
        let hash = hash.map_err(|error| format!("not a digest in hexadecimal: {error}"))?;
        Ok(Self(*hash.as_bytes()))
    }
}

/// Whose a worker's id is: the process that gives this secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    pub worker: WorkerId,
    /// `None`: an old worker's, which has no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretDigest>,
    pub joined_ms: u64,
}

/// A worker that somebody asked to drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    pub worker: WorkerId,
    /// When it was asked to.
    pub drained_ms: u64,
}

/// Whether a worker can use a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) enum Proof {
    Asked {
        path: String,
        until_ms: u64,
        /// The number of this try.
        tries: u32,
    },
    Proven,
    Failed {
        error: String,
        retry_ms: u64,
        tries: u32,
    },
}

pub(in crate::cluster) struct Worker {
    pub(in crate::cluster) info: WorkerInfo,
    /// The address from which it speaks.
    pub(in crate::cluster) peer: Option<IpAddr>,
    /// None: its stream broke, or (after a restart) it has not come back yet.
    pub(in crate::cluster) session: Option<SessionId>,
    /// Nothing new is placed there.
    pub(in crate::cluster) draining: bool,
    /// Its process has announced that it leaves.
    pub(in crate::cluster) leaving: bool,
    /// The newest session that it had.
    pub(in crate::cluster) newest_session: SessionId,
    /// Its host has accepted a connection from here, so that a refusal means something.
    pub(in crate::cluster) answers: bool,
    /// What running ranks told of their progress, and when the newest word came.
    pub(in crate::cluster) progress: BTreeMap<RankRef, Progress>,
    pub(in crate::cluster) pulsed_ms: u64,
    pub(in crate::cluster) last_seen_ms: u64,
    pub(in crate::cluster) lease_until_ms: u64,
    pub(in crate::cluster) slots: Vec<Option<RankRef>>,
    /// Ranks that it should run but did not name when it came back, and until when their last
    /// reports are waited for.
    pub(in crate::cluster) missing: BTreeMap<RankRef, u64>,
    /// By URL.
    pub(in crate::cluster) stores: BTreeMap<String, Proof>,
}

impl Worker {
    /// Whether it takes such jobs: of programs, or of the built-in trainer.
    pub(in crate::cluster) fn may_serve(&self, programs: bool) -> bool {
        self.info.programs || !programs
    }

    pub(in crate::cluster) fn device(&self, slot: usize) -> Device {
        match self.info.devices.get(slot) {
            Some(name) if name.starts_with("cuda") => Device::Cuda,
            _ => Device::Cpu,
        }
    }

    /// Takes over the slots that a rank held in an earlier session. False: not all of them are left.
    pub(in crate::cluster) fn retake(
        &mut self,
        before: &[Option<RankRef>],
        rank: &RankRef,
    ) -> bool {
        let mut all = true;
        for (slot, _) in before
            .iter()
            .enumerate()
            .filter(|(_, held)| held.as_ref() == Some(rank))
        {
            match self.slots.get_mut(slot) {
                Some(free) => *free = Some(rank.clone()),
                None => all = false,
            }
        }
        all
    }

    /// Frees the slots that a rank holds here, and says which.
    pub(in crate::cluster) fn release(&mut self, rank: &RankRef) -> Vec<u32> {
        self.missing.remove(rank);
        self.progress.remove(rank);
        let mut freed = Vec::new();
        for (number, slot) in (0u32..).zip(&mut self.slots) {
            if slot.as_ref() == Some(rank) {
                *slot = None;
                freed.push(number);
            }
        }
        freed
    }

    /// The job of each slot that is held.
    pub(in crate::cluster) fn holders(&self) -> Vec<JobId> {
        let held = self.slots.iter().flatten();
        held.map(|rank| rank.at.job.clone()).collect()
    }

    /// The ranks that hold slots here, each once.
    pub(in crate::cluster) fn held(&self) -> BTreeSet<RankRef> {
        self.slots.iter().flatten().cloned().collect()
    }
}

/// A worker that was lost, for those who look.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Lost {
    pub(in crate::cluster) info: WorkerInfo,
    pub(in crate::cluster) seen_ms: u64,
    pub(in crate::cluster) lost_ms: u64,
    pub(in crate::cluster) why: String,
}
