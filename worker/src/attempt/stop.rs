//! How an attempt is told to stop: a signal that can only become more urgent.

use tokio::sync::watch;

/// How an attempt is to stop, the more urgent the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Make a checkpoint first: the trial goes on later, elsewhere.
    Checkpoint,
    /// Leave at once.
    Now,
    /// Leave at once and say nothing more: the attempt is no longer this worker's.
    Abandoned,
}

#[derive(Debug)]
pub(crate) struct StopSignal(watch::Sender<Option<Stop>>);

impl Default for StopSignal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl StopSignal {
    /// Asks to stop; a less urgent request than an earlier one changes nothing.
    pub(crate) fn request(&self, stop: Stop) {
        self.0.send_if_modified(|present| {
            let more_urgent = *present < Some(stop);
            if more_urgent {
                *present = Some(stop);
            }
            more_urgent
        });
    }

    pub(crate) fn get(&self) -> Option<Stop> {
        *self.0.borrow()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.get() == Some(Stop::Abandoned)
    }

    /// Resolves once a stop of any kind was asked for.
    pub(crate) async fn requested(&self) {
        self.reached(Stop::Checkpoint).await;
    }

    /// Resolves once a stop at least this urgent was asked for.
    pub(crate) async fn reached(&self, stop: Stop) {
        // The sender is in `self`: the channel cannot close meanwhile.
        let _ = self
            .0
            .subscribe()
            .wait_for(|present| *present >= Some(stop))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn becomes_only_more_urgent() {
        let signal = StopSignal::default();
        assert_eq!(signal.get(), None);
        signal.request(Stop::Now);
        signal.request(Stop::Checkpoint);
        assert_eq!(signal.get(), Some(Stop::Now));
        signal.requested().await;
        signal.request(Stop::Abandoned);
        assert!(signal.is_abandoned());
        signal.reached(Stop::Abandoned).await;
    }
}
