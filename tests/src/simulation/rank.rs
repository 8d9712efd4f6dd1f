//! The attempts that workers run: waiting for a slot, meeting the other ranks, an epoch at a time,
//! checkpoints in the model object store, stopped or broken off. The model of the worker's runner.

use std::collections::BTreeMap;

use trainyard_common::checkpoint::{CheckpointRef, KeepPolicy, to_drop};
use trainyard_common::ids::JobId;
use trainyard_coordinator::cluster::records::AttemptKind;
pub(super) use trainyard_coordinator::cluster::types::Outcome;
use trainyard_coordinator::cluster::types::{Assignment, AttemptRef, Point, RankRef, ReportBody};

use super::plan::{EPOCHS, Fate, Variant, variant_of, variants};
use super::worker::short;
use super::world::{Due, World};

/// Numbered within a worker, in order of assignment.
pub(super) type RunId = u64;

/// A step takes up to this long.
const EPOCH_MS: u64 = 1_500;

/// A checkpoint's manifest follows its parts after up to this long.
const UPLOAD_MS: u64 = 300;

/// How long ranks wait for each other before they give up.
const RENDEZVOUS_MS: u64 = 15_000;

/// How urgently an attempt was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Checkpoint,
    Now,
    Abandoned,
}

/// What a run does when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing: it waits for a slot.
    Wait,
    Meet,
    Train,
    /// The parts are stored, the manifest is not.
    Manifest,
}

/// One rank of an attempt on a worker.
pub(super) struct Run {
    pub(super) rank: RankRef,
    assignment: Assignment,
    pub(super) stop: Option<Stop>,
    /// Has its slot.
    pub(super) placed: bool,
    next: Next,
    began: u64,
    pub(super) step: u64,
    /// Signs of progress.
    pub(super) signs: u64,
    /// Number of its newest queued turn; earlier ones are void.
    turn: u64,
    /// Checkpoints that are known to exist.
    known: Vec<CheckpointRef>,
}

impl Run {
    pub(super) fn in_gang(&self) -> bool {
        self.assignment.ranks.len() > 1
    }
}

/// The ranks of an attempt that work together.
#[derive(Default)]
pub(super) struct Group {
    members: Vec<(usize, RunId)>,
    /// A rank has gone: the others notice.
    pub(super) broken: bool,
    finished: bool,
}

/// The model object store: whole checkpoints, and those of which only parts are there.
#[derive(Default)]
pub(super) struct Objects {
    manifests: BTreeMap<(JobId, String), u64>,
    pub(super) torn: u64,
}

impl Objects {
    fn whole(&self, job: &JobId, manifest: &str) -> bool {
        self.manifests
            .contains_key(&(job.clone(), manifest.to_owned()))
    }
}

impl World {
    /// An assignment arrives: known and overtaken ones are ignored, older ones of the trial stopped.
    pub(super) fn assigned(&mut self, w: usize, assignment: Assignment) {
        let rank = RankRef {
            at: assignment.at.clone(),
            rank: assignment.rank,
        };
        let worker = &self.workers[w];
        let same = |other: &RankRef| other.at.job == rank.at.job && other.at.trial == rank.at.trial;
        let mut runs = worker.runs.values();
        let overtaken = runs.any(|run| {
            run.rank == rank || (same(&run.rank) && run.rank.at.generation > rank.at.generation)
        });
        if overtaken || worker.outbox.ended().any(|ended| *ended == rank) {
            return;
        }
        let older: Vec<RunId> = worker
            .runs
            .iter()
            .filter(|(_, run)| same(&run.rank) && run.rank.at.generation < rank.at.generation)
            .map(|(id, _)| *id)
            .collect();
        for id in older {
            self.request_stop(w, id, Stop::Now);
        }
        self.say(|| format!("w{w}"), || format!("is given {}", short(&rank)));
        self.check_resume(&assignment);
        let worker = &mut self.workers[w];
        let id = worker.next_run;
        worker.next_run += 1;
        let run = Run {
            rank,
            stop: worker.leaving.then_some(Stop::Checkpoint),
            placed: false,
            next: Next::Wait,
            began: self.now,
            step: 0,
            signs: 0,
            turn: 0,
            known: assignment.checkpoints.clone(),
            assignment,
        };
        let stopped = run.stop.is_some();
        worker.runs.insert(id, run);
        if stopped {
            self.next_turn(w, id, 10);
        }
        self.give_slots(w);
    }

