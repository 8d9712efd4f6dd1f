//! A rank's work: meeting the others, an epoch at a time as far as it is to train, checkpoints. The model
//! of the worker's training loop.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::TrialId;
use trainyard_coordinator::cluster::api::{Point, ReportBody};
use trainyard_coordinator::cluster::model::AttemptKind;

use super::jobs::{Fate, Talk, Variant, variant_of};
use super::rank::{EPOCH_MS, Next, Outcome, Run, RunId, UPLOAD_MS};
use super::stats::Hit;
use super::world::World;

/// How often an upload is tried, and how long is waited after the first time; doubled each time.
const UPLOAD_TRIES: u32 = 4;
const FIRST_UPLOAD_WAIT_MS: u64 = 500;

/// How the manifest of a checkpoint ends that was made some steps behind the end of an epoch.
pub(super) const WITHIN: &str = "h.json";

/// One of so many epochs writes many lines: more than its worker holds.
const TALKS_ONE_IN: u64 = 24;
const MANY_LINES: u64 = 20;

/// A trainer whose worker holds no more reports tries again within this.
const FULL_MS: u64 = 300;

/// How long ranks wait for each other before they give up.
const RENDEZVOUS_MS: u64 = 15_000;

impl World {
    /// Waits for the other ranks.
    pub(super) fn meet(&mut self, w: usize, id: RunId) {
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
        let (mut from, broken) = self.newest_whole(w, id);
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        let rank = run.rank.clone();
        let judges = run.assignment.kind == AttemptKind::Evaluate;
        let given = run.assignment.resume_from.as_ref();
        let copied =
            given.is_some_and(|given| run.assignment.copies && !broken.contains(&given.manifest));
        let Some(variant) = variant_of(&rank.at.job) else {
            return;
        };
        if variant.talk == Talk::OwnFiles {
            let of = (rank.at.job.clone(), rank.at.trial);
            from = self.files.get(&of).copied().unwrap_or(0);
        }
        run.step = from;
        run.next = Next::Train;
        run.known.retain(|known| !broken.contains(&known.manifest));
        let started = ReportBody::Started {
            from_step: from,
            steps_total: variant.epochs,
            epochs_total: variant.epochs,
            parameters: 1,
        };
        self.tell(w, &rank, started);
        if copied && rank.rank == 0 {
            self.stats.hit(Hit::Copied);
        }
        if !broken.is_empty() && rank.rank == 0 && !judges {
            self.tell(w, &rank, ReportBody::Dropped { manifests: broken });
        }
        self.log_lines(w, &rank, 1);
        self.pump(w);
        self.next_turn(w, id, EPOCH_MS);
    }

    /// The step of the newest checkpoint that is there, as the resume rule finds it, and the manifests of
    /// those that were found broken on the way.
    fn newest_whole(&self, w: usize, id: RunId) -> (u64, Vec<String>) {
        let mut broken = Vec::new();
        let Some(run) = self.workers[w].runs.get(&id) else {
            return (0, broken);
        };
        let job = &run.rank.at.job;
        let given = run.assignment.resume_from.iter();
        for checkpoint in given.chain(run.known.iter().rev()) {
            if self.objects.readable(job, &checkpoint.manifest) {
                return (checkpoint.step, broken);
            }
            if !broken.contains(&checkpoint.manifest) {
                broken.push(checkpoint.manifest.clone());
            }
        }
        (0, broken)
    }

    /// An epoch, or the rest of a rank's life.
    pub(super) fn train(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let group = self.groups.entry(run.rank.at.clone()).or_default();
        if let Some(outcome) = group.finished.filter(|_| run.rank.rank != 0) {
            return self.end(w, id, outcome);
        }
        if group.broken {
            return self.end(w, id, Outcome::NodeLost);
        }
        if run.rank.rank != 0 {
            return self.next_turn(w, id, EPOCH_MS);
        }
        if run.assignment.kind == AttemptKind::Evaluate {
            return self.end(w, id, Outcome::Completed);
        }
        let Some(variant) = variant_of(&run.rank.at.job) else {
            return;
        };
        if run.step >= run.goal(variant) {
            let done = run.done(variant);
            return self.end(w, id, done);
        }
        if self.workers[w].outbox.is_full(self.is_tight()) {
            // It is looked at again, and told to stop, every so often.
            self.stats.hit(Hit::ReportsHeld);
            return self.next_turn(w, id, FULL_MS);
        }
        self.epoch(w, id, variant);
    }

