//! The only loop: events in, the machine's decisions persisted, then effects and answers out.
//!
//! Owns the order "apply, commit, then act": nothing is answered, acknowledged or sent before what
//! it rests on is durable. While one commit is under way what comes in is decided for the next, so that
//! processor and disk work side by side; commits, and what is done after them, keep their order. Decides
//! nothing itself, and knows neither gRPC nor a store's kind.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::Term;

use crate::archive::Archives;
use crate::bundles::Bundles;
use crate::cluster::Machine;
use crate::cluster::api::Event;
use crate::cluster::model::SessionId;
use crate::store::{AnyStore, Store, StoreError};

mod act;
pub(crate) mod clock;
mod decided;
mod error;
mod handle;
mod hub;
mod input;
pub(crate) mod keeper;
mod knock;
mod outbox;
mod probe;
mod seat;
pub(crate) mod series;
pub(crate) mod thinking;
mod writes;

use clock::Clock;
use decided::{After, Decided};
pub(crate) use error::CallError;
pub use error::DriverError;
pub(crate) use handle::DriverHandle;
use hub::Hub;
pub(crate) use hub::{Changes, Watcher};
pub(crate) use input::Input;
use input::{InputQueue, LINES_WAIT, Patience, WeakInputs};
use keeper::Keeper;
use knock::Knocker;
use outbox::Outbox;
pub(crate) use outbox::{OutboxReader, Outgoing, SessionEnd};
use probe::Prober;
pub(crate) use seat::Seat;
#[cfg(feature = "etcd")]
pub(crate) use seat::{Leading, Standing};
use thinking::Thinker;

/// Inputs that are taken in at one time: what was committed meanwhile is not to wait for many.
const MAX_TAKEN: usize = 32;

/// Inputs that share one transaction at most.
const MAX_GATHERED: usize = 1024;

/// And the bytes of what they hold, after which no more are taken in: one of the largest messages comes on
/// top. A transaction of this size is written in well under a second.
const MAX_GATHERED_BYTES: usize = 16 * 1024 * 1024;

/// The loop comes round for the machine's deadlines at most this often.
const MIN_TICK: Duration = Duration::from_millis(1);

/// A loop that took in nothing for longer than it meant to by this much tells the machine.
const STALL: Duration = Duration::from_millis(500);

/// A commit under way.
struct Committing {
    written: Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>,
    after: Vec<After>,
    /// Nothing may be decided until it has ended.
    looked_at: bool,
}

/// What the loop has waited for.
enum Next {
    /// It is to stop.
    Stop,
    /// The commit under way has ended like this.
    Committed(Result<(), StoreError>),
    /// Inputs were taken in, or the machine's deadline has come.
    Decide,
    /// There will be no more inputs.
    Drained,
    /// What was decided has waited long enough.
    Due,
}

/// The loop's state.
pub(crate) struct Driver {
    machine: Machine,
    store: AnyStore,
    term: Term,
    clock: Clock,
    inputs: InputQueue,
    /// For tasks that report back; weak, so that they don't keep the loop alive.
    reports: WeakInputs,
    sessions: HashMap<SessionId, Outbox>,
    hub: Arc<Hub>,
    prober: Prober,
    knocker: Knocker,
    keeper: Keeper,
    thinker: Thinker,
    /// Commits with series come this long after one another where nobody waits for them.
    gather: Duration,
    /// When the last such commit was begun.
    flushed: Option<Instant>,
    decided: Decided,
    committing: Option<Committing>,
    /// When the loop listened last, and for how long it did not since the last inputs.
    listened: Instant,
    deaf: Duration,
    /// When the loop meant to come round at the latest.
    due: Option<Instant>,
}

