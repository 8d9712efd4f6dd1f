//! The attempts of this worker: started on slots, told to stop, and known until they have ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::Instrument as _;
use trainyard_proto::v1::{Assignment, AttemptOutcome, Pulse, RunningAttempt, StopAttempt};

use crate::attempt::{AttemptKey, End, Stop, StopSignal};
use crate::outbox::{Level, Outbox, Reporter};
use crate::runner::{self, Host};

#[derive(Debug)]
pub(crate) struct Attempts {
    host: Arc<Host>,
    outbox: Arc<Outbox>,
    /// One permit each: a GPU is not shared, not even with an attempt that is about to end.
    slots: Vec<Arc<Semaphore>>,
    table: Mutex<Table>,
    /// Attempts in the table.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    /// Each attempt from the worker's side.
    running: HashMap<AttemptKey, Reporter>,
    /// The worker leaves: nothing new is started.
    leaving: bool,
}

impl Attempts {
    pub(crate) fn new(host: Arc<Host>, outbox: Arc<Outbox>) -> Self {
        Self {
            slots: (0..host.devices.len())
                .map(|_| Arc::new(Semaphore::new(1)))
                .collect(),
            host,
            outbox,
            table: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    /// The table is whole even if a holder of the lock panicked: each change is one insertion or removal.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an assignment once its slots are free. One that runs already, or that a newer membership of
    /// the same trial has overtaken, is ignored; older ones of the same trial are stopped. They still tell
    /// their end: the coordinator keeps their slots for them until it has heard it.
    pub(crate) fn start(self: &Arc<Self>, assignment: Assignment) {
        let key = AttemptKey::of_assignment(&assignment);
        let known = self.outbox.ended().contains(&key);
        let stop = Arc::new(StopSignal::default());
        let mut table = self.lock();
        let overtaken = table
            .running
            .keys()
            .any(|other| other.same_trial(&key) && other.generation > key.generation);
        if known || overtaken || table.running.contains_key(&key) {
            tracing::debug!(?key, "assignment is known or overtaken");
            return;
        }
        for (other, running) in &table.running {
            if other.same_trial(&key) && other.generation < key.generation {
                running.stop.request(Stop::Now);
            }
        }
        if table.leaving {
            stop.request(Stop::Checkpoint);
        }
        let reporter = Reporter::new(key.clone(), stop.clone(), self.outbox.clone());
        table.running.insert(key.clone(), reporter.clone());
        self.count.send_replace(table.running.len());
        drop(table);
        let span = tracing::info_span!(
            "attempt",
            job_id = %key.job,
            trial_id = key.trial.0,
            attempt = key.attempt.0,
            generation = key.generation.0,
            rank = key.rank,
            worker_id = %self.host.worker_id,
        );
        tokio::spawn(self.clone().run(assignment, reporter).instrument(span));
    }

    /// Runs one attempt on its slots and tells its end.
    async fn run(self: Arc<Self>, assignment: Assignment, reporter: Reporter) {
        let rank = assignment.ranks.get(assignment.rank as usize);
        let wanted = rank.map_or(Vec::new(), |rank| rank.slots.clone());
        let alone = assignment.ranks.len() <= 1;
        reporter.activity.waits(true);
        let held = tokio::select! {
            biased;
            () = reporter.stop.requested() => None,
            held = self.take(&wanted, alone) => Some(held),
        };
        reporter.activity.waits(false);
        let end = match &held {
            Some(Ok(_)) => {
                // On a task of its own, so that a panic anywhere ends the attempt alone.
                let running = runner::execute(assignment, reporter.clone(), self.host.clone());
                let joined = tokio::spawn(running.in_current_span()).await;
                joined.unwrap_or_else(|error| {
                    End::error(format!("the attempt broke off: {error}"), 0)
                })
            }
            Some(Err(error)) => End::error(error, 0),
            None => End::stopped(reporter.stop.get().unwrap_or(Stop::Now), 0),
        };
        log_end(&reporter, &end);
        reporter.report(end.into_body()).await;
        drop(held);
        let mut table = self.lock();
        table.running.remove(&reporter.key);
        self.count.send_replace(table.running.len());
    }

    /// Waits for these slots, or those for which one waits there.
    async fn take(&self, slots: &[u32], alone: bool) -> Result<Vec<OwnedSemaphorePermit>, String> {
        let mut on = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(slot) = self.host.devices.runs_on(*slot, alone) else {
                let count = self.host.devices.names().len();
                return Err(format!(
                    "slot {slot} was assigned, but this worker has {count}"
                ));
            };
            on.extend(slot);
        }
        // In order, so that no two attempts wait for each other.
        on.sort_unstable();
        on.dedup();
        let mut held = Vec::with_capacity(on.len());
        for free in on.into_iter().filter_map(|slot| self.slots.get(slot)) {
            // Never closed.
            held.extend(free.clone().acquire_owned().await);
        }
        Ok(held)
    }

    /// Passes a stop on to the attempt that it names, if it still runs.
    pub(crate) fn stop(&self, stop: &StopAttempt) {
        let how = if stop.checkpoint {
            Stop::Checkpoint
        } else {
            Stop::Now
        };
        for (key, running) in &self.lock().running {
            if key.is_meant_by(stop) {
                let why = &stop.why;
                tracing::info!(job_id = %key.job, trial_id = key.trial.0, ?how, why, "told to stop");
                // Before what it says of it: a rank's last words may follow from another's end.
                if !why.is_empty() && running.stop.get() < Some(how) {
                    running.info(&format!("told to stop: {why}"));
                }
                running.stop.request(how);
            }
        }
    }

    /// Stops attempts that are no longer this worker's; they say nothing more.
    pub(crate) fn abandon(&self, abandoned: &[RunningAttempt]) {
        for key in abandoned.iter().map(AttemptKey::of_running) {
            if let Some(running) = self.lock().running.get(&key) {
                tracing::warn!(job_id = %key.job, trial_id = key.trial.0, "attempt is no longer ours");
                running.stop.request(Stop::Abandoned);
            }
            self.outbox.abandon(&key);
        }
    }

    /// Asks every attempt to checkpoint and stop.
    pub(crate) fn preempt_all(&self) {
        for running in self.lock().running.values() {
            running.stop.request(Stop::Checkpoint);
        }
    }

    /// Asks every attempt to checkpoint and stop, and starts nothing new.
    pub(crate) fn leave(&self) {
        self.lock().leaving = true;
        self.preempt_all();
    }

    /// What the coordinator is told at (re-)registration: all that runs, and all that has ended
    /// without its knowing it yet.
    pub(crate) fn known(&self) -> Vec<RunningAttempt> {
        let table = self.lock();
        let running = table
            .running
            .iter()
            .filter(|(_, running)| !running.stop.is_abandoned())
            .map(|(key, _)| key.clone());
        let mut known: Vec<AttemptKey> = running.collect();
        for key in self.outbox.ended() {
            if !known.contains(&key) {
                known.push(key);
            }
        }
        known.iter().map(AttemptKey::running).collect()
    }

    /// What the heartbeat says of the progress of all that runs.
    pub(crate) fn pulses(&self) -> Vec<Pulse> {
        let table = self.lock();
        let running = table.running.iter();
        running
            .filter(|(_, running)| !running.stop.is_abandoned())
            .map(|(key, running)| {
                let (step, signs) = running.activity.read();
                Pulse {
                    attempt: Some(key.running()),
                    step,
                    signs,
                }
            })
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Resolves once nothing runs.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as `self`.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

fn log_end(reporter: &Reporter, end: &End) {
    let outcome = end.outcome.as_str_name();
    let outcome = outcome
        .trim_start_matches("ATTEMPT_OUTCOME_")
        .to_lowercase();
    let (level, text) = match end.outcome {
        AttemptOutcome::Error
        | AttemptOutcome::Nan
        | AttemptOutcome::Infeasible
        | AttemptOutcome::OutOfMemory
        | AttemptOutcome::DataInvalid => (
            Level::Error,
            format!(
                "attempt ended at step {}: {outcome}: {}",
                end.step,
                end.shown()
            ),
        ),
        _ => (
            Level::Info,
            format!("attempt ended at step {}: {outcome}", end.step),
        ),
    };
    tracing::info!(%outcome, step = end.step, error = %end.shown(), "attempt ended");
    reporter.log(level, &text);
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn each_slot_is_held_by_one_attempt() {
        let outbox = Arc::new(Outbox::new(64));
        let attempts = Attempts::new(Arc::new(Host::for_test()), outbox);
        let take = |slots: &[u32]| attempts.take(slots, true).now_or_never();
        let first = take(&[1]).unwrap().unwrap();
        assert!(take(&[1]).is_none(), "held");
        assert!(take(&[2, 1]).is_none(), "a part of it is held");
        let others = take(&[2, 0]).unwrap().unwrap();
        drop(first);
        assert_eq!(take(&[1, 1]).unwrap().unwrap().len(), 1);
        drop(others);
        assert_eq!(
            take(&[3]).unwrap().unwrap_err(),
            "slot 3 was assigned, but this worker has 3"
        );
    }

    #[test]
    fn what_was_taken_ahead_waits_for_a_slot_but_no_rank_of_several_does() {
        let mut host = Host::for_test();
        host.devices = host.devices.ahead(2);
        let attempts = Attempts::new(Arc::new(host), Arc::new(Outbox::new(64)));
        let first = attempts.take(&[0], true).now_or_never().unwrap().unwrap();
        let waits = attempts.take(&[3], true);
        let mut waits = std::pin::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        let rank = attempts.take(&[3], false).now_or_never().unwrap().unwrap();
        assert!(rank.is_empty());
        drop(first);
        assert_eq!(waits.now_or_never().unwrap().unwrap().len(), 1);
        let error = attempts
            .take(&[5], true)
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert_eq!(error, "slot 5 was assigned, but this worker has 5");
    }
}
