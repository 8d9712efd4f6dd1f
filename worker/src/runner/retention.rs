//! The checkpoints of one attempt: told once they are durable, deleted once they are superseded.
//!
//! A checkpoint that the coordinator knows is deleted only when the newest one is durable *and* the
//! coordinator has acknowledged it, and never once the attempt was told to stop: by then another attempt
//! may go on from any of them. Of those that it has never heard of the keep rule alone decides, so that
//! its absence does not fill a disk.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use trainyard_common::spec::JobSpec;
use trainyard_common::spec::search::Mode;
use trainyard_proto::v1::{self, CheckpointSaved, CheckpointsDropped, report::Body};

use super::Host;
use crate::checkpoint::{CheckpointError, CheckpointRef, CheckpointStore, KeepPolicy, to_drop};
use crate::outbox::{Pushed, Reporter, Room};

/// How long uploads that are under way may go on after an immediate stop.
pub(super) const UPLOAD_GRACE: Duration = Duration::from_secs(3);

/// What became of checkpoints, besides their being superseded.
pub(super) enum CheckpointNews {
    /// What the uploader says of each snapshot. It blocks on more snapshots in flight than a few, so
    /// that the number of results that wait is bounded by it.
    Saved(Result<CheckpointRef, CheckpointError>),
    /// Manifests of checkpoints that are not whole. Said once, before the first snapshot.
    Broken(Vec<String>),
}

/// Why a checkpoint could not be saved: the attempt cannot keep its promises and ends.
pub(super) type Failure = Arc<OnceLock<String>>;

/// Beyond so many checkpoints that the coordinator has not confirmed, the keep rule is applied to them
/// even while a session is open: it answers so slowly that it may as well be away.
const UNCONFIRMED: usize = 8;

/// A checkpoint of which the coordinator has not confirmed that it knows.
struct Unconfirmed {
    checkpoint: CheckpointRef,
    /// Of its report, once there was room for that.
    ticket: Option<u64>,
}

pub(super) struct CheckpointRetention {
    store: CheckpointStore,
    reporter: Reporter,
    host: Arc<Host>,
    failure: Failure,
    policy: KeepPolicy,
    objective: Option<(String, Mode)>,
    /// The coordinator knows them.
    confirmed: Vec<CheckpointRef>,
    /// In the order in which they were saved.
    unconfirmed: Vec<Unconfirmed>,
    /// No longer known here, their deletion is still to be told.
    dropped: Vec<String>,
    /// Superseded before the coordinator heard of them, and still to be deleted.
    unheard: Vec<String>,
    /// How many of them were deleted since it last confirmed anything.
    thinned: usize,
    /// The attempt was told to stop: nothing that the coordinator knows is deleted any more.
    stopped: bool,
}

impl CheckpointRetention {
    pub(super) fn new(
        job: &JobSpec,
        store: CheckpointStore,
        known: Vec<CheckpointRef>,
        reporter: Reporter,
        host: Arc<Host>,
        failure: Failure,
    ) -> Self {
        let objective = job.objectives.first();
        Self {
            store,
            reporter,
            host,
            failure,
            policy: KeepPolicy::from(&job.checkpoint_storage),
            objective: objective.map(|objective| (objective.metric.clone(), objective.mode)),
            confirmed: known,
            unconfirmed: Vec::new(),
            dropped: Vec::new(),
            unheard: Vec::new(),
            thinned: 0,
            stopped: false,
        }
    }

    /// Follows the uploader until it has ended and nothing is left to be told or deleted. Nothing in here
    /// waits for the coordinator alone, so that what is saved meanwhile is always looked after.
    pub(super) async fn run(mut self, mut news: mpsc::UnboundedReceiver<CheckpointNews>) {
        let mut open = true;
        let mut room = self.reporter.room();
        loop {
            self.tell(&mut room);
            let newest = self.newest_ticket();
            let untold = self.is_untold();
            if !open && newest.is_none() && !untold {
                break;
            }
            let ticket = newest.unwrap_or(u64::MAX);
            tokio::select! {
                biased;
                told = news.recv(), if open => match told {
                    Some(CheckpointNews::Saved(result)) => self.saved(result, &mut room).await,
                    Some(CheckpointNews::Broken(manifests)) => self.forget(manifests),
                    None => open = false,
                },
                confirmed = self.reporter.acknowledged(ticket), if newest.is_some() => {
                    if confirmed {
                        self.confirm(ticket);
                        self.sweep().await;
                    } else {
                        self.stopped = true;
                    }
                }
                () = room.made(), if untold => {}
                () = self.reporter.stop.requested(), if untold => {}
            }
        }
    }

