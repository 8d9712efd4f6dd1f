//! What a seed's world is made of: how large it is, which jobs people submit, and which faults it allows.

use trainyard_common::rng::Key;

use super::jobs::{LONG, VARIANTS};

/// How large worlds are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// One to three jobs on three workers.
    Small,
    /// Up to ten jobs, long searches among them, on eight workers, and a longer time of faults.
    Large,
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    LinkBroken,
    LinkSlow,
    LinkLeftBehind,
    Partition,
    WorkerKilled,
    WorkerUnplugged,
    WorkerStopped,
    WorkerHung,
    WorkerLeaves,
    Impostor,
    Liar,
    GroupBroken,
    CoordinatorKilled,
    CoordinatorPaused,
    CoordinatorDeposed,
    CoordinatorStale,
    ClockJumps,
    Blackout,
    StoreSlow,
    StoreFails,
    StoreTorn,
    UploadsFail,
    UploadsSlow,
    CheckpointCorrupt,
    UserRepeats,
    UserCancels,
    UserPauses,
    UserResumes,
    UserDrains,
    UserForgets,
    UserExtends,
    UserSetsShares,
    UserArchives,
    UserDeletes,
    UserRetries,
}

const FAULTS: [Fault; 35] = [
    Fault::LinkBroken,
    Fault::LinkSlow,
    Fault::LinkLeftBehind,
    Fault::Partition,
    Fault::WorkerKilled,
    Fault::WorkerUnplugged,
    Fault::WorkerStopped,
    Fault::WorkerHung,
    Fault::WorkerLeaves,
    Fault::Impostor,
    Fault::Liar,
    Fault::GroupBroken,
    Fault::CoordinatorKilled,
    Fault::CoordinatorPaused,
    Fault::CoordinatorDeposed,
    Fault::CoordinatorStale,
    Fault::ClockJumps,
    Fault::Blackout,
    Fault::StoreSlow,
    Fault::StoreFails,
    Fault::StoreTorn,
    Fault::UploadsFail,
    Fault::UploadsSlow,
    Fault::CheckpointCorrupt,
    Fault::UserRepeats,
    Fault::UserCancels,
    Fault::UserPauses,
    Fault::UserResumes,
    Fault::UserDrains,
    Fault::UserForgets,
    Fault::UserExtends,
    Fault::UserSetsShares,
    Fault::UserArchives,
    Fault::UserDeletes,
    Fault::UserRetries,
];

/// What one seed's world is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) key: Key,
    /// Variants to submit, in this order.
    pub(super) jobs: Vec<usize>,
    /// Slots of each worker.
    pub(super) workers: Vec<usize>,
    /// Slots of one more worker, which runs no programs.
    pub(super) refusing: Option<usize>,
    pub(super) coordinators: usize,
    /// Queues hold few: those of the coordinators, and those of workers.
    pub(super) tight: bool,
    /// Everything that a searcher is asked is computed beside the loop, and takes its time.
    pub(super) late: bool,
    /// Clients that read: whether they follow the log or watch the job, and which submission it is.
    pub(super) readers: Vec<(bool, usize)>,
    /// Kinds of faults that may happen; with few kinds at a time, each meets states that all
    /// together would prevent.
    pub(super) faults: Vec<Fault>,
    /// Mean time between faults.
    pub(super) pace_ms: u64,
    /// How long faults happen.
    pub(super) disturbed_ms: u64,
}

impl Plan {
    /// A seed's world.
    pub(super) fn of(seed: u64, size: Size) -> Self {
        let key = Key::new(seed).named(match size {
            Size::Small => "small",
            Size::Large => "large",
        });
        let (jobs, workers, disturbed_ms) = match size {
            Size::Small => (1 + key.below(0, 3), 3, 20_000),
            Size::Large => (4 + key.below(0, 7), 8, 120_000),
        };
        let mut chosen: Vec<usize> = Vec::new();
        for at in 0..jobs {
            let long = size == Size::Large && at == 0 && key.below(7, 2) == 0;
            let job = match long {
                true => VARIANTS + key.below(8, LONG as u64) as usize,
                false => key.with(1).below(at, VARIANTS as u64) as usize,
            };
            if !chosen.contains(&job) {
                chosen.push(job);
            }
        }
        let all = key.below(2, 4) == 0;
        let faults = FAULTS.into_iter().zip(0..);
        let faults = faults.filter(|(_, at)| all || key.with(3).below(*at, 3) == 0);
        // In every second world one watches and one follows, not always the same job.
        let readers = match key.below(9, 2) {
            0 => Vec::new(),
            _ => [false, true]
                .into_iter()
                .zip(10..)
                .map(|(follows, at)| (follows, key.below(at, chosen.len() as u64) as usize))
                .collect(),
        };
        Self {
            key: key.named("draws"),
            readers,
            jobs: chosen,
            workers: (0..workers)
                .map(|at| 1 + key.with(4).below(at, 2) as usize)
                .collect(),
            refusing: (key.below(21, 4) == 0).then_some(2),
            coordinators: 1 + key.below(5, 3) as usize,
            tight: key.below(20, 4) == 0,
            late: key.below(21, 3) == 0,
            faults: faults.map(|(fault, _)| fault).collect(),
            pace_ms: 300 << key.below(6, 4),
            disturbed_ms,
        }
    }

    /// One job alone on enough workers, without faults.
    pub(super) fn undisturbed(variant: usize) -> Self {
        Self {
            key: Key::new(variant as u64).named("undisturbed"),
            jobs: vec![variant],
            readers: Vec::new(),
            workers: vec![2, 2],
            refusing: None,
            coordinators: 1,
            tight: false,
            late: false,
            faults: Vec::new(),
            pace_ms: 0,
            disturbed_ms: 0,
        }
    }
}
