//! Tells those who watch a job what has changed, never how: they read the latest state themselves.
//!
//! Each watcher holds a set of what changed since it last looked, so that a slow one loses
//! intermediate states but never the last, and its memory is bounded by the job's trials.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use trainyard_common::ids::{JobId, TrialId};

/// The most watchers at one time: open `watch` and `logs -f` calls.
pub(crate) const MAX_WATCHERS: usize = 4096;

/// What has changed since a watcher last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The job's summary.
    pub(crate) job: bool,
    /// These trials' summaries.
    pub(crate) trials: BTreeSet<TrialId>,
    /// These trials have new log lines.
    pub(crate) logs: BTreeSet<TrialId>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        !self.job && self.trials.is_empty() && self.logs.is_empty()
    }
}

/// All watchers of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    jobs: HashMap<JobId, Vec<Weak<Shared>>>,
    count: usize,
}

#[derive(Debug, Default)]
struct Shared {
    changes: Mutex<Changes>,
    notify: Notify,
}

impl Hub {
    /// A watcher that sees every change from now on; none when there are [`MAX_WATCHERS`].
    pub(crate) fn subscribe(self: &Arc<Self>, job: &JobId) -> Option<Watcher> {
        let mut watched = lock(&self.watched);
        if watched.count >= MAX_WATCHERS {
            return None;
        }
        watched.count += 1;
        let shared = Arc::new(Shared::default());
        let of_job = watched.jobs.entry(job.clone()).or_default();
        of_job.push(Arc::downgrade(&shared));
        Some(Watcher {
            hub: Arc::clone(self),
            job: job.clone(),
            shared,
        })
    }

    /// The job's summary and those of `trials` have changed.
    pub(crate) fn changed(&self, job: &JobId, trials: &[TrialId]) {
        self.mark(job, |changes| {
            changes.job = true;
            changes.trials.extend(trials);
        });
    }

    /// `trial` has new log lines.
    pub(crate) fn logged(&self, job: &JobId, trial: TrialId) {
        self.mark(job, |changes| {
            changes.logs.insert(trial);
        });
    }

    fn mark(&self, job: &JobId, edit: impl Fn(&mut Changes)) {
        let watched = lock(&self.watched);
        for watcher in watched.jobs.get(job).into_iter().flatten() {
            if let Some(shared) = watcher.upgrade() {
                edit(&mut lock(&shared.changes));
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
            let changes = std::mem::take(&mut *lock(&self.shared.changes));
            if !changes.is_empty() {
                return changes;
            }
            self.shared.notify.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = lock(&self.hub.watched);
        watched.count -= 1;
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
        let watcher = hub.subscribe(&job).unwrap();
        assert!(watcher.next().now_or_never().is_none());
        hub.changed(&job, &[TrialId(1)]);
        hub.changed(&job, &[TrialId(0), TrialId(1)]);
        hub.logged(&job, TrialId(2));
        hub.changed(&JobId::from("b-2"), &[TrialId(9)]);
        let changes = watcher.next().await;
        assert!(changes.job);
        assert_eq!(changes.trials, BTreeSet::from([TrialId(0), TrialId(1)]));
        assert_eq!(changes.logs, BTreeSet::from([TrialId(2)]));
        assert!(watcher.next().now_or_never().is_none());
        // A change while nobody waits is found at the next look.
        hub.changed(&job, &[]);
        assert!(watcher.next().now_or_never().unwrap().job);
    }

    #[tokio::test]
    async fn watchers_are_counted_and_leave_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let job = JobId::from("a-1");
        let all: Vec<_> = (0..MAX_WATCHERS)
            .map(|_| hub.subscribe(&job).unwrap())
            .collect();
        assert!(hub.subscribe(&job).is_none());
        drop(all);
        assert!(lock(&hub.watched).jobs.is_empty());
        assert!(hub.subscribe(&job).is_some());
    }
}