    /// The report whose confirmation is waited for: that of the newest checkpoint that was told.
    fn newest_ticket(&self) -> Option<u64> {
        let mut told = self.unconfirmed.iter().rev();
        let newest = told.find_map(|checkpoint| checkpoint.ticket);
        newest.filter(|_| !self.stopped)
    }

    fn is_untold(&self) -> bool {
        let mut unconfirmed = self.unconfirmed.iter();
        !self.dropped.is_empty() || unconfirmed.any(|checkpoint| checkpoint.ticket.is_none())
    }

    /// Tells what there is room for, in order.
    fn tell(&mut self, room: &mut Room) {
        let untold = self.unconfirmed.iter_mut();
        let mut left_out = false;
        for one in untold.filter(|one| one.ticket.is_none()) {
            let checkpoint = Some(to_wire(&one.checkpoint));
            let body = Body::Checkpoint(CheckpointSaved { checkpoint });
            match self.reporter.offer(&body, room) {
                Pushed::Taken(ticket) => one.ticket = Some(ticket),
                Pushed::Full => return,
                Pushed::Thinned => left_out = true,
            }
        }
        if left_out {
            // Abandoned, or it has said more than a stopped attempt may: nobody will hear of them.
            self.unconfirmed.retain(|one| one.ticket.is_some());
        }
        if !self.dropped.is_empty() {
            let manifests = self.dropped.clone();
            let body = Body::Dropped(CheckpointsDropped { manifests });
            if !matches!(self.reporter.offer(&body, room), Pushed::Full) {
                self.dropped.clear();
            }
        }
    }

    async fn saved(&mut self, result: Result<CheckpointRef, CheckpointError>, room: &mut Room) {
        self.reporter.activity.sign();
        for part in self.store.take_mended() {
            self.reporter.warn(&format!(
                "a stored part had been damaged since it was written, and was written anew; checkpoints that \
                 share it could not be loaded until now: {part}"
            ));
        }
        match result {
            Ok(checkpoint) => {
                self.reporter.info(&format!(
                    "checkpoint saved: {} ({} bytes)",
                    checkpoint.manifest, checkpoint.bytes
                ));
                self.unconfirmed.push(Unconfirmed {
                    checkpoint,
                    ticket: None,
                });
                self.tell(room);
                if self.host.absence.is_now() || self.unconfirmed.len() > UNCONFIRMED {
                    self.thin().await;
                }
            }
            Err(error) => {
                let text = format!("a checkpoint could not be saved: {error}");
                self.reporter.warn(&text);
                // Only the first is told as the attempt's error.
                let _ = self.failure.set(text);
            }
        }
    }

    fn superseded(&self) -> Vec<String> {
        let unconfirmed = self.unconfirmed.iter().map(|one| &one.checkpoint);
        let known: Vec<CheckpointRef> = self.confirmed.iter().chain(unconfirmed).cloned().collect();
        let objective = self.objective.as_ref();
        let objective = objective.map(|(metric, mode)| (metric.as_str(), *mode));
        to_drop(self.policy, &known, objective)
    }

    /// Deletes what the keep rule gives up among the checkpoints of which the coordinator has never
    /// heard. Those that it knows stay until it knows a newer one: it may have to go on from them.
    async fn thin(&mut self) {
        let superseded = self.superseded();
        let Some(newest) = self.unconfirmed.pop() else {
            return;
        };
        let reporter = &self.reporter;
        let unheard = &mut self.unheard;
        self.unconfirmed.retain(|one| {
            let manifest = &one.checkpoint.manifest;
            let gone = superseded.contains(manifest)
                && one.ticket.is_none_or(|ticket| reporter.withdraw(ticket));
            if gone {
                unheard.push(manifest.clone());
            }
            !gone
        });
        self.unconfirmed.push(newest);
        if self.unheard.is_empty() {
            return;
        }
        if self.thinned == 0 {
            self.reporter.warn(
                "the coordinator has not acknowledged the last checkpoints yet: of those that it has not heard of the \
                 ones are kept that the job's keep rule keeps",
            );
        }
        match self.store.delete(&self.unheard).await {
            Ok(_) => {
                self.thinned += self.unheard.len();
                self.unheard.clear();
            }
            // They are tried again with the next.
            Err(error) => self.reporter.warn(&format!(
                "superseded checkpoints could not be deleted: {error}"
            )),
        }
    }

