//! Runs a trial with the built-in trainer: rendezvous, data, resuming, training, checkpoints, end.
//!
//! Everything asynchronous (data, uploads, reports) runs on the worker's runtime; the trainer has the
//! attempt's own thread and pool. Knows nothing of sessions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trainyard_proto::v1::{AssignmentKind, AttemptOutcome};

use super::gather::gather;
use super::observer::AttemptObserver;
use super::resume::{self, ResumeError};
use super::retention::{
    CheckpointNews, CheckpointRetention, Failure, UPLOAD_GRACE, from_wire, metrics_to_wire,
};
use super::{Host, Task, out_of_memory, thread};
use crate::attempt::{End, Stop};
use crate::checkpoint::{CheckpointRef, CheckpointStore, Owner, Uploader};
use crate::collective::{Cancel, CollectiveError, Group, cpu_kind};
use crate::data::{self, DataError, Dataset};
use crate::outbox::Reporter;
use crate::train::{Finish, PartName, TrainError, Trainer};
use crate::weights;

/// A rank that ends because of another waits so long for the coordinator to say why: that rank's own
/// report tells more than "the peer is gone".
const OTHER_RANK_PATIENCE: Duration = Duration::from_secs(2);
/// How long ranks have to agree on an immediate stop before their waits are cut off.
const AGREEMENT_GRACE: Duration = Duration::from_secs(2);

/// Runs the trial to its end.
pub(super) async fn run(task: Task, reporter: &Reporter, host: Arc<Host>) -> End {
    let store = match CheckpointStore::open(&task.spec.checkpoint_url) {
        Ok(store) => store,
        Err(error) => return End::error(error, 0),
    };
    let rank = Attempt {
        task,
        store,
        reporter: reporter.clone(),
        host,
        runtime: Handle::current(),
        cancel: Cancel::new(),
        ready: AtomicBool::new(false),
    };
    let rank = Arc::new(rank);
    let watcher = tokio::spawn(rank.clone().cut_waits_short());
    let end = rank.run().await;
    watcher.abort();
    end
}

/// Why the attempt's thread ended early.
pub(super) enum Failed {
    Text(String),
    Train(TrainError),
    /// It has ended, in this way.
    Ended(Box<End>),
}

impl From<TrainError> for Failed {
    fn from(error: TrainError) -> Self {
        Self::Train(error)
    }
}

impl From<CollectiveError> for Failed {
    fn from(error: CollectiveError) -> Self {
        Self::Train(TrainError::Collective(error))
    }
}

impl From<ResumeError> for Failed {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Load(text) => Self::Text(text),
            ResumeError::Collective(error) => error.into(),
        }
    }
}

impl From<End> for Failed {
    fn from(end: End) -> Self {
        Self::Ended(Box::new(end))
    }
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// One rank of an attempt.
struct Attempt {
    task: Task,
    store: CheckpointStore,
    reporter: Reporter,
    host: Arc<Host>,
    runtime: Handle,
    cancel: Cancel,
    /// Whether the ranks have come together, each with its data.
    ready: AtomicBool,
}

impl Attempt {
    async fn run(self: Arc<Self>) -> End {
        let failure: Failure = Arc::new(OnceLock::new());
        let known = self.task.assignment.checkpoints.iter().map(from_wire);
        let retention = CheckpointRetention::new(
            &self.task.spec.job,
            self.store.clone(),
            known.collect(),
            self.reporter.clone(),
            self.host.clone(),
            failure.clone(),
        );
        let (news, told) = mpsc::unbounded_channel();
        let retention = tokio::spawn(retention.run(told));
        let trains = self.task.assignment.kind() != AssignmentKind::Evaluate;
        let uploader = (self.reporter.key.rank == 0 && trains).then(|| {
            let saved = news.clone();
            // If nobody hears it, the retention has panicked: its attempt ends below.
            let done = move |result| drop(saved.send(CheckpointNews::Saved(result)));
            Uploader::start(&self.runtime, self.store.clone(), self.owner(), done)
        });
        let mut observer = AttemptObserver {
            reporter: self.reporter.clone(),
            runtime: self.runtime.clone(),
            uploader,
            failure: failure.clone(),
            given_up: false,
            step: 0,
            epochs_total: 0,
        };
        let key = &self.reporter.key;
        let name = format!("{}-{}", key.job, key.trial);
        let this = self.clone();
        let work = move || {
            let result = this.work(&mut observer, &news);
            if let Some(uploader) = observer.uploader.take() {
                observer.given_up |= !this.finish_uploads(uploader);
            }
            let stop = this.reporter.stop.get().filter(|_| observer.given_up);
            let result = match (result, stop) {
                // It has not kept what it was to keep.
                (Ok(_), Some(stop)) => Err(End::stopped(stop, observer.step).into()),
                (result, _) => result,
            };
            (result, observer.step)
        };
        let worked = thread::run(name, self.threads(), work).await;
        if retention.await.is_err() {
            return End::error("checkpoints could not be followed up", 0);
        }
        match worked {
            Err(panic) if out_of_memory::is_meant_by(&panic) => End::out_of_memory(panic, 0),
            Err(panic) => End::error(panic, 0),
            Ok((_, step)) if failure.get().is_some() => {
                End::error(failure.get().map_or("", String::as_str), step)
            }
            Ok((result, step)) => self.end(result, step).await,
        }
    }

