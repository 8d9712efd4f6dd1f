//! Clients that read: one watches a job, one follows its log, each over one call after another, with whoever
//! leads. The model of the shells' streams (`grpc/watch.rs`, `grpc/logs.rs`) and of the driver's hub: what
//! they read, in which order, and what may happen between two reads.
//!
//! An answer never goes back, whoever gives it, and a stream that ends with its job has told all that was
//! there before the end.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, TrialId};
use trainyard_coordinator::cluster::api::Reply;

use super::follow::Follow;
use super::sightings::{Sightings, trials_of};
use super::stats::Hit;
use super::turn::Input;
use super::world::{Due, World};

/// Changes within this come as one, as in the shell.
const PAUSE_MS: u64 = 50;

/// Readers look this often whether their call still stands, and begin another where it does not.
const ALIVE_MS: u64 = 1_500;

/// How often each reads its job from beginning to end.
const ROUNDS: u32 = 2;

/// What has changed since a reader last looked, as in the driver's hub.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) job: bool,
    pub(super) trials: BTreeSet<TrialId>,
    pub(super) logs: BTreeSet<TrialId>,
}

/// What a reader's call waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// A leader.
    Closed,
    /// A first look at the job.
    Job,
    /// The trials after that; whether the job had ended.
    Trials {
        ended: bool,
    },
    /// News.
    News,
    /// The trials that have changed, and the job with them.
    Changed(BTreeSet<TrialId>),
    /// Lines, in its own steps.
    Lines(Box<Follow>),
    Done,
}

/// One client.
#[derive(Debug)]
pub(super) struct Reader {
    follows: bool,
    /// Which submission it reads, and the job once that is answered.
    submission: usize,
    pub(super) job: Option<JobId>,
    /// Number of the open call; what belongs to an earlier one is void.
    pub(super) call: u64,
    pub(super) node: usize,
    term: u64,
    pub(super) stage: Stage,
    /// A look is queued.
    woken: bool,
    rounds: u32,
    pub(super) seen: Sightings,
}

