//! Ctrl-C and SIGTERM: the first asks for a clean end, the second leaves at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure, Outcome};

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
            self.next().await;
            std::process::exit(i32::from(Code::Interrupted as u8));
        });
    }
}
