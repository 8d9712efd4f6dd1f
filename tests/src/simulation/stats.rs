//! How much happened in worlds: what machines did, and how often each mishap really hit.

/// What can go wrong or be asked for, counted where it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// A message was on its way when its connection broke.
    MessageLost,
    /// Messages were held up for seconds.
    MessageDelayed,
    /// A batch of reports came twice, at once or later.
    MessageTwice,
    /// A message came on an older connection than one that came before.
    MessageOvertaken,
    LinkBroken,
    PartitionBothWays,
    PartitionToCoordinator,
    PartitionToWorker,
    WorkerKilled,
    WorkerUnplugged,
    WorkerStopped,
    WorkerHung,
    WorkerLeft,
    /// Another process came in the place of one that was gone.
    WorkerRestarted,
    /// A worker went on without a coordinator until its trials' `orphan_timeout`.
    WorkerOrphaned,
    GroupBroken,
    CoordinatorKilled,
    /// With its machine: nobody was told.
    CoordinatorUnplugged,
    CoordinatorPaused,
    /// Another led while it still ran.
    CoordinatorDeposed,
    /// It woke up after another had led, and its commit was refused or its message sent.
    ZombieActed,
    /// Every process was gone at once.
    Blackout,
    /// The clock of a coordinator that came to lead was ahead of the one before.
    ClockAhead,
    ClockBehind,
    /// The clock jumped while its coordinator led.
    ClockJumped,
    StoreSlow,
    StoreRefused,
    /// Written, but the answer was lost.
    StoreTorn,
    /// The commit of a process that was gone arrived.
    StoreLate,
    UploadFailed,
    /// An upload failed so often that its attempt gave up.
    UploadGivenUp,
    UploadSlow,
    /// Parts were there without a manifest.
    UploadTorn,
    /// A checkpoint that had been whole could not be read.
    CheckpointCorrupt,
    ProbeFailed,
    /// A worker that runs no programs was taken in.
    WorkerRefuses,
    RequestLost,
    AnswerLost,
    RequestRepeated,
    JobCancelled,
    Paused,
    Resumed,
    Drained,
    Extended,
    /// Failed trials were tried again.
    Retried,
    /// A search that rested was taken up by its log.
    Woken,
    /// A workspace got a weight or a quota.
    SharesSet,
    /// An attempt was asked to leave for a higher priority, or for a gang that had waited for long.
    Preempted,
    /// Free slots were kept for a named job.
    SlotsKept,
    /// A job moved from the records into an archive.
    JobArchived,
    JobDeleted,
    /// An archive could not be written, or what a job had left not be removed.
    KeeperFailed,
    /// A batch of log lines came twice.
    LinesTwice,
    /// A worker held no more log lines, and dropped one that waited.
    LinesDropped,
    /// A client watched a job to its end.
    Watched,
    /// A client followed the log of a job to its end.
    Followed,
    /// The leader that a client read from was gone, and it went on with another.
    ReaderMoved,
    /// Log lines were read from an archive.
    ReadFromArchive,
    /// A removal began while log lines were read, which were then read again.
    ReadAgain,
    /// A coordinator that had only read what is stored woke up as leader after another had taken over.
    StaleLeader,
    /// A message or a request waited for room in the queue of a loop.
    QueueFull,
    /// A session ended because its worker did not read its messages.
    WorkerTooSlow,
    /// A trainer waited because its worker held no more reports.
    ReportsHeld,
    /// A process registered under the id of another, and was refused.
    ImpostorRefused,
    /// One was taken in, under an id that nothing held on to any more.
    ImpostorTakenIn,
    /// A process told a report of what another ran.
    Lied,
    /// An operator gave a worker up.
    WorkerForgotten,
    /// A searcher's answer came late.
    SuggestedLate,
    /// It was lost with its coordinator.
    SuggestionLost,
    /// A member of a population went on from another's checkpoint.
    Copied,
    /// What PB2 chose for a member is no variation of what its source had.
    Chosen,
    /// A trial went on for its place on a front; by the first objective alone it would not have.
    PromotedOnFront,
    /// NSGA-II proposed a child.
    Bred,
    /// A configuration was without a hyperparameter, which was inactive.
    Inactive,
    /// A configuration was held against its constraints.
    Constrained,
    /// A search had no configuration left.
    SpaceExhausted,
    /// A trial reached a goal of another objective than the first.
    GoalReached,
}