    /// The checkpoint that it is to go on from exists, whole.
    fn check_resume(&mut self, assignment: &Assignment) {
        let job = &assignment.at.job;
        if let Some(from) = &assignment.resume_from
            && !self.objects.whole(job, &from.manifest)
            && !self.dropped.contains(&(job.clone(), from.manifest.clone()))
        {
            self.violated(format!("{:?} never existed whole", from.manifest));
        }
    }

    /// Gives free slots to the runs that have waited longest.
    fn give_slots(&mut self, w: usize) {
        let now = self.now;
        let worker = &mut self.workers[w];
        let mut free = worker.slots.saturating_sub(worker.taken());
        let mut begun = Vec::new();
        for (id, run) in &mut worker.runs {
            if free > 0 && !run.placed && run.stop.is_none() {
                free -= 1;
                run.placed = true;
                run.next = Next::Meet;
                run.began = now;
                begun.push((*id, run.rank.at.clone()));
            }
        }
        for (id, at) in begun {
            self.groups.entry(at).or_default().members.push((w, id));
            self.next_turn(w, id, 100);
        }
    }

    /// A run's turn.
    pub(super) fn rank_turn(&mut self, w: usize, id: RunId, turn: u64) {
        let worker = &self.workers[w];
        let Some(run) = worker.runs.get(&id).filter(|run| run.turn == turn) else {
            return;
        };
        let away = worker.stopped_until.max(worker.hung_until);
        if away > self.now {
            return self.at(away, Due::Rank(w, id, turn));
        }
        let (stop, next) = (run.stop, run.next);
        if let Some(run) = self.workers[w].runs.get_mut(&id) {
            run.signs += 1;
        }
        match (stop, next) {
            (Some(Stop::Abandoned), _) => self.remove_run(w, id, false),
            (Some(Stop::Now), _) => self.end(w, id, Outcome::Cancelled),
            (Some(Stop::Checkpoint), Next::Manifest) => self.manifest(w, id),
            (Some(Stop::Checkpoint), _) => self.preempted(w, id),
            (None, Next::Wait) => {}
            (None, Next::Meet) => self.meet(w, id),
            (None, Next::Manifest) => self.manifest(w, id),
            (None, Next::Train) => self.train(w, id),
        }
    }

    /// Waits for the other ranks.
    fn meet(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let all = run.assignment.ranks.len();
        let waited = self.now - run.began;
        let group = self.groups.entry(run.rank.at.clone()).or_default();
        if group.broken {
            return self.end(w, id, Outcome::NodeLost);
        }
        if group.members.len() < all {
            if waited > RENDEZVOUS_MS {
                return self.end(w, id, Outcome::NodeLost);
            }
            return self.next_turn(w, id, 200);
        }
        let from = self.newest_whole(w, id);
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        run.step = from;
        run.next = Next::Train;
        let rank = run.rank.clone();
        let started = ReportBody::Started {
            from_step: from,
            steps_total: EPOCHS,
            epochs_total: EPOCHS,
            parameters: 1,
        };
        self.tell(w, &rank, started);
        if rank.rank == 0 {
            self.log_line(w, &rank, "started");
        }
        self.pump(w);
        self.next_turn(w, id, EPOCH_MS);
    }

