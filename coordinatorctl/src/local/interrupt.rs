//! Ctrl-C and SIGTERM: the first asks for a clean end, the second leaves at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure, Outcome};

/// What comes this soon after the first is the same wish: timeout(1) and supervisors signal a process
/// and then its whole group.
const SAME: Duration = Duration::from_millis(300);

/// Listens from the moment it is made.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// From now on the next one ends the process on the spot.
    pub(crate) fn leave_at_next(mut self) {
        tokio::spawn(async move {
            let same = tokio::time::Instant::now() + SAME;
            while tokio::time::timeout_at(same, self.next()).await.is_ok() {}
            self.next().await;
            std::process::exit(i32::from(Code::Interrupted as u8));
        });
    }
}