    /// The coordinator knows what was told up to a ticket.
    fn confirm(&mut self, through: u64) {
        let known = |one: &Unconfirmed| one.ticket.is_some_and(|ticket| ticket <= through);
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        let (now, still): (Vec<_>, Vec<_>) = unconfirmed.into_iter().partition(known);
        self.unconfirmed = still;
        self.confirmed
            .extend(now.into_iter().map(|one| one.checkpoint));
        if self.thinned > 0 {
            self.reporter.info(&format!(
                "the coordinator has acknowledged the last checkpoints; {} checkpoints that were superseded before it heard of them were deleted",
                self.thinned
            ));
            self.thinned = 0;
        }
    }

    /// A checkpoint that is not whole counts for nothing: known, it would take the place of a good one
    /// among those that are kept. Its objects stay, for whoever wants to see what became of them.
    fn forget(&mut self, manifests: Vec<String>) {
        self.confirmed
            .retain(|checkpoint| !manifests.contains(&checkpoint.manifest));
        self.dropped.extend(manifests);
    }

    /// Deletes what the keep rule gives up, now that the newest checkpoint is confirmed.
    async fn sweep(&mut self) {
        if self.stopped || !self.unconfirmed.is_empty() {
            return;
        }
        let manifests = self.superseded();
        if manifests.is_empty() {
            return;
        }
        match self.store.delete(&manifests).await {
            Ok(_) => {
                self.confirmed
                    .retain(|checkpoint| !manifests.contains(&checkpoint.manifest));
                self.dropped.extend(manifests);
            }
            // They stay known, and are tried again with the next.
            Err(error) => self.reporter.warn(&format!(
                "superseded checkpoints could not be deleted: {error}"
            )),
        }
    }
}

pub(super) fn to_wire(checkpoint: &CheckpointRef) -> v1::CheckpointRef {
    v1::CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: metrics_to_wire(&checkpoint.metrics),
    }
}

pub(super) fn from_wire(checkpoint: &v1::CheckpointRef) -> CheckpointRef {
    CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: checkpoint
            .metrics
            .iter()
            .map(|metric| (metric.name.clone(), metric.value))
            .collect(),
    }
}