    fn epoch(&mut self, w: usize, id: RunId, variant: &'static Variant) {
        let Some(run) = self.workers[w].runs.get(&id) else {
            return;
        };
        let step = run.step + 1;
        let rank = run.rank.clone();
        let trial = rank.at.trial;
        let fate = variant.fate(trial);
        match fate {
            Fate::Nan { step: at } if at == step => return self.end(w, id, Outcome::Nan),
            Fate::Infeasible => return self.end(w, id, Outcome::Infeasible),
            Fate::Fails { times, step: at } if at == step => {
                let key = (rank.at.job.clone(), trial);
                let failed = self.errors.entry(key).or_default();
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
        run.reported += 1;
        let points = told(variant, run, trial);
        let early = matches!(fate, Fate::Early { step: at } if at <= step);
        run.next = match variant.saves && !early {
            true => Next::Manifest,
            false => Next::Train,
        };
        let lines = match self.unlucky(TALKS_ONE_IN) {
            true => MANY_LINES,
            false => self.below(3),
        };
        self.log_lines(w, &rank, lines);
        for point in points {
            self.tell(w, &rank, ReportBody::Progress(point));
        }
        if early {
            return self.end(w, id, Outcome::Completed);
        }
        self.pump(w);
        self.next_turn(w, id, if variant.saves { UPLOAD_MS } else { EPOCH_MS });
    }

    /// The manifest is stored: the checkpoint exists.
    pub(super) fn manifest(&mut self, w: usize, id: RunId) {
        if self.upload_fails(w, id) {
            return;
        }
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        let within = run.next == Next::Half;
        run.next = Next::Train;
        run.failed_uploads = 0;
        let (step, rank) = (run.step, run.rank.clone());
        let Some(variant) = variant_of(&rank.at.job) else {
            return;
        };
        let metrics = match within {
            true => Vec::new(),
            false => variant.metrics(&run.assignment.spec.params, step),
        };
        let suffix = if within { WITHIN } else { ".json" };
        let checkpoint = CheckpointRef {
            manifest: format!(
                "trials/{}/{step:012}-{}{suffix}",
                rank.at.trial, rank.at.generation
            ),
            step,
            epoch: step,
            bytes: 1,
            digest: "d".to_owned(),
            metrics,
        };
        run.known.push(checkpoint.clone());
        let stopped = run.stop.is_some();
        let over = (step >= run.goal(variant)).then(|| run.done(variant));
        // Whoever is stopped as it comes to its end may end either way.
        let stops = stopped && (over.is_none() || self.below(2) == 0);
        if !self.objects.written(&rank.at.job, &checkpoint.manifest) {
            self.violated(format!("{} is written twice", checkpoint.manifest));
        }
        self.tell(w, &rank, ReportBody::Checkpoint(checkpoint));
        if stops {
            return self.end(w, id, Outcome::Preempted);
        }
        if let Some(done) = over {
            return self.end(w, id, done);
        }
        self.pump(w);
        self.next_turn(w, id, EPOCH_MS);
    }

    /// Whether the object store keeps the checkpoint from being stored now: it is tried again after a
    /// while, as the uploader does, and after the last try the attempt ends with an error.
    fn upload_fails(&mut self, w: usize, id: RunId) -> bool {
        if self.objects.fails_until <= self.now {
            return false;
        }
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return true;
        };
        run.failed_uploads += 1;
        let (tries, job) = (run.failed_uploads, run.rank.at.job.clone());
        self.stats.hit(Hit::UploadFailed);
        if tries >= UPLOAD_TRIES {
            self.stats.hit(Hit::UploadGivenUp);
            self.objects.waste(job);
            self.end(w, id, Outcome::Error);
        } else {
            self.turn_after(w, id, FIRST_UPLOAD_WAIT_MS << (tries - 1));
        }
        true
    }

    /// Told to make a checkpoint and to go.
    pub(super) fn preempted(&mut self, w: usize, id: RunId) {
        let Some(run) = self.workers[w].runs.get_mut(&id) else {
            return;
        };
        let given = run.assignment.resume_from.iter();
        let known = given.chain(run.known.last());
        let saved = known.map(|known| known.step).max().unwrap_or(0);
        let variant = variant_of(&run.rank.at.job);
        let saves = variant.is_some_and(|variant| variant.saves);
        let within = variant.is_some_and(|variant| run.step < run.goal(variant));
        let whole = self
            .groups
            .get(&run.rank.at)
            .is_some_and(|group| !group.broken);
        let speaks = run.rank.rank == 0 && run.assignment.kind == AttemptKind::Train;
        if saves && speaks && whole && run.step > saved {
            run.next = Next::Manifest;
            return self.next_turn(w, id, UPLOAD_MS);
        }
        if saves && speaks && whole && within && run.next == Next::Train && self.below(2) == 0 {
            if let Some(run) = self.workers[w].runs.get_mut(&id) {
                run.next = Next::Half;
            }
            return self.next_turn(w, id, UPLOAD_MS);
        }
        self.end(w, id, Outcome::Preempted);
    }
}

/// What a program reports at the end of its epoch.
fn told(variant: &Variant, run: &Run, trial: TrialId) -> Vec<Point> {
    let step = run.step;
    let mut metrics = variant.metrics(&run.assignment.spec.params, step);
    let mut others = match metrics.len() {
        1 => vec![("other".to_owned(), 0.5)],
        _ => metrics.split_off(1),
    };
    if variant.fate(trial) == Fate::Mute {
        metrics = vec![("other".to_owned(), 0.5)];
        others.clone_from(&metrics);
    }
    let point = |step, metrics| Point {
        step,
        epoch: run.step,
        metrics,
        end_of_epoch: true,
        epochs_from_zero: false,
        time_ms: 0,
    };
    if variant.talk == Talk::Halves {
        let mut points = vec![point(2 * step - 1, others), point(2 * step, metrics)];
        if variant.breaks_off(trial, step) {
            points.truncate(1);
        }
        return points;
    }
    metrics.extend(others);
    let counted = match variant.talk {
        Talk::OwnFiles => run.reported,
        _ => step,
    };
    vec![point(counted, metrics)]
}
