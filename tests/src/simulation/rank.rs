//! The attempts that workers run: given, waiting for a slot, their turns, stopped or broken off. The model
//! of the worker's runner; what an attempt does in its turn is in `training`.

use trainyard_common::checkpoint::{CheckpointRef, KeepPolicy, to_drop};
use trainyard_coordinator::cluster::api::{Assignment, ReportBody};
pub(super) use trainyard_coordinator::cluster::model::Outcome;
use trainyard_coordinator::cluster::model::{AttemptKind, AttemptRef, RankRef};

use super::jobs::{Variant, is_program, variant_of};
use super::stats::Hit;
use super::worker::short;
use super::world::{Due, World};

/// Numbered within a worker, in order of assignment.
pub(super) type RunId = u64;

/// A step takes up to this long.
pub(super) const EPOCH_MS: u64 = 1_500;

/// A checkpoint's manifest follows its parts after up to this long.
pub(super) const UPLOAD_MS: u64 = 300;

/// A slow object store takes up to this much longer.
const SLOW_UPLOAD_MS: u64 = 6_000;

/// How urgently an attempt was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Checkpoint,
    Now,
    Abandoned,
}

/// What a run does when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it waits for a slot.
    Wait,
    Meet,
    Train,
    /// The parts are stored, the manifest is not.
    Manifest,
    /// The same, of a checkpoint some steps behind the end of an epoch: it is to stop there.
    Half,
}

/// One rank of an attempt on a worker.
pub(super) struct Run {
    pub(super) rank: RankRef,
    pub(super) assignment: Assignment,
    pub(super) stop: Option<Stop>,
    /// Has its slot.
    pub(super) placed: bool,
    pub(super) next: Next,
    pub(super) began: u64,
    pub(super) step: u64,
    /// Epochs that it has reported.
    pub(super) reported: u64,
    /// Signs of progress.
    pub(super) signs: u64,
    /// Number of its newest queued turn; earlier ones are void.
    turn: u64,
    /// Checkpoints that are known to exist.
    pub(super) known: Vec<CheckpointRef>,
    /// Times that the upload under way has failed.
    pub(super) failed_uploads: u32,
}

impl Run {
    pub(super) fn in_gang(&self) -> bool {
        self.assignment.ranks.len() > 1
    }

    /// The step at which it has trained as far as it is to.
    pub(super) fn goal(&self, variant: &Variant) -> u64 {
        let until = self.assignment.until_epoch.unwrap_or(variant.epochs);
        until.min(variant.epochs)
    }

    /// How it ends there. The engine knows when all epochs are done, a program only what it was told.
    pub(super) fn done(&self, variant: &Variant) -> Outcome {
        let all = variant.is_judged() && self.goal(variant) >= variant.epochs;
        match self.assignment.until_epoch {
            Some(_) if !all => Outcome::Paused,
            _ => Outcome::Completed,
        }
    }
}

/// The ranks of an attempt that work together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) members: Vec<(usize, RunId)>,
    /// A rank has gone: the others notice.
    pub(super) broken: bool,
    pub(super) finished: Option<Outcome>,
}

impl World {
    /// An assignment arrives: known and overtaken ones are ignored, older ones of the trial stopped.
    pub(super) fn assigned(&mut self, w: usize, assignment: Assignment) {
        let rank = RankRef {
            at: assignment.at.clone(),
            rank: assignment.rank,
        };
        if !self.workers[w].programs && is_program(&rank.at.job) {
            return self.violated(format!(
                "w{w} runs no programs, and is given {}",
                short(&rank)
            ));
        }
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
            reported: 0,
            signs: 0,
            turn: 0,
            known: assignment.checkpoints.clone(),
            failed_uploads: 0,
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
            && !self.objects.existed(job, &from.manifest)
        {
            self.violated(format!("{:?} never existed whole", from.manifest));
        }
        if let Some(from) = assignment
            .resume_from
            .as_ref()
            .filter(|_| assignment.copies)
            && self.objects.deleted(job, &from.manifest)
        {
            self.violated(format!("{:?}, to be copied, was deleted", from.manifest));
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
            (Some(Stop::Abandoned), _) => self.remove_run(w, id, None),
            (Some(Stop::Now), _) => self.end(w, id, Outcome::Cancelled),
            (Some(Stop::Checkpoint), Next::Manifest | Next::Half) => self.manifest(w, id),
            (Some(Stop::Checkpoint), _) => self.preempted(w, id),
            (None, Next::Wait) => {}
            (None, Next::Meet) => self.meet(w, id),
            (None, Next::Manifest | Next::Half) => self.manifest(w, id),
            (None, Next::Train) => self.train(w, id),
        }
    }

    pub(super) fn next_turn(&mut self, w: usize, id: RunId, most: u64) {
        let mut wait = 1 + most / 3 + self.below(most);
        let slow = self.objects.slow_until > self.now;
        if slow && most == UPLOAD_MS {
            self.stats.hit(Hit::UploadSlow);
            wait += self.below(SLOW_UPLOAD_MS);
        }
        self.turn_after(w, id, wait);
    }

    pub(super) fn turn_after(&mut self, w: usize, id: RunId, wait: u64) {
        if let Some(run) = self.workers[w].runs.get_mut(&id) {
            run.turn += 1;
            let turn = run.turn;
            self.after(wait, Due::Rank(w, id, turn));
        }
    }

    /// A rank's last word.
    pub(super) fn end(&mut self, w: usize, id: RunId, outcome: Outcome) {
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
        self.log_lines(w, &rank, 1);
        self.tell(w, &rank, body);
        self.remove_run(w, id, outcome.done().then_some(outcome));
        self.pump(w);
        self.leave_if_done(w);
    }

    /// Frees the slot; the other ranks notice.
    /// `finished`: it has done what it was to do, in this way.
    pub(super) fn remove_run(&mut self, w: usize, id: RunId, finished: Option<Outcome>) {
        let Some(run) = self.workers[w].runs.remove(&id) else {
            return;
        };
        if matches!(run.next, Next::Manifest | Next::Half) {
            self.stats.hit(Hit::UploadTorn);
        }
        if let Some(group) = self.groups.get_mut(&run.rank.at) {
            group.members.retain(|member| *member != (w, id));
            if run.rank.rank == 0 {
                group.finished = group.finished.or(finished);
            }
            group.broken |= finished.is_none();
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
        self.workers[w].lines.abandon(rank);
    }

    /// A checkpoint is acknowledged: the keep rule gives up older ones, unless the run was stopped.
    pub(super) fn sweep(&mut self, w: usize, rank: &RankRef, newest: &str) {
        let Some(variant) = variant_of(&rank.at.job) else {
            return;
        };
        let mut runs = self.workers[w].runs.values_mut();
        let run = runs.find(|run| run.rank == *rank && run.stop.is_none());
        let Some(run) = run.filter(|run| run.known.last().is_some_and(|c| c.manifest == newest))
        else {
            return;
        };
        let job = variant.job();
        let policy = KeepPolicy::from(&job.checkpoint_storage);
        let objective = job.objectives.first().map(|o| (o.metric.as_str(), o.mode));
        let manifests = to_drop(policy, &run.known, objective);
        if manifests.is_empty() {
            return;
        }
        run.known
            .retain(|known| !manifests.contains(&known.manifest));
        for manifest in &manifests {
            self.objects.delete(&rank.at.job, manifest);
        }
        self.tell(w, rank, ReportBody::Dropped { manifests });
    }
}
