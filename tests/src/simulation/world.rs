//! The world: virtual time, the queue of what happens next, and the end. Every draw comes from the seed,
//! in the order of what happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use trainyard_common::ids::{JobId, RequestId, TrialId, WorkerId};
use trainyard_coordinator::cluster::api::{Event, MachineConfig};
use trainyard_coordinator::cluster::model::{AttemptRef, JobState, SessionId};

use super::clients::Client;
use super::compare::JobResult;
use super::coordinator::Node;
use super::jobs::variants;
use super::leaving::Leavers;
use super::network::{Cuts, Link, LinkId, Way};
use super::objects::Objects;
use super::plan::{Fault, Plan};
use super::rank::{Group, RunId};
use super::readers::Reader;
use super::stats::Stats;
use super::store::ModelStore;
use super::thinking::Answer;
use super::turn::{Commit, Input};
use super::worker::Worker;

/// When a world begins, in Unix milliseconds: clocks that are behind must stay positive.
const BEGIN_MS: u64 = 10_000_000;

/// After the last fault everything must have ended within this.
const PATIENCE_MS: u64 = 600_000;

/// Readers begin within this.
const READERS_COME_MS: u64 = 8_000;

/// Draws after which a world is said not to end.
const MOST_DRAWS_A_WORLD: u64 = 50_000_000;