    /// Uploads of snapshots that were taken go on to their end, however the run ended. But a store that
    /// is away must not keep the slots of an attempt that is to leave at once. False: some were given up.
    fn finish_uploads(&self, uploader: Uploader) -> bool {
        let stop = &self.reporter.stop;
        uploader.finish_unless(async {
            stop.reached(Stop::Now).await;
            // Nobody counts an abandoned attempt's checkpoints; the others' may save steps.
            let abandoned = stop.reached(Stop::Abandoned);
            let _ = tokio::time::timeout(UPLOAD_GRACE, abandoned).await;
        })
    }

    fn threads(&self) -> usize {
        let rank = self
            .task
            .assignment
            .ranks
            .get(self.reporter.key.rank as usize);
        self.host.threads_per_slot * rank.map_or(1, |rank| rank.slots.len().max(1))
    }

    fn owner(&self) -> Owner {
        let key = &self.reporter.key;
        Owner {
            job: key.job.clone(),
            trial: key.trial,
            attempt: key.attempt,
            generation: key.generation,
        }
    }

    /// On the attempt's thread: everything from the rendezvous to the end.
    fn work(
        &self,
        observer: &mut AttemptObserver,
        news: &mpsc::UnboundedSender<CheckpointNews>,
    ) -> Result<Finish, Failed> {
        // Ranks meet before they load: however much longer one of them takes, the others see that it
        // lives, and at once when it does not.
        let mut group = self.group()?;
        let dataset = self.load()?;
        group.barrier()?;
        self.ready.store(true, Ordering::SeqCst);
        let evaluates = self.task.assignment.kind() == AssignmentKind::Evaluate;
        let resume::Agreed { found, broken } = resume::agree(
            &self.task.assignment,
            &self.store,
            &self.reporter,
            &self.runtime,
            &mut *group,
            async |reference: &CheckpointRef| self.store.load_ref(reference).await,
        )?;
        let found = found.map(|(_, snapshot)| snapshot);
        if !broken.is_empty() {
            // As for the uploader's results.
            let _ = news.send(CheckpointNews::Broken(broken));
        }
        let mut trainer = Trainer::new(&self.task.spec, dataset, group)?;
        let step = found.as_ref().map_or(0, |snapshot| snapshot.step);
        observer.step = step;
        match found {
            Some(snapshot) if self.task.assignment.copies => {
                self.tell_begun(&trainer.restore_copy(snapshot)?);
            }
            Some(snapshot) => trainer.restore(snapshot)?,
            None if evaluates => {
                return Err(Failed::Text(
                    "there is no checkpoint to evaluate".to_owned(),
                ));
            }
            None => self.begin(&mut trainer)?,
        }
        if evaluates {
            let Some(metrics) = trainer.evaluate(PartName::Test, observer)? else {
                return Ok(Finish::Stopped);
            };
            let end = End {
                test_metrics: metrics_to_wire(&metrics),
                ..End::completed(step)
            };
            return Err(end.into());
        }
        if let Some(epoch) = self.task.assignment.until_epoch {
            trainer.pause_after(epoch);
        }
        Ok(trainer.run(observer)?)
    }

    /// A new run begins with the weights that its spec names, if it names some.
    fn begin(&self, trainer: &mut Trainer) -> Result<(), Failed> {
        let model = self.task.spec.job.model.as_ref();
        let Some(spec) = model.and_then(|model| model.weights.as_ref()) else {
            return Ok(());
        };
        let cancel = CancellationToken::new();
        let loaded = self.read(&cancel, weights::load(spec, self.host.data_limits, &cancel));
        Ok(trainer.begin_with(&loaded?)?)
    }

    /// What a copied checkpoint lacked, which only rank 0 tells.
    fn tell_begun(&self, begun: &[String]) {
        if !begun.is_empty() && self.reporter.key.rank == 0 {
            self.reporter.info(&format!(
                "the checkpoint that is copied does not have everything; it begins as in a new trial: {}",
                begun.join(", ")
            ));
        }
    }

    /// All ranks of the attempt, together.
    fn group(&self) -> Result<Box<dyn Group>, Failed> {
        let assignment = &self.task.assignment;
        let key = &self.reporter.key;
        let group = gather(assignment, key, &self.host, &self.cancel, cpu_kind())?;
        let ranks = assignment.ranks.len();
        if key.rank == 0 && ranks > 1 {
            self.reporter
                .info(&format!("all {ranks} ranks have come together"));
        }
        Ok(group)
    }

