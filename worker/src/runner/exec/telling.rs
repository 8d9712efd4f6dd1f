//! Reports on their way to the coordinator, whichever way they came: counted, told in order, and logged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Locked, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use trainyard_proto::v1::{Metric, Progress, report::Body};

use super::Task;
use super::checkpoints::ProgramCheckpoints;
use super::count::{Count, Counted, Known};
use super::meter::Meter;
use super::said::Said;
use crate::attempt::{Stop, StopSignal};
use crate::outbox::{Level, Reporter};

/// The one way for the reports of an attempt.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) reporter: Reporter,
    pub(super) checkpoints: ProgramCheckpoints,
    /// Held until a report is handed over, so that they are told in the order in which they were counted.
    count: tokio::sync::Mutex<Count>,
    meter: Locked<Meter>,
    /// The attempt has come as far as it was to train.
    reached: Arc<StopSignal>,
    has_reported: AtomicBool,
    has_channel: AtomicBool,
    /// Reports that wait for room.
    waiting: AtomicUsize,
    connections: Locked<Connections>,
    /// Why the configuration cannot be, as the program said.
    infeasible: Locked<Option<String>>,
}

/// After a program has closed its last connection it is seen within this time whether it has ended.
const SETTLED: Duration = Duration::from_secs(1);

/// Connections of the channel that are open, and when the last was closed.
#[derive(Debug, Default)]
struct Connections {
    open: usize,
    closed: Option<Instant>,
    ended: bool,
}

/// A connection of the channel.
#[derive(Debug)]
pub(super) struct Connected<'a>(&'a Telling);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let mut connections = locked(&self.0.connections);
        connections.open -= 1;
        connections.closed = Some(Instant::now());
    }
}

impl Telling {
    /// `most`: log lines of reports a second.
    pub(super) fn new(
        task: &Task,
        reporter: &Reporter,
        checkpoints: &ProgramCheckpoints,
        most: u32,
    ) -> Self {
        let assignment = &task.assignment;
        let job = &task.spec.job;
        let restored = checkpoints.restored();
        let known = Known {
            objectives: job.objectives.iter().map(|of| of.metric.clone()).collect(),
            until: assignment.until_epoch,
            first_epoch: job
                .entrypoint
                .as_ref()
                .and_then(|program| program.first_epoch),
            from_zero: assignment.epochs_from_zero,
            reported: (assignment.reported_epoch, assignment.reported_step),
            restored: restored.map(|restored| (restored.epoch, restored.step)),
        };
        Self {
            reporter: reporter.clone(),
            checkpoints: checkpoints.clone(),
            count: tokio::sync::Mutex::new(Count::new(known)),
            meter: Locked::new(Meter::new(most)),
            reached: Arc::default(),
            has_reported: AtomicBool::new(false),
            has_channel: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            connections: Locked::default(),
            infeasible: Locked::default(),
        }
    }

    /// Whether the program has made a report.
    pub(super) fn has_reported(&self) -> bool {
        self.has_reported.load(Ordering::Relaxed)
    }

    /// Whether the program speaks over the channel.
    pub(super) fn has_channel(&self) -> bool {
        self.has_channel.load(Ordering::Relaxed)
    }

