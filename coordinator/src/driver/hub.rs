//! Tells those who watch a job what has changed, never how: they read the latest state themselves.
//!
//! Each watcher holds a set of what changed since it last looked, so that a slow one loses
//! intermediate states but never the last, and its memory is bounded by the job's trials.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use trainyard_common::ids::{JobId, TrialId};

/// What has changed since a watcher last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The job's summary.
    pub(crate) job: bool,
    /// These trials' summaries.
    pub(crate) trials: BTreeSet<TrialId>,
    /// These trials have new log lines; with the number of the newest change that brought some.
    pub(crate) logs: BTreeMap<TrialId, u64>,
    /// Number of the newest of these changes.
    pub(crate) newest: u64,
}

impl Changes {
    fn is_empty(&self) -> bool {
        !self.job && self.trials.is_empty() && self.logs.is_empty()
    }
}

/// All watchers of all jobs. How many there may be is for those to say who let them in.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    jobs: HashMap<JobId, Vec<Weak<Shared>>>,
    /// Number of the newest change.
    newest: u64,
}

#[derive(Debug, Default)]
struct Shared {
    changes: Mutex<Changes>,
    notify: Notify,
}

impl Hub {
    /// A watcher that sees every change from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, job: &JobId) -> Watcher {
        let mut watched = lock(&self.watched);
        let shared = Arc::new(Shared::default());
        let of_job = watched.jobs.entry(job.clone()).or_default();
        of_job.push(Arc::downgrade(&shared));
        Watcher {
            hub: Arc::clone(self),
            job: job.clone(),
            shared,
        }
    }

    /// Number of the newest change.
    pub(crate) fn newest(&self) -> u64 {
        lock(&self.watched).newest
    }

    /// The job's summary and those of `trials` have changed.
    pub(crate) fn changed(&self, job: &JobId, trials: &[TrialId]) {
        self.mark(job, |changes, _| {
            changes.job = true;
            changes.trials.extend(trials);
        });
    }

    /// `trial` has new log lines.
    pub(crate) fn logged(&self, job: &JobId, trial: TrialId) {
        self.mark(job, |changes, number| {
            changes.logs.insert(trial, number);
        });
    }

    fn mark(&self, job: &JobId, edit: impl Fn(&mut Changes, u64)) {
        let mut watched = lock(&self.watched);
        watched.newest += 1;
        for watcher in watched.jobs.get(job).into_iter().flatten() {
            if let Some(shared) = watcher.upgrade() {
                let mut changes = lock(&shared.changes);
                edit(&mut changes, watched.newest);
                changes.newest = watched.newest;
                drop(changes);
                shared.notify.notify_one();
            }
        }
    }
}

/// One who watches one job. Leaves when dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    hub: Arc<Hub>,
    job: JobId,
    shared: Arc<Shared>,
}

impl Watcher {
    /// Waits until something has changed since the last call, and takes it. Loses nothing when it
    /// is cancelled.
    pub(crate) async fn next(&self) -> Changes {
        loop {
            // A change between this look and the wait leaves its permit in `notify`.
            let changes = self.take();
            if !changes.is_empty() {
                return changes;
            }
            self.shared.notify.notified().await;
        }
    }

    /// What has changed since the last call, if anything has.
    pub(crate) fn take(&self) -> Changes {
        std::mem::take(&mut *lock(&self.shared.changes))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = lock(&self.hub.watched);
        if let Some(of_job) = watched.jobs.get_mut(&self.job) {
            of_job.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.shared)));
            if of_job.is_empty() {
                watched.jobs.remove(&self.job);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing below panics halfway through a change, so a poisoned lock holds a whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn changes_are_merged_and_the_last_is_never_lost() {
        let hub = Arc::new(Hub::default());
        let job = JobId::from("a-1");
        let watcher = hub.subscribe(&job);
        assert!(watcher.next().now_or_never().is_none());
        hub.changed(&job, &[TrialId(1)]);
        hub.changed(&job, &[TrialId(0), TrialId(1)]);
        hub.logged(&job, TrialId(2));
        hub.changed(&JobId::from("b-2"), &[TrialId(9)]);
        let changes = watcher.next().await;
        assert!(changes.job);
        assert_eq!(changes.trials, BTreeSet::from([TrialId(0), TrialId(1)]));
        assert_eq!(changes.logs, BTreeMap::from([(TrialId(2), 3)]));
        assert_eq!(hub.newest(), 4);
        assert!(watcher.next().now_or_never().is_none());
        // A change while nobody waits is found at the next look.
        hub.changed(&job, &[]);
        assert!(watcher.next().now_or_never().unwrap().job);
    }

    #[test]
    fn watchers_leave_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let job = JobId::from("a-1");
        let all: Vec<_> = (0..100).map(|_| hub.subscribe(&job)).collect();
        drop(all);
        assert!(lock(&hub.watched).jobs.is_empty());
    }
}