    /// The trial's data. After a stop nothing more is read, and what reads is waited for: a slot is free
    /// only when nothing works for it any more.
    fn load(&self) -> Result<Arc<Dataset>, Failed> {
        let cancel = CancellationToken::new();
        let job = &self.task.spec.job;
        self.read(
            &cancel,
            data::load_shared(job, self.host.data_limits, &cancel),
        )
    }

    /// Waits for what is read, which ends soon after it is cancelled.
    fn read<T>(
        &self,
        cancel: &CancellationToken,
        loading: impl Future<Output = Result<T, DataError>>,
    ) -> Result<T, Failed> {
        let stop = &self.reporter.stop;
        let loaded = self.runtime.block_on(async {
            let mut loading = std::pin::pin!(loading);
            tokio::select! {
                biased;
                () = stop.requested() => {
                    cancel.cancel();
                    loading.await
                }
                loaded = &mut loading => loaded,
            }
        });
        loaded.map_err(|error| {
            let end = match (&error, stop.get()) {
                (_, Some(stop)) => End::stopped(stop, 0),
                (DataError::NoMemory { .. }, None) => End::out_of_memory(error, 0),
                (_, None) if error.is_retryable() => End::error(error, 0),
                (_, None) => End::new(AttemptOutcome::DataInvalid, error.to_string(), 0),
            };
            end.into()
        })
    }

    /// Ends waits for other ranks once nothing can come of them: a stop before all ranks are
    /// ready, or an immediate stop that they have not agreed on in time.
    async fn cut_waits_short(self: Arc<Self>) {
        self.reporter.stop.requested().await;
        if !self.ready.load(Ordering::SeqCst) {
            self.cancel.cancel();
        }
        self.reporter.stop.reached(Stop::Now).await;
        tokio::time::sleep(AGREEMENT_GRACE).await;
        self.cancel.cancel();
    }

    /// What a result means for the trial.
    async fn end(&self, result: Result<Finish, Failed>, step: u64) -> End {
        let collective = matches!(result, Err(Failed::Train(TrainError::Collective(_))));
        if let (Some(stop), true) = (self.reporter.stop.get(), collective) {
            // The others left first.
            return End::stopped(stop, step);
        }
        match result {
            Ok(Finish::Completed) => End::completed(step),
            Ok(Finish::Paused) => End::paused(step),
            Ok(Finish::Stopped) => {
                // Without a stop of our own, another rank asked for it.
                let stop = self.stop_within_patience().await;
                End::stopped(stop.unwrap_or(Stop::Checkpoint), step)
            }
            Err(Failed::Ended(end)) => *end,
            Err(Failed::Text(text)) => End::error(text, step),
            Err(Failed::Train(TrainError::Collective(error))) if error.is_loss() => {
                match self.stop_within_patience().await {
                    Some(stop) => End::stopped(stop, step),
                    None => End::new(AttemptOutcome::NodeLost, error.to_string(), step),
                }
            }
            Err(Failed::Train(error)) => failed(&error, step),
        }
    }

    async fn stop_within_patience(&self) -> Option<Stop> {
        let requested = self.reporter.stop.requested();
        // Only whether it came matters.
        let _ = tokio::time::timeout(OTHER_RANK_PATIENCE, requested).await;
        self.reporter.stop.get()
    }
}

/// The end by an error of this rank's own.
fn failed(error: &TrainError, step: u64) -> End {
    match error {
        TrainError::NotANumber { step } => End::new(AttemptOutcome::Nan, error.to_string(), *step),
        error if error.can_retry() => End::error(error, step),
        error if out_of_memory::is_meant_by(&error.to_string()) => End::out_of_memory(error, step),
        error => End::infeasible(error, step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_attempt_can_get_past_is_tried_again() {
        let text = str::to_owned;
        let table = [
            (TrainError::NotANumber { step: 7 }, AttemptOutcome::Nan),
            (
                TrainError::MixedData {
                    rank: 1,
                    data: text("a.csv"),
                    theirs: text("1"),
                    zeros: text("0"),
                },
                AttemptOutcome::Error,
            ),
            (
                CollectiveError::Refused {
                    rank: 1,
                    reason: text("it is of another attempt"),
                }
                .into(),
                AttemptOutcome::Error,
            ),
            (
                CollectiveError::OutOfStep {
                    rank: 1,
                    given: text("a barrier"),
                    expected: text("a sum"),
                }
                .into(),
                AttemptOutcome::Error,
            ),
            (
                CollectiveError::Damaged {
                    rank: 1,
                    reason: text("a checksum does not fit"),
                }
                .into(),
                AttemptOutcome::Error,
            ),
            (
                TrainError::RanksDiffer {
                    step: 7,
                    agreed: 5,
                    finding: text("rank 1 holds other parameters"),
                },
                AttemptOutcome::Error,
            ),
            (
                TrainError::EmptyPart { part: "test" },
                AttemptOutcome::Infeasible,
            ),
        ];
        for (error, outcome) in table {
            let end = failed(&error, 7);
            let expected = End::new(outcome, error.to_string(), 7);
            assert_eq!(end, expected);
        }
    }
}