impl Driver {
    /// A loop around a restored machine, and the handle that speaks to it. `closing` ends open calls;
    /// `tasks` joins what the loop starts beside itself; searches compute on so many `threads`.
    pub(crate) fn new(
        machine: Machine,
        store: AnyStore,
        clock: Clock,
        closing: CancellationToken,
        tasks: TaskTracker,
        threads: usize,
    ) -> Result<(Self, DriverHandle), StoreError> {
        let (sender, inputs) = input::queue();
        let hub = Arc::new(Hub::default());
        let term = machine.term();
        let archives = Archives::new(store.archives()?);
        let removals = Arc::<AtomicU64>::default();
        let bundles = Bundles::default();
        let keeper = Keeper {
            store: store.clone(),
            term,
            archives: archives.clone(),
            bundles: bundles.clone(),
            removals: Arc::clone(&removals),
            tasks: tasks.clone(),
            closing: closing.clone(),
        };
        let driver = Self {
            machine,
            store: store.clone(),
            term,
            clock,
            inputs,
            reports: sender.downgrade(),
            sessions: HashMap::new(),
            hub: Arc::clone(&hub),
            knocker: Knocker::new(tasks.clone()),
            thinker: Thinker::new(threads, tasks.clone(), closing.clone()),
            prober: Prober::new(tasks),
            keeper,
            gather: store.gather(),
            flushed: None,
            decided: Decided::default(),
            committing: None,
            listened: Instant::now(),
            deaf: Duration::ZERO,
            due: None,
        };
        let handle = DriverHandle {
            inputs: sender,
            hub,
            store,
            archives,
            bundles,
            term,
            sessions: Arc::new(AtomicU64::new(1)),
            removals,
            closing,
            #[cfg(test)]
            scans: Arc::default(),
        };
        Ok((driver, handle))
    }