/// Every kind, in the order of its number.
pub const HITS: [Hit; 77] = [
    Hit::MessageLost,
    Hit::MessageDelayed,
    Hit::MessageTwice,
    Hit::MessageOvertaken,
    Hit::LinkBroken,
    Hit::PartitionBothWays,
    Hit::PartitionToCoordinator,
    Hit::PartitionToWorker,
    Hit::WorkerKilled,
    Hit::WorkerUnplugged,
    Hit::WorkerStopped,
    Hit::WorkerHung,
    Hit::WorkerLeft,
    Hit::WorkerRestarted,
    Hit::WorkerOrphaned,
    Hit::GroupBroken,
    Hit::CoordinatorKilled,
    Hit::CoordinatorUnplugged,
    Hit::CoordinatorPaused,
    Hit::CoordinatorDeposed,
    Hit::ZombieActed,
    Hit::Blackout,
    Hit::ClockAhead,
    Hit::ClockBehind,
    Hit::ClockJumped,
    Hit::StoreSlow,
    Hit::StoreRefused,
    Hit::StoreTorn,
    Hit::StoreLate,
    Hit::UploadFailed,
    Hit::UploadGivenUp,
    Hit::UploadSlow,
    Hit::UploadTorn,
    Hit::CheckpointCorrupt,
    Hit::ProbeFailed,
    Hit::WorkerRefuses,
    Hit::RequestLost,
    Hit::AnswerLost,
    Hit::RequestRepeated,
    Hit::JobCancelled,
    Hit::Paused,
    Hit::Resumed,
    Hit::Drained,
    Hit::Extended,
    Hit::Retried,
    Hit::Woken,
    Hit::SharesSet,
    Hit::Preempted,
    Hit::SlotsKept,
    Hit::JobArchived,
    Hit::JobDeleted,
    Hit::KeeperFailed,
    Hit::LinesTwice,
    Hit::LinesDropped,
    Hit::Watched,
    Hit::Followed,
    Hit::ReaderMoved,
    Hit::ReadFromArchive,
    Hit::ReadAgain,
    Hit::StaleLeader,
    Hit::QueueFull,
    Hit::WorkerTooSlow,
    Hit::ReportsHeld,
    Hit::ImpostorRefused,
    Hit::ImpostorTakenIn,
    Hit::Lied,
    Hit::WorkerForgotten,
    Hit::SuggestedLate,
    Hit::SuggestionLost,
    Hit::Copied,
    Hit::Chosen,
    Hit::PromotedOnFront,
    Hit::Bred,
    Hit::Inactive,
    Hit::Constrained,
    Hit::SpaceExhausted,
    Hit::GoalReached,
];

/// How much happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Inputs that machines took.
    pub events: u64,
    pub commits: u64,
    pub records: u64,
    pub leaders: u64,
    /// Faults that were drawn; those that found nothing to hit are not among the hits.
    pub faults: u64,
    /// Jobs that were compared with their undisturbed run, and how many of them wholly.
    pub compared: u64,
    pub compared_wholly: u64,
    /// Machines that were restored beside a running one, and compared with it.
    pub restored: u64,
    /// Times that free slots were held against waiting work.
    pub looked: u64,
    /// Entries of search logs that were replayed, and what they decided.
    pub replayed: u64,
    pub rungs: u64,
    pub promotions: u64,
    pub virtual_ms: u64,
    /// The most records that one step wrote unchanged, beyond one a report; and the most effects beyond two a
    /// change.
    pub most_unchanged: u64,
    pub most_effects: u64,
    /// By the number of the [`Hit`].
    hits: [u64; HITS.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            events: 0,
            commits: 0,
            records: 0,
            leaders: 0,
            faults: 0,
            compared: 0,
            compared_wholly: 0,
            restored: 0,
            looked: 0,
            replayed: 0,
            rungs: 0,
            promotions: 0,
            virtual_ms: 0,
            most_unchanged: 0,
            most_effects: 0,
            hits: [0; HITS.len()],
        }
    }
}

impl Stats {
    pub(super) fn hit(&mut self, what: Hit) {
        if let Some(count) = self.hits.get_mut(what as usize) {
            *count += 1;
        }
    }

    pub fn hits(&self, what: Hit) -> u64 {
        self.hits.get(what as usize).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.commits += other.commits;
        self.records += other.records;
        self.leaders += other.leaders;
        self.faults += other.faults;
        self.compared += other.compared;
        self.compared_wholly += other.compared_wholly;
        self.restored += other.restored;
        self.looked += other.looked;
        self.replayed += other.replayed;
        self.rungs += other.rungs;
        self.promotions += other.promotions;
        self.virtual_ms += other.virtual_ms;
        self.most_unchanged = self.most_unchanged.max(other.most_unchanged);
        self.most_effects = self.most_effects.max(other.most_effects);
        for (count, more) in self.hits.iter_mut().zip(other.hits) {
            *count += more;
        }
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} inputs, {} commits of {} records, {} leaders, {:.0} virtual s",
            self.events,
            self.commits,
            self.records,
            self.leaders,
            self.virtual_ms as f64 / 1_000.0
        )?;
        writeln!(
            f,
            "{} jobs compared with their undisturbed run ({} wholly), {} machines with a restored one, {} times \
             free slots with waiting work",
            self.compared, self.compared_wholly, self.restored, self.looked
        )?;
        writeln!(
            f,
            "{} entries of search logs replayed: {} results at rungs, {} promotions",
            self.replayed, self.rungs, self.promotions
        )?;
        writeln!(
            f,
            "at most {} records written unchanged and {} effects beyond what was asked for, in one step",
            self.most_unchanged, self.most_effects
        )?;
        write!(f, "{} faults:", self.faults)?;
        let mut names = HITS.iter().map(|hit| (hit, self.hits(*hit)));
        names.try_for_each(|(hit, count)| write!(f, " {hit:?} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_numbered_as_they_are_listed() {
        for (number, hit) in HITS.iter().enumerate() {
            assert_eq!(*hit as usize, number, "{hit:?}");
        }
    }
}