impl Reader {
    pub(super) fn new(follows: bool, submission: usize) -> Self {
        Self {
            follows,
            submission,
            job: None,
            call: 0,
            node: 0,
            term: 0,
            stage: Stage::Closed,
            woken: false,
            rounds: ROUNDS,
            seen: Sightings::default(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl World {
    /// Looks whether the reader's call still stands, and opens one where none does.
    pub(super) fn reader_lives(&mut self, r: usize) {
        let reader = &self.readers[r];
        if reader.is_done() {
            return;
        }
        let wait = ALIVE_MS + self.below(ALIVE_MS);
        self.after(wait, Due::ReaderLives(r));
        let reader = &self.readers[r];
        let stands = self.nodes[reader.node].leader.as_ref();
        let stands = stands
            .is_some_and(|leader| leader.term == reader.term && leader.watchers.contains_key(&r));
        if matches!(reader.stage, Stage::Closed) || !stands {
            self.open_reader(r);
        }
    }

    fn open_reader(&mut self, r: usize) {
        let moved = !matches!(self.readers[r].stage, Stage::Closed);
        let answer = self.clients[self.readers[r].submission].reply();
        let Some(Reply::Submitted { job, .. }) = answer else {
            return;
        };
        let job = job.clone();
        let newest = self.store.term;
        let leads = self.nodes.iter_mut().position(|node| {
            let leader = node.leader.as_mut().filter(|leader| leader.term == newest);
            let watch = |leader: &mut super::coordinator::Leader| {
                leader.watchers.insert(r, (job.clone(), Changes::default()));
            };
            leader.map(watch).is_some()
        });
        let Some(n) = leads else { return };
        if moved {
            self.stats.hit(Hit::ReaderMoved);
        }
        let reader = &mut self.readers[r];
        reader.job = Some(job);
        reader.node = n;
        reader.term = newest;
        reader.call += 1;
        reader.woken = false;
        reader.stage = match reader.follows {
            true => Stage::Lines(Box::default()),
            false => Stage::Job,
        };
        self.ask_to_read(r);
    }

    /// Queues a look at the machine, behind what the loop has to do already.
    pub(super) fn ask_to_read(&mut self, r: usize) {
        let reader = &self.readers[r];
        self.input(reader.node, Input::Read(r, reader.call));
    }

    /// The job has changed, or lines of it were stored: those who read it are told.
    pub(super) fn notify(&mut self, n: usize, job: &JobId, edit: impl Fn(&mut Changes)) {
        let Some(leader) = &mut self.nodes[n].leader else {
            return;
        };
        let watchers = leader.watchers.iter_mut();
        let mut told = Vec::new();
        for (r, (_, changes)) in watchers.filter(|(_, (watched, _))| watched == job) {
            edit(changes);
            told.push(*r);
        }
        for r in told {
            self.wake_reader(n, r);
        }
    }

    /// Queues the reader's next look, if it waits for news and there are any.
    pub(super) fn wake_reader(&mut self, n: usize, r: usize) {
        let leader = self.nodes[n].leader.as_ref();
        let changes = leader.and_then(|leader| leader.watchers.get(&r));
        let reader = &mut self.readers[r];
        let waits = match (&reader.stage, changes) {
            (Stage::News, Some((_, changes))) => changes.job || !changes.trials.is_empty(),
            (Stage::Lines(follow), Some((_, changes))) => {
                follow.waits() && (changes.job || !changes.logs.is_empty())
            }
            _ => false,
        };
        if waits && reader.node == n && !reader.woken {
            reader.woken = true;
            let call = reader.call;
            let wait = if reader.follows { 1 } else { PAUSE_MS };
            self.after(wait, Due::Reader(r, call));
        }
    }

    /// The reader's next step, unless its call is gone.
    pub(super) fn reader(&mut self, r: usize, call: u64) {
        let reader = &mut self.readers[r];
        if reader.call != call {
            return;
        }
        reader.woken = false;
        let n = reader.node;
        let leader = self.nodes[n].leader.as_mut();
        let watcher = leader.and_then(|leader| leader.watchers.get_mut(&r));
        let Some((_, changes)) = watcher else { return };
        match &mut reader.stage {
            Stage::News => {
                let changes = std::mem::take(changes);
                reader.stage = Stage::Changed(changes.trials);
                self.ask_to_read(r);
            }
            Stage::Lines(follow) => {
                if follow.waits() {
                    follow.told(std::mem::take(changes).logs);
                }
                self.follow(r);
            }
            _ => {}
        }
    }

    /// A look at the machine, all of whose decisions are committed.
    pub(super) fn read(&mut self, n: usize, r: usize, call: u64) {
        let reader = &mut self.readers[r];
        let Some(leader) = self.nodes[n].leader.as_ref() else {
            return;
        };
        if reader.call != call || reader.node != n {
            return;
        }
        let Some(job) = reader.job.clone() else {
            return;
        };
        let summary = leader.machine.any_job(&job);
        let Some(summary) = summary else {
            return self.unknown(r, &job);
        };
        let ended = summary.state.ended();
        if self.retried.contains(&job) {
            // It may begin again from where it was before.
            reader.seen.forget();
        }
        let seen = reader.seen.job(summary, self.extended.contains(&job));
        match std::mem::replace(&mut reader.stage, Stage::Closed) {
            Stage::Job => {
                reader.stage = Stage::Trials { ended };
                self.ask_to_read(r);
            }
            Stage::Trials { ended } => {
                let trials = trials_of(&leader.machine, &self.leavers, &job);
                let seen = reader.seen.trials(trials);
                self.watched(r, ended, seen);
            }
            Stage::Changed(changed) => {
                let all = trials_of(&leader.machine, &self.leavers, &job);
                // Of a job that has left, all that was not told before lies in its archive.
                let archived = leader.machine.archive_of(&job).is_some();
                let told = all
                    .into_iter()
                    .filter(|trial| archived || changed.contains(&trial.trial));
                let seen = reader.seen.trials(told);
                self.watched(r, ended, seen);
            }
            Stage::Lines(mut follow) => {
                let archive = leader.machine.archive_of(&job);
                let trials = reader.seen.total();
                let lines = (0..trials).map(TrialId).map(|trial| {
                    let stored = self.store.lines.of(&job, trial).len();
                    (trial, stored)
                });
                let lines: BTreeMap<TrialId, usize> = lines.collect();
                follow.looked(ended, archive, lines);
                reader.stage = Stage::Lines(follow);
                self.follow(r);
            }
            other => reader.stage = other,
        }
        if let Err(message) = seen {
            self.violated(format!("reader {r} of {job}: {message}"));
        }
    }

    /// The machine does not know the job.
    fn unknown(&mut self, r: usize, job: &JobId) {
        let asked = self.leavers.asked.get(job);
        if !asked.is_some_and(|asked| asked.deleted) {
            self.violated(format!("{job} was submitted, and is unknown to reader {r}"));
        }
        self.readers[r].stage = Stage::Done;
    }

    /// A watcher has been told of trials; with the job's end its stream ends.
    fn watched(&mut self, r: usize, ended: bool, seen: Result<(), String>) {
        if let Err(message) = seen {
            return self.violated(format!("reader {r}: {message}"));
        }
        let n = self.readers[r].node;
        if !ended {
            self.readers[r].stage = Stage::News;
            return self.wake_reader(n, r);
        }
        // What brought the end was told of before this look, if not before the last one.
        let leader = self.nodes[n].leader.as_mut();
        let watcher = leader.and_then(|leader| leader.watchers.get_mut(&r));
        let untold = watcher.map(|(_, changes)| std::mem::take(&mut changes.trials));
        if let Some(untold) = untold.filter(|untold| !untold.is_empty()) {
            self.readers[r].stage = Stage::Changed(untold);
            return self.ask_to_read(r);
        }
        let reader = &self.readers[r];
        let Some((job, leader)) = reader
            .job
            .as_ref()
            .zip(self.nodes[reader.node].leader.as_ref())
        else {
            return;
        };
        let all = trials_of(&leader.machine, &self.leavers, job);
        let missing = reader.seen.missing(&all);
        if let Some(missing) = missing.filter(|_| !self.retried.contains(job)) {
            let message = format!("the watch of {job} ended without {missing}");
            return self.violated(message);
        }
        self.stats.hit(Hit::Watched);
        self.round_over(r);
    }

    /// A reader has read its job to the end.
    pub(super) fn round_over(&mut self, r: usize) {
        let reader = &mut self.readers[r];
        let n = reader.node;
        reader.call += 1;
        reader.rounds = reader.rounds.saturating_sub(1);
        reader.stage = match reader.rounds {
            0 => Stage::Done,
            _ => Stage::Closed,
        };
        if let Some(leader) = &mut self.nodes[n].leader {
            leader.watchers.remove(&r);
        }
    }
}