pub(super) fn metrics_to_wire(metrics: &[(String, f64)]) -> Vec<v1::Metric> {
    metrics
        .iter()
        .map(|(name, value)| v1::Metric {
            name: name.clone(),
            value: *value,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};

    use super::*;
    use crate::attempt::AttemptKey;
    use crate::checkpoint::{NamedTensor, Owner, Snapshot};
    use crate::outbox::Outbox;

    const KEEPS: &str = r#"{"name": "job", "checkpoint_storage": {"keep_last": 2, "keep_best": 1},
        "objectives": [{"metric": "loss", "mode": "minimize"}]}"#;

    /// An attempt whose checkpoints are followed.
    struct Followed {
        store: CheckpointStore,
        outbox: Arc<Outbox>,
        reporter: Reporter,
        host: Arc<Host>,
        news: mpsc::UnboundedSender<CheckpointNews>,
        task: tokio::task::JoinHandle<()>,
        saved: u64,
    }

    impl Followed {
        fn start(name: &str) -> Self {
            let store = CheckpointStore::open(&format!("memory://{name}/job-1")).unwrap();
            let outbox = Arc::new(Outbox::new(64));
            let key = AttemptKey::new("job-1", 3, 0, 1, 0);
            let reporter = Reporter::new(key, Arc::default(), outbox.clone());
            let host = Arc::new(Host::for_test());
            let retention = CheckpointRetention::new(
                &serde_json::from_str(KEEPS).unwrap(),
                store.clone(),
                Vec::new(),
                reporter.clone(),
                host.clone(),
                Arc::default(),
            );
            let (news, told) = mpsc::unbounded_channel();
            Self {
                store,
                outbox,
                reporter,
                host,
                news,
                task: tokio::spawn(retention.run(told)),
                saved: 0,
            }
        }

        /// Saves one of this step, of which the step 20 has the best loss.
        async fn save(&mut self, step: u64) {
            let owner = Owner {
                job: JobId::from("job-1"),
                trial: TrialId(3),
                attempt: AttemptId(0),
                generation: Generation(1),
            };
            let snapshot = Snapshot {
                tensors: vec![NamedTensor {
                    name: "w".to_owned(),
                    shape: vec![1],
                    data: vec![step as f32],
                }],
                epoch: step,
                step,
                state: serde_json::Value::Null,
                metrics: vec![("loss".to_owned(), step.abs_diff(20) as f64)],
            };
            let saved = self.store.save(&owner, snapshot).await;
            assert!(self.news.send(CheckpointNews::Saved(saved)).is_ok());
            self.saved += 1;
            // It has been taken note of.
            while self.reporter.activity.read().1 < self.saved {
                tokio::task::yield_now().await;
            }
        }

        async fn steps(&self) -> Vec<u64> {
            let manifests = self.store.manifests(TrialId(3)).await.unwrap();
            let step = |name: &String| name.rsplit('/').next()?.split('-').next()?.parse().ok();
            manifests.iter().filter_map(step).collect()
        }

        /// The coordinator takes and acknowledges what waits; gives the steps of which it heard.
        fn hear(&self) -> Vec<u64> {
            let mut heard = Vec::new();
            for report in self.outbox.next_reports() {
                if let Some(Body::Checkpoint(saved)) = &report.body {
                    heard.extend(saved.checkpoint.as_ref().map(|checkpoint| checkpoint.step));
                }
                self.outbox.acknowledge(report.sequence, 0);
            }
            while let Some(batch) = self.outbox.next_logs() {
                self.outbox
                    .acknowledge(0, batch.first + batch.lines.len() as u64);
            }
            heard
        }

        /// To its end; what else the coordinator heard.
        async fn finish(self) -> (Vec<u64>, Vec<u64>) {
            let mut this = self;
            // Drops the sender that the task listens to.
            this.news = mpsc::unbounded_channel().0;
            let mut heard = Vec::new();
            while !this.task.is_finished() {
                heard.extend(this.hear());
                tokio::task::yield_now().await;
            }
            (&mut this.task).await.unwrap();
            heard.extend(this.hear());
            (heard, this.steps().await)
        }
    }

    #[tokio::test]
    async fn while_the_coordinator_is_away_the_keep_rule_holds_for_what_it_never_heard_of() {
        let mut followed = Followed::start("retention-away");
        followed.save(1).await;
        assert_eq!(followed.hear(), [1]);
        followed
            .host
            .absence
            .begun(Instant::now(), Duration::from_secs(60));
        for step in 2..=200 {
            followed.save(step).await;
            // The known one, two newest, the best, and one that is about to be deleted.
            let kept = followed.steps().await;
            assert!(kept.len() <= 5 && kept.contains(&1), "{step}: {kept:?}");
        }
        followed.host.absence.over();
        let (heard, kept) = followed.finish().await;
        // What it hears of is there, and only then it loses what it knew before.
        assert_eq!(heard, [20, 199, 200]);
        assert_eq!(kept, [20, 199, 200]);
    }

    #[tokio::test]
    async fn what_the_coordinator_may_have_heard_of_stays_until_it_knows_a_newer_one() {
        let mut followed = Followed::start("retention-heard");
        for step in 1..=3 {
            followed.save(step).await;
        }
        // On its way when the connection broke: nobody knows whether it arrived.
        assert_eq!(followed.outbox.next_reports().len(), 3);
        followed
            .host
            .absence
            .begun(Instant::now(), Duration::from_secs(60));
        for step in 4..=40 {
            followed.save(step).await;
        }
        let kept = followed.steps().await;
        assert!(kept.starts_with(&[1, 2, 3]) && kept.len() <= 7, "{kept:?}");
        followed.outbox.reconnected();
        let (heard, kept) = followed.finish().await;
        assert_eq!(heard, [1, 2, 3, 20, 39, 40]);
        assert_eq!(kept, [20, 39, 40]);
    }

    #[tokio::test]
    async fn a_full_outbox_does_not_keep_checkpoints_from_being_looked_after() {
        let mut followed = Followed::start("retention-full");
        let epoch = Body::Progress(v1::Progress {
            end_of_epoch: true,
            ..v1::Progress::default()
        });
        let mut room = followed.reporter.room();
        while followed.reporter.offer(&epoch, &mut room) != Pushed::Full {}
        for step in 1..=100 {
            followed.save(step).await;
            let kept = followed.steps().await;
            assert!(kept.len() <= UNCONFIRMED + 2, "{step}: {kept:?}");
        }
        let (heard, kept) = followed.finish().await;
        assert_eq!(heard.last(), Some(&100));
        assert_eq!(kept, [20, 99, 100]);
    }
}
