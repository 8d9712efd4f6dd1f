//! The only loop: events in, the machine's decisions persisted, then effects and answers out.
//!
//! Owns the order "apply, commit, then act": nothing is answered, acknowledged or sent before what
//! it rests on is durable. Decides nothing itself, and knows neither gRPC nor a store's kind.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::{JobId, Term, TrialId, WorkerId};

use crate::archive::Archives;
use crate::cluster::Machine;
use crate::cluster::types::{Effect, Event, Rejection, Reply, SessionId, Step};
use crate::store::{AnyStore, Store, StoreError};

pub(crate) mod clock;
mod handle;
mod hub;
pub(crate) mod keeper;
mod knock;
mod outbox;
mod probe;
mod seat;
pub(crate) mod series;
mod writes;

use clock::Clock;
pub(crate) use handle::DriverHandle;
use hub::Hub;
pub(crate) use hub::Watcher;
use keeper::Keeper;
use knock::{Knock, Knocker};
use outbox::Outbox;
pub(crate) use outbox::{OutboxReader, Outgoing, SessionEnd};
use probe::{Probe, Prober};
pub(crate) use seat::Seat;
#[cfg(feature = "etcd")]
pub(crate) use seat::{Leading, Standing};
use writes::Writes;

/// Inputs that wait for the loop; who sends more waits, too.
const QUEUE: usize = 1024;

/// Inputs that share one transaction: many, since each transaction costs a sync of the disk.
const MAX_BATCH: usize = 256;

/// No more inputs are gathered once there are so many.
const MAX_GATHERED: usize = 1024;

/// The loop comes round for the machine's deadlines at most this often.
const MIN_TICK: Duration = Duration::from_millis(1);

/// A loop that comes round later than it meant to by this much tells the machine.
const STALL: Duration = Duration::from_millis(500);

/// Why the loop had to stop. Memory is ahead of the store then, so only a restart helps.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("what was decided could not be stored, so the coordinator stops: {0}")]
    Store(#[from] StoreError),
    #[error("what was decided has no stored form: {0}")]
    Encode(String),
}

/// Why a call into the loop, or a session, did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the coordinator is stopping; ask again when it is back")]
    Stopped,
    #[error("{}", not_leading(leader.as_deref()))]
    NotLeading {
        /// The address of the coordinator that does lead, where it is known.
        leader: Option<String>,
    },
    #[error("too many open calls: at most {most} may watch at one time")]
    TooMany { most: usize },
    #[error("the worker's connection broke")]
    Disconnected,
    #[error("the session was replaced: {0}")]
    Replaced(String),
    #[error("the worker does not read its messages: {waiting} were waiting")]
    TooSlow { waiting: usize },
    #[error("{0}")]
    Malformed(String),
}

fn not_leading(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this coordinator does not lead; {leader} does"),
        None => "this coordinator does not lead; who does is not known yet".to_owned(),
    }
}

/// One thing for the loop.
pub(crate) enum Input {
    /// News; of a session, or of the driver itself.
    Tell {
        session: Option<SessionId>,
        event: Event,
    },
    /// A request that is answered.
    Ask {
        event: Event,
        reply: oneshot::Sender<Result<Option<Reply>, Rejection>>,
    },
    /// A worker that registers.
    Join {
        event: Event,
        session: SessionId,
        outbox: Outbox,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// A worker's answer to a probe.
    Probed {
        worker: WorkerId,
        path: String,
        error: String,
    },
    /// A look at the machine.
    Read(Box<dyn FnOnce(&Machine) + Send>),
}

impl Input {
    fn own(event: Event) -> Self {
        Self::Tell {
            session: None,
            event,
        }
    }

    /// Whether nobody minds if this waits for others to share its commit.
    fn may_wait(&self) -> bool {
        let Self::Tell { event, .. } = self else {
            return false;
        };
        matches!(
            event,
            Event::Reports { .. } | Event::Logs { .. } | Event::Heartbeat { .. }
        )
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tell { .. } => "Tell",
            Self::Ask { .. } => "Ask",
            Self::Join { .. } => "Join",
            Self::Probed { .. } => "Probed",
            Self::Read(_) => "Read",
        })
    }
}

/// What waits for the commit.
enum After {
    Effects(Vec<Effect>),
    Logged(Vec<(JobId, TrialId)>),
    Answer(
        oneshot::Sender<Result<Option<Reply>, Rejection>>,
        Result<Option<Reply>, Rejection>,
    ),
    Open(SessionId, Outbox),
    Joined(
        oneshot::Sender<Result<(), Rejection>>,
        Result<(), Rejection>,
    ),
    End(SessionId, CallError),
    Forget(SessionId),
    Read(Box<dyn FnOnce(&Machine) + Send>),
}