    /// Runs until `stop`, then takes in what is queued, commits it and ends; or until a commit fails.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        let mut taken = Vec::with_capacity(MAX_TAKEN);
        let mut drained = false;
        self.listened = Instant::now();
        loop {
            if self.committing.is_none() {
                let due = self.decided.until.map(|until| until <= Instant::now());
                if due.is_some_and(|due| due || drained || !self.decided.has_room()) {
                    self.commit()?;
                    continue;
                }
                if drained {
                    break;
                }
            }
            match self.next(&mut taken, drained, &stop).await {
                Next::Stop => self.inputs.close(),
                Next::Committed(written) => {
                    written?;
                    self.act_after()?;
                }
                Next::Decide => self.decide(&mut taken),
                Next::Drained => drained = true,
                Next::Due => {}
            }
        }
        for outbox in self.sessions.values() {
            outbox.end(CallError::Stopped);
        }
        Ok(())
    }

    /// Waits for whatever comes first. Inputs are let wait while there is no room for what they lead to.
    async fn next(
        &mut self,
        taken: &mut Vec<Input>,
        drained: bool,
        stop: &CancellationToken,
    ) -> Next {
        let looked_at = self.committing.as_ref().is_some_and(|c| c.looked_at);
        let listens = !drained && !looked_at && self.decided.has_room();
        let deadline = self.machine.next_deadline().filter(|_| listens);
        let wake = deadline.map_or_else(Instant::now, |at| {
            self.clock.instant(at).max(Instant::now() + MIN_TICK)
        });
        self.due = deadline.map(|_| wake);
        let due = self.decided.until.filter(|_| self.committing.is_none());
        if listens {
            self.deaf += self.listened.elapsed();
        }
        let next = tokio::select! {
            biased;
            () = stop.cancelled(), if !self.inputs.is_closed() => Next::Stop,
            written = written(&mut self.committing), if self.committing.is_some() => Next::Committed(written),
            count = self.inputs.recv_many(taken, MAX_TAKEN), if listens => match count {
                0 => Next::Drained,
                _ => Next::Decide,
            },
            () = tokio::time::sleep_until(wake), if deadline.is_some() => Next::Decide,
            () = tokio::time::sleep_until(due.unwrap_or(wake)), if due.is_some() => Next::Due,
        };
        if listens {
            self.listened = Instant::now();
        }
        next
    }

    /// Applies what was taken in.
    fn decide(&mut self, taken: &mut Vec<Input>) {
        let now = self.clock.now_ms();
        // Before anything can expire: what workers sent meanwhile waits behind this.
        let late = self.due.map_or(Duration::ZERO, |due| due.elapsed());
        let stalled = std::mem::take(&mut self.deaf) + late;
        if stalled >= STALL {
            let ms = u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                stalled_ms = ms,
                "the coordinator stood still; leases are longer by it"
            );
            self.tell(now, None, Event::Stalled { ms });
            self.decided.waits(Instant::now());
        }
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.tell(now, None, Event::Tick);
            self.decided.waits(Instant::now());
        }
        for input in taken.drain(..) {
            self.decided.waits(self.latest(input.patience()));
            self.decided.bytes += input.bytes();
            self.take(now, input);
        }
    }

    /// When something that comes now is to be committed.
    fn latest(&self, patience: Patience) -> Instant {
        let now = Instant::now();
        let flush = self.flushed.map_or(now, |last| now.max(last + self.gather));
        match patience {
            Patience::None => now,
            Patience::Flush => flush,
            Patience::Lines => flush.max(now + LINES_WAIT),
        }
    }

    /// Begins to commit what was decided.
    fn commit(&mut self) -> Result<(), DriverError> {
        let Decided {
            writes,
            mut after,
            looks,
            ..
        } = std::mem::take(&mut self.decided);
        let looked_at = !looks.is_empty();
        after.extend(looks.into_iter().map(After::Read));
        let batch = writes.into_batch()?;
        if !batch.appends.is_empty() {
            self.flushed = Some(Instant::now());
        }
        let (store, term) = (self.store.clone(), self.term);
        let written = async move {
            match batch.is_empty() {
                true => Ok(()),
                false => store.commit(term, batch).await,
            }
        };
        self.committing = Some(Committing {
            written: Box::pin(written),
            after,
            looked_at,
        });
        Ok(())
    }

    /// Does what waited for the commit that has ended.
    fn act_after(&mut self) -> Result<(), DriverError> {
        // A leader that stood still may have been replaced meanwhile: what it would do now is not its
        // to do any more, even where nothing was written.
        if !self.store.holds(self.term) {
            return Err(StoreError::LeaseLost { held: self.term }.into());
        }
        let done = self.committing.take();
        for action in done.into_iter().flat_map(|done| done.after) {
            self.act(action);
        }
        Ok(())
    }

    fn take(&mut self, now: u64, input: Input) {
        match input {
            Input::Tell { session, event } => self.tell(now, session, event),
            Input::Ask { event, reply } => {
                let step = self.machine.apply(now, event);
                let answer = step.map(|step| self.decided.take(step));
                self.decided.after.push(After::Answer(reply, answer));
            }
            Input::Join {
                event,
                session,
                outbox,
                reply,
            } => {
                let answer = self.machine.apply(now, event).map(|step| {
                    self.decided.after.push(After::Open(session, outbox));
                    self.decided.take(step);
                });
                self.decided.after.push(After::Joined(reply, answer));
            }
            Input::Probed {
                worker,
                path,
                error,
            } => self.prober.answered(worker, path, error),
            Input::Read(look) => self.decided.look(look),
        }
    }

    fn tell(&mut self, now: u64, session: Option<SessionId>, event: Event) {
        if let Event::WorkerLost { session } = &event {
            self.decided.after.push(After::Forget(*session));
        }
        match (self.machine.apply(now, event), session) {
            (Ok(step), _) => {
                self.decided.take(step);
            }
            (Err(rejection), Some(session)) => {
                self.decided
                    .after
                    .push(After::End(session, rejection.into()));
            }
            (Err(rejection), None) => tracing::error!(%rejection, "the machine refused its driver"),
        }
    }
}

/// Waits for the end of the commit under way.
async fn written(committing: &mut Option<Committing>) -> Result<(), StoreError> {
    match committing {
        Some(committing) => committing.written.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
