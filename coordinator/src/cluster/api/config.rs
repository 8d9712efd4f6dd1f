//! Settings that the machine decides by.

/// Of the work of one turn: a hundred slots are filled within a tenth of a second.
const QUICK_MS: u64 = 1;

/// Settings that the machine decides by. All durations in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// Without a sign of life for this long a worker is lost.
    pub lease_ms: u64,
    /// Told to workers.
    pub heartbeat_ms: u64,
    /// Coordinator and workers are one process, so that `memory://` stores are shared.
    pub single_process: bool,
    /// Store of jobs that name none, such as `file:///var/lib/trainyard/checkpoints`.
    pub default_checkpoint_url: String,
    /// The data directory in which the records lie, such as `file:///var/lib/trainyard`; none where they lie
    /// elsewhere. What they name below the one of before is looked for below this.
    pub directory_url: Option<String>,
    /// Random for each coordinator process; keys the ranks' rendezvous tokens.
    pub token_secret: [u8; 32],
    /// Pause before a worker is asked again to prove a store that it could not use.
    pub probe_retry_ms: u64,
    /// After a worker came back without an attempt that it should run: time for the attempt's last
    /// reports to be replayed, before the attempt counts as lost.
    pub replay_grace_ms: u64,
    /// How long a proof of a store may take from being asked, queueing included. Longer than the calls
    /// that it is made of, so that theirs is the error that is told.
    pub probe_timeout_ms: u64,
    /// Random, chosen by a coordinator's first process: keeps the checkpoints of coordinators that share
    /// a bucket apart. 0 = not named in paths.
    pub cluster: u32,
    /// How long an attempt that is asked for its slots may take to make a checkpoint.
    pub vacate_ms: u64,
    /// A job that has waited this long for a gang that fits the cluster is kept slots.
    pub gang_wait_ms: u64,
    /// Slots that have been kept for this long without coming free are asked for, of attempts of no
    /// higher priority.
    pub reserve_ms: u64,
    /// How long ended jobs stay in the records where their spec does not say (`u64::MAX` = for ever).
    pub retain_ms: u64,
    /// A suggestion that is estimated to take less is made in the turn that wants it; others are computed beside the
    /// loop. 0: all are.
    pub quick_ms: u64,
    /// The specs of all jobs that have not ended, bytes as they are stored.
    pub max_spec_bytes: usize,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            lease_ms: 60_000,
            heartbeat_ms: 2_000,
            single_process: false,
            default_checkpoint_url: "file:///var/lib/trainyard/checkpoints".to_owned(),
            directory_url: None,
            token_secret: [0; 32],
            probe_retry_ms: 15_000,
            replay_grace_ms: 4_000,
            probe_timeout_ms: 150_000,
            cluster: 0,
            vacate_ms: 120_000,
            gang_wait_ms: 60_000,
            reserve_ms: 300_000,
            retain_ms: 30 * 24 * 3_600_000,
            quick_ms: QUICK_MS,
            max_spec_bytes: 32 * 1024 * 1024,
        }
    }
}
