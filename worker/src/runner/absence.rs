//! Whether the coordinator is there, and since when it is not.
//!
//! An attempt goes on without it for as long as its spec says (`orphan_timeout`), at least until this
//! worker's lease has run out: before that nobody else can have been given the attempt.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The coordinator is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Away {
    /// The latest moment at which it certainly heard of this worker.
    contact: Instant,
    /// How long after that it counts this worker as lost.
    lease: Duration,
}

#[derive(Debug)]
pub(crate) struct Absence(watch::Sender<Option<Away>>);

impl Default for Absence {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Absence {
    /// A session with a coordinator has begun.
    pub(crate) fn over(&self) {
        self.0.send_replace(None);
    }

    /// The session has ended.
    pub(crate) fn begun(&self, contact: Instant, lease: Duration) {
        self.0.send_replace(Some(Away { contact, lease }));
    }

    /// Whether the coordinator is away now.
    pub(crate) fn is_now(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Resolves once the coordinator has been away for `timeout`, and this worker's lease has run out.
    pub(crate) async fn outlasts(&self, timeout: Duration) {
        let mut state = self.0.subscribe();
        loop {
            let away = *state.borrow_and_update();
            let over = async {
                match away {
                    Some(away) => {
                        // A year is as good as never and cannot overflow an `Instant`.
                        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
                        let limit = timeout.max(away.lease).min(FAR);
                        tokio::time::sleep_until(away.contact + limit).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is in `self`: the channel cannot close meanwhile.
                _ = state.changed() => {}
                () = over => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    /// Whether it has resolved after so many seconds away.
    async fn outlasted(timeout_s: u64, away_s: u64, returns: bool) -> bool {
        let absence = Absence::default();
        let timeout = Duration::from_secs(timeout_s);
        let waiting = absence.outlasts(timeout);
        let away = async {
            absence.begun(Instant::now(), LEASE);
            if returns {
                tokio::time::sleep(Duration::from_secs(away_s - 1)).await;
                absence.over();
                tokio::time::sleep(Duration::from_secs(10 * away_s)).await;
            } else {
                tokio::time::sleep(Duration::from_secs(away_s)).await;
            }
        };
        tokio::select! {
            biased;
            () = away => false,
            () = waiting => true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_goes_on_for_its_timeout_and_at_least_for_the_lease() {
        for (timeout, away, returns, expected) in [
            (0, 59, false, false),
            (0, 61, false, true),
            (10, 59, false, false),
            (3_600, 3_599, false, false),
            (3_600, 3_601, false, true),
            (3_600, 3_600, true, false),
        ] {
            let found = outlasted(timeout, away, returns).await;
            assert_eq!(found, expected, "{timeout} {away} {returns}");
        }
    }
}
