//! The machine: all that the coordinator knows and decides by.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, Term, WorkerId};

use crate::cluster::api::MachineConfig;
use crate::cluster::draft::Draft;
use crate::cluster::model::{CountersRecord, SearchTask, Ticket, WorkerRecord, WorkspaceRecord};
use crate::cluster::parts::{
    Aside, Graces, Identities, Jobs, Keeping, Removal, Requests, Retention, Slots, Waits, Workers,
};

/// Of all jobs together, each of a few microseconds: some milliseconds of a take-over.
const ENTRIES_AT_ONCE: usize = 4_096;

/// All that the coordinator knows and decides by.
pub struct Machine {
    pub(in crate::cluster) term: Term,
    pub(in crate::cluster) config: MachineConfig,
    /// The newest time that was given; time never goes back.
    pub(in crate::cluster) now: u64,
    /// No deadline lies before this.
    pub(in crate::cluster) wake: u64,
    pub(in crate::cluster) counters: CountersRecord,
    pub(in crate::cluster) jobs: Jobs,
    /// Jobs whose records cannot be understood.
    pub(in crate::cluster) aside: Aside,
    pub(in crate::cluster) retention: Retention,
    pub(in crate::cluster) removals: BTreeMap<JobId, Removal>,
    pub(in crate::cluster) keeping: Keeping,
    pub(in crate::cluster) workers: Workers,
    /// Workers that somebody asked to drain, whether they are here or not.
    pub(in crate::cluster) drains: BTreeMap<WorkerId, WorkerRecord>,
    pub(in crate::cluster) identities: Identities,
    pub(in crate::cluster) requests: Requests,
    pub(in crate::cluster) graces: Graces,
    pub(in crate::cluster) slots: Slots,
    pub(in crate::cluster) waits: Waits,
    /// Workers may come back to this leader until then.
    pub(in crate::cluster) returned_ms: u64,
    /// Jobs of which something has changed since the last turn of placement.
    pub(in crate::cluster) touched: BTreeSet<JobId>,
    /// Jobs that do not know yet why they wait.
    pub(in crate::cluster) untold: BTreeSet<JobId>,
    /// Workers have come, gone, become usable or not, or have answered for a store.
    pub(in crate::cluster) workers_changed: bool,
    pub(in crate::cluster) workspaces: BTreeMap<String, WorkspaceRecord>,
    /// Jobs that could not be restored, and why; they are failed at the next event.
    pub(in crate::cluster) broken: Vec<(JobId, String)>,
    /// Entries of logs from which searchers are still made at once when the machine is restored.
    pub(in crate::cluster) entries_at_once: usize,
    /// Searches that are to be made from their logs, asked for with the next event.
    pub(in crate::cluster) unread: Vec<(JobId, Ticket, Box<SearchTask>)>,
    /// Jobs whose stored spec lacks what there is to be known of its space.
    pub(in crate::cluster) unknown: BTreeSet<JobId>,
    /// Number of the newest computation of a searcher.
    pub(in crate::cluster) thoughts: u64,
    /// Restored jobs, and the trial from which on ended ones are not packed yet.
    pub(in crate::cluster) thawed: BTreeMap<JobId, u32>,
    /// Number of the newest probe.
    pub(in crate::cluster) probes: u64,
    /// Something may be placed that could not be before.
    pub(in crate::cluster) dirty: bool,
    pub(in crate::cluster) draft: Draft,
}

impl Machine {
    /// A cluster without jobs.
    pub fn new(term: Term, config: MachineConfig) -> Self {
        Self {
            term,
            config,
            now: 0,
            wake: u64::MAX,
            counters: CountersRecord {
                next_job: 1,
                next_request: 1,
                cluster: 0,
                directory_url: None,
            },
            jobs: Jobs::default(),
            aside: Aside::default(),
            retention: Retention::default(),
            removals: BTreeMap::new(),
            keeping: Keeping::default(),
            workers: Workers::default(),
            drains: BTreeMap::new(),
            identities: Identities::default(),
            requests: Requests::default(),
            graces: Graces::default(),
            slots: Slots::default(),
            waits: Waits::default(),
            returned_ms: 0,
            touched: BTreeSet::new(),
            untold: BTreeSet::new(),
            workers_changed: false,
            workspaces: BTreeMap::new(),
            broken: Vec::new(),
            entries_at_once: ENTRIES_AT_ONCE,
            unread: Vec::new(),
            unknown: BTreeSet::new(),
            thoughts: 0,
            thawed: BTreeMap::new(),
            probes: 0,
            dirty: false,
            draft: Draft::default(),
        }
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// Of a computation that begins.
    pub(in crate::cluster) fn ticket(&mut self) -> Ticket {
        self.thoughts += 1;
        Ticket(self.thoughts)
    }

    pub(in crate::cluster) fn wake_at(&mut self, deadline: u64) {
        self.wake = self.wake.min(deadline);
    }
}