/// `late`: everything that a searcher is asked takes its time.
pub(super) fn config(late: bool) -> MachineConfig {
    let usual = MachineConfig::default();
    MachineConfig {
        quick_ms: if late { 0 } else { usual.quick_ms },
        lease_ms: 10_000,
        heartbeat_ms: 2_000,
        replay_grace_ms: 2_000,
        probe_retry_ms: 3_000,
        probe_timeout_ms: 15_000,
        vacate_ms: 8_000,
        gang_wait_ms: 10_000,
        reserve_ms: 15_000,
        ..usual
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Message(LinkId, Way),
    Hangup(LinkId, Way),
    LeftBehind(LinkId),
    Connect(usize),
    RegisterTimeout(LinkId),
    Heartbeat(usize, LinkId),
    Rank(usize, RunId, u64),
    Exit(usize),
    Orphaned(usize, u64),
    Knock(usize, u64, usize, SessionId),
    /// Slots, and whether it runs programs.
    Spawn(usize, bool),
    Turn(usize, u64),
    Written(u64, u64),
    Committed(usize, u64, bool),
    Echo(usize, u64, usize),
    Elect,
    Deposed(usize, u64),
    Start(usize),
    Client(usize),
    Ask(usize, usize),
    Kept(usize, u64, usize),
    Thought(usize, usize),
    Reader(usize, u64),
    ReaderLives(usize),
    Fault,
    Heal(usize, usize),
    Calm,
}

#[derive(Debug, PartialEq, Eq)]
struct Queued {
    at: u64,
    number: u64,
    due: Due,
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    draws: u64,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    /// No further faults.
    pub(super) calm: bool,
    /// Since when; by the world's clock.
    pub(super) calm_since: u64,
    pub(super) stats: Stats,
    /// Processor time that one step of the machine may take, nanoseconds; `None`: nobody looks.
    pub(super) step_ns: Option<u64>,
    violation: Option<String>,
    log: Option<Box<dyn FnMut(String)>>,
    pub(super) store: ModelStore,
    pub(super) store_slow_until: u64,
    pub(super) store_fault: Option<Fault>,
    pub(super) flying: BTreeMap<u64, Commit>,
    pub(super) flying_next: u64,
    pub(super) objects: Objects,
    pub(super) nodes: Vec<Node>,
    /// How far ahead the clock of the newest leader was when it began.
    pub(super) last_offset_ms: u64,
    /// Messages that come a second time.
    pub(super) echoes: Vec<Option<Input>>,
    /// Of searchers.
    pub(super) answers: Vec<Option<Answer>>,
    pub(super) workers: Vec<Worker>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: LinkId,
    pub(super) cuts: Cuts,
    pub(super) groups: BTreeMap<AttemptRef, Group>,
    /// Errors that trials' programs have had.
    pub(super) errors: BTreeMap<(JobId, TrialId), u32>,
    /// How far a program has come by files of its own.
    pub(super) files: BTreeMap<(JobId, TrialId), u64>,
    pub(super) clients: Vec<Client>,
    /// Jobs that somebody wants cancelled.
    pub(super) cancelled: BTreeSet<JobId>,
    /// Searches that somebody wants more trials of.
    pub(super) extended: BTreeSet<JobId>,
    /// Jobs of which somebody wants failed trials tried again.
    pub(super) retried: BTreeSet<JobId>,
    /// Jobs that somebody archives or deletes.
    pub(super) leavers: Leavers,
    pub(super) readers: Vec<Reader>,
    /// Which process has each worker's id, as far as is durable.
    pub(super) owners: BTreeMap<WorkerId, usize>,
}

impl World {
    /// Each step of the machine may take so much of the processor's time.
    pub(super) fn within(mut self, step: Option<Duration>) -> Self {
        let step = step.map(|step| u64::try_from(step.as_nanos()).unwrap_or(u64::MAX));
        self.step_ns = step;
        self
    }

    pub(super) fn new(plan: Plan, log: Option<Box<dyn FnMut(String)>>) -> Self {
        let clients = plan.jobs.iter().enumerate().map(|(n, variant)| {
            Client::new(Event::Submit {
                request: RequestId(format!("r{n}")),
                document: Box::new(variants()[*variant].document.clone()),
            })
        });
        let mut world = Self {
            clients: clients.collect(),
            draws: 0,
            now: BEGIN_MS,
            queue: BinaryHeap::new(),
            queued: 0,
            calm: plan.disturbed_ms == 0,
            calm_since: BEGIN_MS,
            stats: Stats::default(),
            step_ns: None,
            violation: None,
            log,
            store: ModelStore::default(),
            store_slow_until: 0,
            store_fault: None,
            flying: BTreeMap::new(),
            flying_next: 0,
            objects: Objects::default(),
            last_offset_ms: 0,
            echoes: Vec::new(),
            answers: Vec::new(),
            nodes: (0..plan.coordinators).map(|_| Node::default()).collect(),
            workers: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            cuts: Cuts::new(),
            groups: BTreeMap::new(),
            errors: BTreeMap::new(),
            files: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            extended: BTreeSet::new(),
            retried: BTreeSet::new(),
            leavers: Leavers::default(),
            readers: Vec::new(),
            owners: BTreeMap::new(),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for n in 0..self.nodes.len() {
            self.start_node(n);
        }
        self.after(1, Due::Elect);
        for slots in self.plan.workers.clone() {
            self.spawn_worker(slots, true);
        }
        if let Some(slots) = self.plan.refusing {
            self.spawn_worker(slots, false);
        }
        for client in 0..self.clients.len() {
            let wait = self.below(3_000);
            self.after(wait, Due::Client(client));
        }
        for (follows, submission) in self.plan.readers.clone() {
            let (r, wait) = (self.readers.len(), self.below(READERS_COME_MS));
            self.readers.push(Reader::new(follows, submission));
            self.after(wait, Due::ReaderLives(r));
        }
        if !self.calm {
            self.next_fault();
            self.after(self.plan.disturbed_ms, Due::Calm);
        }
    }

    /// What becomes of one job when nothing disturbs it.
    pub(super) fn undisturbed(variant: usize) -> Result<JobResult, String> {
        let mut world = Self::new(Plan::undisturbed(variant), None);
        world.run()?;
        let result = world.results().pop();
        result.ok_or_else(|| "nobody leads at the end".to_owned())
    }

    /// Runs the world to its end and compares it with its jobs left in peace.
    pub(super) fn run_and_compare(mut self) -> Result<Stats, String> {
        self.run()?;
        self.stats.virtual_ms = self.now - BEGIN_MS;
        self.check_winners()?;
        self.compare_all()?;
        for job in self.store.jobs.values() {
            self.stats.replayed += job.decisions.log.len() as u64;
            self.stats.rungs += u64::from(job.decisions.rungs());
            self.stats.promotions += u64::from(job.decisions.promoted);
        }
        Ok(self.stats)
    }

    fn run(&mut self) -> Result<(), String> {
        let mut limit = u64::MAX;
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now = next.at;
            self.happen(next.due);
            if let Some(violation) = self.violation.take() {
                let at = self.now - BEGIN_MS;
                return Err(format!("after {at} ms: {violation}"));
            }
            if self.calm {
                limit = limit.min(self.now + PATIENCE_MS);
                if self.quiet() {
                    return self.check_quiet();
                }
            }
            if self.now > limit || self.draws > MOST_DRAWS_A_WORLD {
                return Err(format!("no end: {}", self.whole_state()));
            }
        }
        Err("nothing happens any more".to_owned())
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Message(link, way) => self.deliver(link, way),
            Due::Hangup(link, way) => self.hangup(link, way),
            Due::LeftBehind(link) => self.leave_link_behind(link),
            Due::Connect(w) => self.connect(w),
            Due::RegisterTimeout(link) => self.register_timeout(link),
            Due::Heartbeat(w, link) => self.heartbeat(w, link),
            Due::Rank(w, run, turn) => self.rank_turn(w, run, turn),
            Due::Exit(w) => self.exit(w, true),
            Due::Orphaned(w, since) => self.orphaned(w, since),
            Due::Knock(n, epoch, w, session) => self.knock(n, epoch, w, session),
            Due::Spawn(slots, programs) => self.spawn_worker(slots, programs),
            Due::Turn(n, epoch) => self.turn(n, epoch),
            Due::Written(commit, back) => self.write_flying(commit, back),
            Due::Committed(n, epoch, ok) => self.committed(n, epoch, ok),
            Due::Echo(n, epoch, number) => self.echo(n, epoch, number),
            Due::Elect => self.elect(false),
            Due::Deposed(n, epoch) => self.deposed(n, epoch),
            Due::Start(n) => self.restart_node(n),
            Due::Client(client) => self.client(client),
            Due::Ask(client, n) => self.ask(client, n),
            Due::Kept(n, epoch, number) => self.kept(n, epoch, number),
            Due::Thought(n, number) => self.thought(n, number),
            Due::Reader(r, call) => self.reader(r, call),
            Due::ReaderLives(r) => self.reader_lives(r),
            Due::Fault => self.fault(),
            Due::Heal(w, n) => self.heal(w, n),
            Due::Calm => self.calm_down(),
        }
    }

    pub(super) fn at(&mut self, at: u64, due: Due) {
        self.queued += 1;
        self.queue.push(Reverse(Queued {
            at: at.max(self.now),
            number: self.queued,
            due,
        }));
    }

    pub(super) fn after(&mut self, ms: u64, due: Due) {
        self.at(self.now + ms, due);
    }

    /// A draw below a bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.draws += 1;
        self.plan.key.below(self.draws, bound)
    }

    /// Whether a mishap with these odds happens; never once it is calm.
    pub(super) fn unlucky(&mut self, one_in: u64) -> bool {
        !self.calm && self.below(one_in) == 0
    }

    /// Whether queues hold few at present; in the end all is as it usually is.
    pub(super) fn is_tight(&self) -> bool {
        self.plan.tight && !self.calm
    }

    /// How far a coordinator's wall clock is ahead of the world's start: clocks jump at restarts.
    pub(super) fn plan_clock_offset(&mut self) -> u64 {
        if self.plan.faults.is_empty() {
            0
        } else {
            self.below(4) * self.below(40_000)
        }
    }

    pub(super) fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// A line of the log.
    pub(super) fn say(&mut self, who: impl FnOnce() -> String, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let at = self.now - BEGIN_MS;
            let (who, what) = (who(), what());
            log(format!("{:>9.3} {who:<14} {what}", at as f64 / 1_000.0));
        }
    }

    /// Something is wrong; the first that is noticed is told.
    pub(super) fn violated(&mut self, message: String) {
        self.violation.get_or_insert(message);
    }

    /// Whether nothing is left to be done. Looks at the cheapest first.
    fn quiet(&self) -> bool {
        let ended = |job: &super::store::JobView| job.record.state.ended();
        self.store.jobs.len() + self.store.gone.len() == self.plan.jobs.len()
            && self.store.jobs.values().all(ended)
            && self.clients.iter().all(Client::answered)
            && self.readers.iter().all(Reader::is_done)
            && self.flying.is_empty()
            && self
                .workers
                .iter()
                .all(|worker| !worker.alive || worker.is_idle())
            && self
                .leader()
                .is_some_and(|leader| leader.machine.cluster().slots_used == 0)
            && self.store.nobody_leaves()
    }

    pub(super) fn leader(&self) -> Option<&super::coordinator::Leader> {
        let leaders = self.nodes.iter().filter_map(|node| node.leader.as_ref());
        leaders.max_by_key(|leader| leader.term)
    }

    /// All jobs have ended: what must hold then.
    fn check_quiet(&mut self) -> Result<(), String> {
        if let Some(rank) = self.store.living() {
            return Err(format!("{rank:?} still lives after the end"));
        }
        for (job, view) in &self.store.jobs {
            if !view.pending.is_empty() || !view.running.is_empty() || !view.paused.is_empty() {
                return Err(format!(
                    "{job} has ended, but trials have not: waiting {:?}, running {:?}, paused {:?}",
                    view.pending, view.running, view.paused
                ));
            }
            // A search that came to its end has heard of every trial.
            let unheard = (0..view.trials).map(TrialId);
            let mut unheard = unheard.filter(|trial| !view.decisions.has_observed(*trial));
            if view.record.state == JobState::Completed
                && let Some(trial) = unheard.next()
            {
                return Err(format!("the end of trial {trial} of {job} never counted"));
            }
        }
        self.check_leavers()?;
        let newest = self.nodes.iter().position(|node| {
            let leader = node.leader.as_ref();
            leader.is_some_and(|leader| leader.term == self.store.term)
        });
        if let Some(n) = newest {
            self.check_restored(n);
        }
        self.violation.take().map_or(Ok(()), Err)
    }

    fn whole_state(&self) -> String {
        let Some(leader) = self.leader() else {
            return "nobody leads".to_owned();
        };
        let jobs = leader.machine.jobs();
        let open = jobs.iter().filter(|job| !job.state.ended());
        let open: Vec<_> = open
            .map(|job| (&job.job, job.state, job.trials, &job.note))
            .collect();
        format!("{open:?}; {:?}", leader.machine.workers())
    }
}
