//! A worker: what it says of itself, its session, its slots, its proofs of stores.

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