/// The loop's state.
pub(crate) struct Driver {
    machine: Machine,
    store: AnyStore,
    term: Term,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    /// For tasks that report back; weak, so that they don't keep the loop alive.
    reports: mpsc::WeakSender<Input>,
    sessions: HashMap<SessionId, Outbox>,
    hub: Arc<Hub>,
    prober: Prober,
    knocker: Knocker,
    keeper: Keeper,
    /// How long reports wait for others to share a commit.
    gather: Duration,
    /// How long the last turn took.
    spent: Duration,
    /// When the loop meant to come round at the latest.
    due: Option<Instant>,
}

impl Driver {
    /// A loop around a restored machine, and the handle that speaks to it. `closing` ends open calls;
    /// `tasks` joins what the loop starts beside itself.
    pub(crate) fn new(
        machine: Machine,
        store: AnyStore,
        clock: Clock,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<(Self, DriverHandle), StoreError> {
        let (sender, inputs) = mpsc::channel(QUEUE);
        let hub = Arc::new(Hub::default());
        let term = machine.term();
        let archives = Archives::new(store.archives()?);
        let removals = Arc::<AtomicU64>::default();
        let keeper = Keeper {
            store: store.clone(),
            term,
            archives: archives.clone(),
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
            prober: Prober::new(tasks),
            keeper,
            gather: store.gather(),
            spent: Duration::ZERO,
            due: None,
        };
        let handle = DriverHandle {
            inputs: sender,
            hub,
            store,
            archives,
            term,
            sessions: Arc::new(AtomicU64::new(1)),
            removals,
            closing,
        };
        Ok((driver, handle))
    }

    /// Runs until `stop`, then takes in what is queued and ends; or until a commit fails.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.wait(&mut batch, &stop).await {
            self.gather(&mut batch, &stop).await;
            let begun = Instant::now();
            self.turn(&mut batch).await?;
            self.spent = begun.elapsed();
        }
        for outbox in self.sessions.values() {
            outbox.end(CallError::Stopped);
        }
        Ok(())
    }

    /// Waits for inputs or for the machine's deadline. False: there will be nothing more.
    async fn wait(&mut self, batch: &mut Vec<Input>, stop: &CancellationToken) -> bool {
        let deadline = self.machine.next_deadline();
        let wake = deadline.map_or_else(Instant::now, |at| {
            self.clock.instant(at).max(Instant::now() + MIN_TICK)
        });
        self.due = deadline.map(|_| wake);
        tokio::select! {
            biased;
            () = stop.cancelled(), if !self.inputs.is_closed() => {
                self.inputs.close();
                true
            }
            taken = self.inputs.recv_many(batch, MAX_BATCH) => taken > 0,
            () = tokio::time::sleep_until(wake), if deadline.is_some() => true,
        }
    }

    /// Lets reports and log lines wait for more of them, where each commit of such costs an object.
    /// Whatever somebody waits for ends it.
    async fn gather(&mut self, batch: &mut Vec<Input>, stop: &CancellationToken) {
        if self.gather.is_zero() {
            return;
        }
        let until = Instant::now() + self.gather;
        let until = self.due.map_or(until, |due| until.min(due));
        let mut looked_at = 0;
        while looked_at < batch.len()
            && batch.len() < MAX_GATHERED
            && batch[looked_at..].iter().all(Input::may_wait)
        {
            looked_at = batch.len();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(until) => return,
                // None come any more: `looked_at` ends it.
                _ = self.inputs.recv_many(batch, MAX_BATCH) => {}
            }
        }
    }

    /// Applies a batch, commits it whole, and only then acts on it.
    async fn turn(&mut self, batch: &mut Vec<Input>) -> Result<(), DriverError> {
        let now = self.clock.now_ms();
        let mut writes = Writes::default();
        let mut after = Vec::with_capacity(batch.len() + 1);
        // Before anything can expire: what workers sent meanwhile waits behind this turn.
        let late = self.due.map_or(Duration::ZERO, |due| due.elapsed());
        let stalled = self.spent + late;
        if stalled >= STALL {
            let ms = u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                stalled_ms = ms,
                "the coordinator stood still; leases are longer by it"
            );
            self.tell(now, None, Event::Stalled { ms }, &mut writes, &mut after);
        }
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.tell(now, None, Event::Tick, &mut writes, &mut after);
        }
        for input in batch.drain(..) {
            self.take(now, input, &mut writes, &mut after);
        }
        let written = writes.into_batch()?;
        if !written.is_empty() {
            self.store.commit(self.term, written).await?;
        }
        // A leader that stood still may have been replaced meanwhile: what it would do now is not its
        // to do any more, even where nothing was written.
        if !self.store.holds(self.term) {
            return Err(StoreError::LeaseLost { held: self.term }.into());
        }
        for action in after {
            self.act(action);
        }
        Ok(())
    }

    fn take(&mut self, now: u64, input: Input, writes: &mut Writes, after: &mut Vec<After>) {
        match input {
            Input::Tell { session, event } => self.tell(now, session, event, writes, after),
            Input::Ask { event, reply } => {
                let answer = self
                    .machine
                    .apply(now, event)
                    .map(|step| gather(step, writes, after));
                after.push(After::Answer(reply, answer));
            }
            Input::Join {
                event,
                session,
                outbox,
                reply,
            } => {
                let answer = self.machine.apply(now, event).map(|step| {
                    after.push(After::Open(session, outbox));
                    gather(step, writes, after);
                });
                after.push(After::Joined(reply, answer));
            }
            Input::Probed {
                worker,
                path,
                error,
            } => self.prober.answered(worker, path, error),
            Input::Read(look) => after.push(After::Read(look)),
        }
    }

    fn tell(
        &mut self,
        now: u64,
        session: Option<SessionId>,
        event: Event,
        writes: &mut Writes,
        after: &mut Vec<After>,
    ) {
        if let Event::WorkerLost { session } = &event {
            after.push(After::Forget(*session));
        }
        match (self.machine.apply(now, event), session) {
            (Ok(step), _) => {
                gather(step, writes, after);
            }
            (Err(rejection), Some(session)) => {
                after.push(After::End(session, rejection.into()));
            }
            (Err(rejection), None) => tracing::error!(%rejection, "the machine refused its driver"),
        }
    }

    fn act(&mut self, action: After) {
        // Whoever waits for an answer may have gone away: that is no error.
        match action {
            After::Effects(effects) => effects.into_iter().for_each(|effect| self.perform(effect)),
            After::Logged(trials) => {
                for (job, trial) in trials {
                    self.hub.logged(&job, trial);
                }
            }
            After::Answer(reply, answer) => drop(reply.send(answer)),
            After::Open(session, outbox) => drop(self.sessions.insert(session, outbox)),
            After::Joined(reply, answer) => drop(reply.send(answer)),
            After::End(session, reason) => self.end(session, reason),
            After::Forget(session) => drop(self.sessions.remove(&session)),
            After::Read(look) => look(&self.machine),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                worker,
                session,
                message,
            } => {
                let Some(outbox) = self.sessions.get(&session) else {
                    return;
                };
                if !outbox.send(Outgoing::Machine(message)) {
                    tracing::warn!(worker_id = %worker, "the worker's session has ended");
                    self.sessions.remove(&session);
                }
            }
            Effect::Close { session, reason } => self.end(session, CallError::Replaced(reason)),
            Effect::Probe {
                worker,
                session,
                url,
                path,
                content,
                reply_path,
            } => {
                let probe = Probe {
                    worker,
                    url,
                    path,
                    content,
                    reply_path,
                };
                let outbox = self.sessions.get(&session).cloned();
                self.prober.start(probe, outbox, self.reports.clone());
            }
            Effect::Knock {
                worker,
                session,
                address,
                until_refused,
            } => {
                let knock = Knock {
                    worker,
                    session,
                    address,
                    until_refused,
                };
                self.knocker.start(knock, self.reports.clone());
            }
            Effect::Archive { job, trials } => {
                self.keeper.archive(job, trials, self.reports.clone());
            }
            Effect::Remove {
                job,
                keep,
                checkpoint_url,
            } => {
                let inputs = self.reports.clone();
                self.keeper.remove(job, keep, checkpoint_url, inputs);
            }
            Effect::Changed { job, trials } => self.hub.changed(&job, &trials),
        }
    }

    fn end(&mut self, session: SessionId, reason: CallError) {
        if let Some(outbox) = self.sessions.remove(&session) {
            outbox.end(reason);
        }
    }
}

/// Puts a step's writes before the commit and the rest behind it; hands back its reply.
fn gather(mut step: Step, writes: &mut Writes, after: &mut Vec<After>) -> Option<Reply> {
    let logged: Vec<_> = step
        .logs
        .iter()
        .map(|log| (log.job.clone(), log.trial))
        .collect();
    writes.take(&mut step);
    if !logged.is_empty() {
        after.push(After::Logged(logged));
    }
    if !step.effects.is_empty() {
        after.push(After::Effects(step.effects));
    }
    step.reply
}

#[cfg(test)]
mod tests;
