//! What is on its way to a store: while bytes arrive nobody takes the attempt for hung, and what stands still for long
//! is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::attempt::{Activity, Stop, StopSignal};
use crate::runner::retention::UPLOAD_GRACE;

/// How often an upload is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often is told that it is waited for.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// An upload of which no part was stored for so long is given up: longer than a store's own tries and those of
/// the uploader take together.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(600);

/// Bytes handed over and stored; what is stored again after a failure counts again.
#[derive(Debug, Default)]
pub(super) struct Moved {
    handed: AtomicU64,
    pub(super) stored: Arc<AtomicU64>,
}

impl Moved {
    pub(super) fn hand(&self, bytes: u64) {
        self.handed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is waited for is progress as long as bytes are stored.
    pub(super) async fn watch<T>(&self, activity: &Activity, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut before = self.stored.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.stored.load(Ordering::Relaxed);
            if now != before {
                before = now;
                activity.sign();
            }
        }
    }

    /// Resolves once nothing has been stored for long; says meanwhile how far it is.
    pub(super) async fn stalled(&self, tell: impl Fn(u64, u64)) {
        let mut before = self.stored.load(Ordering::Relaxed);
        let mut since = Instant::now();
        let mut told = Instant::now();
        while since.elapsed() < STALLED_AFTER {
            tokio::time::sleep(LOOK_EVERY).await;
            let stored = self.stored.load(Ordering::Relaxed);
            if stored != before {
                before = stored;
                since = Instant::now();
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell(stored, self.handed.load(Ordering::Relaxed));
            }
        }
    }
}

/// Resolves once uploads are no longer to be waited for: some time after an immediate stop. Nobody counts what an
/// abandoned attempt saves; the others' may save steps.
pub(super) async fn given_up(stop: &StopSignal) {
    stop.reached(Stop::Now).await;
    let abandoned = stop.reached(Stop::Abandoned);
    let _ = tokio::time::timeout(UPLOAD_GRACE, abandoned).await;
}