    /// The step of the newest checkpoint that is there, as the resume rule finds it.
    fn newest_whole(&self, w: usize, id: RunId) -> u64 {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return 0;
        };
        let job = &run.rank.at.job;
        let mut known = run
            .assignment
            .resume_from
            .iter()
            .chain(run.known.iter().rev());
        let found = known.find(|checkpoint| self.objects.whole(job, &checkpoint.manifest));
        found.map_or(0, |checkpoint| checkpoint.step)
    }

    fn next_turn(&mut self, w: usize, id: RunId, most: u64) {
        let wait = 1 + most / 3 + self.below(most);
        if let Some(run) = self.workers[w].runs.get_mut(&id) {
            run.turn += 1;
            let turn = run.turn;
            self.after(wait, Due::Rank(w, id, turn));
        }
    }

    /// An epoch, or the rest of a rank's life.
    fn train(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let group = self.groups.entry(run.rank.at.clone()).or_default();
        if run.rank.rank != 0 && group.finished {
            return self.end(w, id, Outcome::Completed);
        }
        if group.broken {
            return self.end(w, id, Outcome::NodeLost);
        }
        if run.rank.rank != 0 {
            return self.next_turn(w, id, EPOCH_MS);
        }
        if run.assignment.kind == AttemptKind::Evaluate || run.step >= EPOCHS {
            return self.end(w, id, Outcome::Completed);
        }
        self.epoch(w, id);
    }

    fn epoch(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let step = run.step + 1;
        let rank = run.rank.clone();
        let Some(number) = variant_of(&rank.at.job) else {
            return;
        };
        let trial = rank.at.trial;
        match variants()[number].fate(trial) {
            Fate::Nan { step: at } if at == step => return self.end(w, id, Outcome::Nan),
            Fate::Infeasible => return self.end(w, id, Outcome::Infeasible),
            Fate::Fails { times, step: at } if at == step => {
                let failed = self.errors.entry((number, trial)).or_default();
                if *failed < times {
                    *failed += 1;
                    return self.end(w, id, Outcome::Error);
                }
            }
            _ => {}
        }
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        run.step = step;
        run.next = Next::Manifest;
        let value = Variant::value(&run.assignment.spec.params, step);
        let point = Point {
            step,
            epoch: step,
            metrics: vec![(variants()[number].metric.to_owned(), value)],
            end_of_epoch: true,
            time_ms: 0,
        };
        self.tell(w, &rank, ReportBody::Progress(point));
        self.pump(w);
        self.next_turn(w, id, UPLOAD_MS);
    }

    /// The manifest is stored: the checkpoint exists.
    fn manifest(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        run.next = Next::Train;
        let (step, rank) = (run.step, run.rank.clone());
        let Some(number) = variant_of(&rank.at.job) else {
            return;
        };
        let value = Variant::value(&run.assignment.spec.params, step);
        let checkpoint = CheckpointRef {
            manifest: format!(
                "trials/{}/{step:012}-{}.json",
                rank.at.trial, rank.at.generation
            ),
            step,
            epoch: step,
            bytes: 1,
            digest: "d".to_owned(),
            metrics: vec![(variants()[number].metric.to_owned(), value)],
        };
        run.known.push(checkpoint.clone());
        let stopped = run.stop.is_some();
        let path = (rank.at.job.clone(), checkpoint.manifest.clone());
        if self.objects.manifests.insert(path, step).is_some() {
            self.violated(format!("{} is written twice", checkpoint.manifest));
        }
        self.tell(w, &rank, ReportBody::Checkpoint(checkpoint));
        if stopped {
            return self.end(w, id, Outcome::Preempted);
        }
        if step >= EPOCHS {
            return self.end(w, id, Outcome::Completed);
        }
        self.pump(w);
        self.next_turn(w, id, EPOCH_MS);
    }

    /// Told to make a checkpoint and to go.
    fn preempted(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        let saved = run.known.last().map_or(0, |newest| newest.step);
        let whole = self
            .groups
            .get(&run.rank.at)
            .is_some_and(|group| !group.broken);
        let saves = run.rank.rank == 0 && run.assignment.kind == AttemptKind::Train;
        if saves && whole && run.step > saved {
            run.next = Next::Manifest;
            return self.next_turn(w, id, UPLOAD_MS);
        }
        self.end(w, id, Outcome::Preempted);
    }

    /// A rank's last word.
    fn end(&mut self, w: usize, id: RunId, outcome: Outcome) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let rank = run.rank.clone();
        let judged = run.assignment.kind == AttemptKind::Evaluate;
        let metrics = vec![("test_loss".to_owned(), 0.5)];
        let body = ReportBody::Ended {
            outcome,
            error: format!("{outcome:?}"),
            step: run.step,
            test_metrics: if judged { metrics } else { Vec::new() },
        };
        self.tell(w, &rank, body);
        self.remove_run(w, id, outcome == Outcome::Completed);
        self.pump(w);
        self.leave_if_done(w);
    }

    /// Frees the slot; the other ranks notice.
    pub(super) fn remove_run(&mut self, w: usize, id: RunId, finished: bool) {
        let Some(run) = self.workers[w].runs.remove(&id) else {
            return;
        };
        if run.next == Next::Manifest {
            self.objects.torn += 1;
        }
        if let Some(group) = self.groups.get_mut(&run.rank.at) {
            group.members.retain(|member| *member != (w, id));
            group.finished |= finished && run.rank.rank == 0;
            group.broken |= !finished;
            let others = group.members.clone();
            if others.is_empty() && run.assignment.ranks.len() == 1 {
                self.groups.remove(&run.rank.at);
            }
            for (w, id) in others {
                self.next_turn(w, id, 100);
            }
        }
        if self.workers[w].alive {
            self.give_slots(w);
        }
    }

    pub(super) fn request_stop(&mut self, w: usize, id: RunId, stop: Stop) {
        if let Some(run) = self.workers[w].runs.get_mut(&id)
            && run.stop < Some(stop)
        {
            run.stop = Some(stop);
            self.next_turn(w, id, 50);
        }
    }

    pub(super) fn stop_attempt(&mut self, w: usize, at: &AttemptRef, stop: Stop) {
        let runs = self.workers[w].runs.iter();
        let meant: Vec<RunId> = runs
            .filter(|(_, run)| run.rank.at == *at)
            .map(|(id, _)| *id)
            .collect();
        for id in meant {
            self.request_stop(w, id, stop);
        }
    }

    /// An attempt is no longer this worker's: it stops and says nothing more.
    pub(super) fn abandon(&mut self, w: usize, rank: &RankRef) {
        let runs = self.workers[w].runs.iter();
        let meant: Vec<RunId> = runs
            .filter(|(_, run)| run.rank == *rank)
            .map(|(id, _)| *id)
            .collect();
        for id in meant {
            self.request_stop(w, id, Stop::Abandoned);
        }
        self.workers[w].outbox.abandon(rank);
    }

    /// A checkpoint is acknowledged: the keep rule gives up older ones, unless the run was stopped.
    pub(super) fn sweep(&mut self, w: usize, rank: &RankRef, newest: &str) {
        let Some(number) = variant_of(&rank.at.job) else {
            return;
        };
        let mut runs = self.workers[w].runs.values_mut();
        let run = runs.find(|run| run.rank == *rank && run.stop.is_none());
        let Some(run) = run.filter(|run| run.known.last().is_some_and(|c| c.manifest == newest))
        else {
            return;
        };
        let job = variants()[number].document.job();
        let policy = KeepPolicy::from(&job.checkpoint_storage);
        let objective = job.objectives.first().map(|o| (o.metric.as_str(), o.mode));
        let manifests = to_drop(policy, &run.known, objective);
        if manifests.is_empty() {
            return;
        }
        run.known
            .retain(|known| !manifests.contains(&known.manifest));
        for manifest in &manifests {
            let path = (rank.at.job.clone(), manifest.clone());
            self.objects.manifests.remove(&path);
            self.dropped.insert(path);
        }
        self.tell(w, rank, ReportBody::Dropped { manifests });
    }
}
