//! What a worker tells and what of it is acknowledged: reports and log lines are handed out, told again on every
//! new connection, and forgotten once the coordinator has them. What is acknowledged must be stored.

use trainyard_coordinator::cluster::api::{Report, ReportBody};
use trainyard_coordinator::cluster::model::{Position, RankRef};

use super::jobs::{Talk, variant_of};
use super::network::Up;
use super::outbox::ends;
use super::stats::Hit;
use super::worker::short;
use super::world::World;

impl World {
    /// Sends what waits.
    pub(super) fn pump(&mut self, w: usize) {
        let tight = self.is_tight();
        let worker = &mut self.workers[w];
        if worker.outbox.overflows(tight, worker.slots) {
            return self.violated(format!("w{w}: more reports wait than there is room for"));
        }
        let worker = &mut self.workers[w];
        let (Some(id), true) = (worker.link, worker.registered) else {
            return;
        };
        let mut messages = Vec::new();
        while let Some(batch) = worker.lines.next_batch() {
            messages.push(Up::Logs(Box::new(batch)));
        }
        let batch = worker.outbox.next_batch(|rank| worker.lines.has(rank));
        if !batch.is_empty() {
            messages.push(Up::Reports(batch));
        }
        for message in messages {
            self.say_up(id, message);
        }
    }

    /// A rank says something.
    pub(super) fn tell(&mut self, w: usize, rank: &RankRef, body: ReportBody) {
        self.say(
            || format!("w{w}"),
            || format!("{} says {body:?}", short(rank)),
        );
        self.workers[w].outbox.push(rank.clone(), body);
    }

    /// A rank writes so many lines.
    pub(super) fn log_lines(&mut self, w: usize, rank: &RankRef, count: u64) {
        for _ in 0..count {
            if self.workers[w].lines.write(rank) {
                self.stats.hit(Hit::LinesDropped);
            }
        }
    }

    /// Lines are durable, says the coordinator.
    pub(super) fn lines_stored(&mut self, w: usize, through: u64) {
        for (rank, text) in self.workers[w].lines.acknowledge(through) {
            let gone = self.store.gone.contains(&rank.at.job);
            if !gone && !self.store.lines.has(&rank, &text) {
                let rank = short(&rank);
                self.violated(format!(
                    "line {text:?} of {rank} is acknowledged, and not stored"
                ));
            }
        }
        self.pump(w);
        self.leave_if_done(w);
    }

    /// Reports are durable, says the coordinator.
    pub(super) fn acknowledged(&mut self, w: usize, sequence: u64) {
        for report in self.workers[w].outbox.acknowledge(sequence) {
            self.check_durable(w, &report);
            if let ReportBody::Checkpoint(checkpoint) = &report.body {
                self.sweep(w, &report.rank, &checkpoint.manifest);
            }
            if ends(&report) {
                self.check_lines(w, &report.rank);
            }
        }
        self.pump(w);
        self.leave_if_done(w);
    }

    /// A program with files of its own goes on from there.
    fn remember_epoch(&mut self, report: &Report) {
        let at = &report.rank.at;
        let own = variant_of(&at.job).is_some_and(|variant| variant.talk == Talk::OwnFiles);
        if let (ReportBody::Progress(point), true) = (&report.body, own) {
            let file = self.files.entry((at.job.clone(), at.trial)).or_default();
            *file = point.epoch.max(*file);
        }
    }

    /// What was acknowledged is in the store, or was stale.
    fn check_durable(&mut self, w: usize, report: &Report) {
        let rank = &report.rank;
        // What is left of a job that is gone goes piece by piece.
        let attempt = self.store.attempt(&rank.at);
        let attempt = attempt.filter(|_| !self.store.gone.contains(&rank.at.job));
        let Some(attempt) = attempt else {
            return;
        };
        let Some(known) = attempt.ranks.get(rank.rank as usize) else {
            return;
        };
        if known.place.worker != self.workers[w].id {
            return;
        }
        if known.applied < report.sequence && known.ended.is_none() {
            let message = format!("acknowledged, but not durable: {report:?}; {attempt:?}");
            return self.violated(message);
        }
        let counted = known.applied >= report.sequence;
        let counts = attempt.outcome.is_none() && rank.rank == 0 && counted;
        if let (ReportBody::Progress(point), true) = (&report.body, counts) {
            // Told once more under other steps an epoch counts as it was told first.
            let told =
                |(epoch, _, end): &Position| (*epoch, *end) == (point.epoch, point.end_of_epoch);
            let series = self.store.points.get(&(rank.at.job.clone(), rank.at.trial));
            if !series.is_some_and(|series| series.iter().any(told)) {
                return self.violated(format!(
                    "acknowledged, but not counted: {report:?}; {attempt:?}; {series:?}"
                ));
            }
            self.remember_epoch(report);
        }
    }

    /// Whoever follows a log goes with the job's end: before that of a rank its lines are stored.
    fn check_lines(&mut self, w: usize, rank: &RankRef) {
        let told = self.store.lines.told(rank);
        let written = self.workers[w].lines.written(rank);
        if !self.store.gone.contains(&rank.at.job) && written.is_some_and(|all| all != told) {
            let rank = short(rank);
            self.violated(format!(
                "the end of {rank} counts, of whose {written:?} lines {told} are stored"
            ));
        }
    }
}