    /// The program has opened a connection, which is open until this is dropped.
    pub(super) fn opens_channel(&self) -> Connected<'_> {
        self.has_channel.store(true, Ordering::Relaxed);
        locked(&self.connections).open += 1;
        Connected(self)
    }

    /// Whether a report on standard output counts although the program has opened the channel: it has closed all
    /// connections and goes on. One that ends closes them, too, and what it has printed before is text.
    pub(super) async fn counts_again(&self) -> bool {
        let closed = match *locked(&self.connections) {
            Connections {
                open: 0, closed, ..
            } => closed,
            _ => return false,
        };
        if let Some(closed) = closed {
            tokio::time::sleep_until(closed + SETTLED).await;
        }
        let now = locked(&self.connections);
        now.open == 0 && !now.ended
    }

    /// The program has ended.
    pub(super) fn program_ends(&self) {
        locked(&self.connections).ended = true;
    }

    /// The program says that its configuration cannot be.
    pub(super) fn is_infeasible(&self, why: String) {
        *locked(&self.infeasible) = Some(why);
    }

    /// Whether the attempt has come as far as it was to train.
    pub(super) fn is_reached(&self) -> bool {
        self.reached.get().is_some()
    }

    /// Resolves once it has.
    pub(super) async fn reached(&self) {
        self.reached.requested().await;
    }

    /// Resolves once the attempt has a checkpoint that could not be saved.
    pub(super) async fn failed(&self) {
        self.checkpoints.failed().await;
    }

    /// Takes a report, and the checkpoint that belongs to it. Every rank of a gang may make some; those of rank 0 count.
    pub(super) async fn report(&self, said: Said) -> Result<(), String> {
        self.has_reported.store(true, Ordering::Relaxed);
        self.count_in(said).await
    }

    /// Takes what a library has reported by itself, of a program that makes no reports.
    pub(super) async fn update(&self, said: Said) {
        if let Err(why) = self.count_in(said).await {
            self.line(Level::Warn, &why);
        }
    }

    /// Takes what was logged within an epoch, after so many complete ones: a point of the curve, and no result.
    pub(super) async fn within(&self, epoch: u64, step: u64, metrics: Vec<(String, f64)>) {
        let count = self.count.lock().await;
        if self.reporter.key.rank != 0 || self.is_reached() {
            return;
        }
        let metrics = metrics.into_iter();
        let progress = Progress {
            step,
            epoch,
            metrics: metrics
                .map(|(name, value)| Metric { name, value })
                .collect(),
            ..Progress::default()
        };
        self.reporter.activity.reached(step);
        self.line(Level::Info, &shown(&progress));
        self.pass_on(progress).await;
        drop(count);
    }

    async fn count_in(&self, said: Said) -> Result<(), String> {
        if self.reporter.key.rank != 0 {
            // It is counted for this rank alone, which comes to its rung by the same report as rank 0.
            if self.count.lock().await.report(said).reached {
                self.reached.request(Stop::Checkpoint);
            }
            return Ok(());
        }
        let made = said.checkpoint.clone();
        let mut count = self.count.lock().await;
        let Counted {
            progress,
            notes,
            reached,
        } = count.report(said);
        for note in &notes {
            self.line(Level::Warn, note);
        }
        let counts = progress.is_some();
        if let Some(progress) = progress {
            self.reporter.activity.reached(progress.step);
            self.line(Level::Info, &shown(&progress));
            self.pass_on(progress).await;
        }
        let (epoch, step) = count.position();
        let metrics = count.metrics_of(epoch);
        drop(count);
        let taken = match made {
            Some(path) if counts => {
                let path = Path::new(&path);
                self.checkpoints.take(path, epoch, step, metrics).await
            }
            Some(path) => Err(format!(
                "checkpoint {path}: it is of an epoch beyond the one until which the program was to train"
            )),
            None => Ok(()),
        };
        // The program may end now.
        if reached {
            self.reached.request(Stop::Checkpoint);
        }
        taken
    }

    /// Takes a checkpoint that was not made with a report. Every rank may make some; those of rank 0 are kept.
    pub(super) async fn checkpoint(
        &self,
        path: &str,
        epoch: Option<u64>,
        step: Option<u64>,
    ) -> Result<(), String> {
        let mut count = self.count.lock().await;
        let newest = count.position();
        let epoch = epoch.map_or(newest.0, |given| count.complete(given));
        if self.reporter.key.rank == 0 {
            for note in count.saved(epoch) {
                self.line(Level::Warn, &note);
            }
        }
        let metrics = count.metrics_of(epoch);
        drop(count);
        let step = step.unwrap_or(newest.1);
        let path = Path::new(path);
        self.checkpoints.take(path, epoch, step, metrics).await
    }

    /// Takes a copy of a file or folder that is kept with the trial. Every rank may name some; those of rank 0 are kept.
    pub(super) async fn artifact(&self, path: &str, name: Option<String>) -> Result<(), String> {
        self.checkpoints.take_artifact(Path::new(path), name).await
    }

    /// Waits for room, as long as that takes: it is the coordinator that is away.
    async fn pass_on(&self, progress: Progress) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.reporter.report(Body::Progress(progress)).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether what the program has said is still on its way: a report waits for room, or a file is taken over.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 || self.checkpoints.is_taking()
    }

    /// The last step that was reported, once the program has ended, and why the configuration cannot be.
    pub(super) async fn end(&self) -> (u64, Option<String>) {
        let mut count = self.count.lock().await;
        if self.reporter.key.rank == 0 {
            for note in count.end() {
                self.line(Level::Warn, &note);
            }
        }
        locked(&self.meter).end(&self.reporter);
        (count.position().1, locked(&self.infeasible).take())
    }

    fn line(&self, level: Level, text: &str) {
        locked(&self.meter).line(&self.reporter, level, text);
    }
}

/// Each change of what is locked here is whole, whatever panics.
fn locked<T>(lock: &Locked<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(progress: &Progress) -> String {
    let metrics: Vec<String> = progress
        .metrics
        .iter()
        .map(|metric| format!("{} {:.6}", metric.name, metric.value))
        .collect();
    let Progress { epoch, step, .. } = progress;
    format!("epoch {epoch}, step {step}: {}", metrics.join(", "))
}
