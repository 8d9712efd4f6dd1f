//! Reports of workers: each is counted once, whatever is told twice, late or by the wrong one.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::{LogText, Report, ReportBody, SeriesLog, ToWorker};
use crate::cluster::model::{AttemptKind, AttemptRef, Metrics, Outcome, RankRef, SessionId};

/// Checkpoints that a trial is known to have; the keep rule leaves far fewer.
const MAX_CHECKPOINTS: usize = 256;

impl Machine {
    pub(in crate::cluster) fn reports(&mut self, session: SessionId, reports: Vec<Report>) {
        let Some(worker) = self.seen(session) else {
            return;
        };
        let newest = reports.iter().map(|report| report.sequence).max();
        for report in reports {
            self.report(&worker, report);
        }
        if let Some(sequence) = newest {
            self.send(&worker, session, ToWorker::Acknowledged { sequence });
        }
    }

    fn report(&mut self, worker: &WorkerId, report: Report) {
        let Report {
            sequence,
            rank,
            body,
            ..
        } = report;
        if let ReportBody::Dropped { manifests } = &body {
            self.dropped(&rank.at, manifests);
        }
        let Some(lives) = self.count_report(worker, &rank, sequence) else {
            return;
        };
        // Only rank 0 of a training attempt speaks for the trial.
        let speaks = lives && rank.rank == 0 && !self.judges(&rank.at);
        match body {
            ReportBody::Ended {
                outcome,
                error,
                step,
                test_metrics,
            } => {
                self.release(&rank);
                if lives {
                    self.last_report(&rank, outcome, &error, step, test_metrics);
                }
            }
            ReportBody::Started {
                from_step,
                steps_total,
                epochs_total,
                parameters,
            } if speaks => {
                // Where its checkpoint could not be used it begins elsewhere than it was sent to. A program
                // knows no totals, and does not tell where it begins.
                if epochs_total > 0
                    && let Some(attempt) = self.attempt_mut(&rank.at)
                {
                    attempt.from_step = from_step;
                }
                self.change_trial(&rank.at, |trial| {
                    trial.steps_total = steps_total;
                    trial.epochs_total = epochs_total;
                    trial.parameters = parameters;
                });
            }
            // Left out it would be a hole in a curve, or a rung that is never reached.
            ReportBody::Refused { reason } if lives => {
                let why = format!("a report of rank {} was refused", rank.rank);
                let ended = self.close_attempt(&rank.at, Outcome::Error, &reason, &why);
                self.conclude(ended);
            }
            ReportBody::Progress(point) if speaks => {
                self.progress(&rank.at, point);
            }
            ReportBody::Checkpoint(checkpoint) if speaks => {
                self.checkpoint_saved(&rank.at, checkpoint);
            }
            _ => {}
        }
    }

    /// Whether the attempt lives, once the report is recognised as new; None for a report that was
    /// counted before, or comes from a membership that never was.
    fn count_report(&mut self, worker: &WorkerId, rank: &RankRef, sequence: u64) -> Option<bool> {
        let at = &rank.at;
        self.attempt(at)?;
        let trial = self.jobs.get_mut(&at.job)?.trial_mut(at.trial)?;
        let attempt = trial.attempt_mut(at.attempt)?;
        let lives = attempt.outcome.is_none();
        let known = attempt.ranks.get_mut(rank.rank as usize)?;
        if &known.place.worker != worker || sequence <= known.applied || known.ended.is_some() {
            // Touched, so that a thawed trial is put away again.
            self.draft
                .attempts
                .insert((at.job.clone(), at.trial, at.attempt));
            return None;
        }
        known.applied = sequence;
        self.draft
            .attempts
            .insert((at.job.clone(), at.trial, at.attempt));
        Some(lives)
    }

    fn last_report(
        &mut self,
        rank: &RankRef,
        outcome: Outcome,
        error: &str,
        step: u64,
        test_metrics: Metrics,
    ) {
        let judged = self.judges(&rank.at);
        if rank.rank == 0 {
            if let Some(attempt) = self.attempt_mut(&rank.at) {
                attempt.step = attempt.step.max(step);
            }
            if judged
                && outcome == Outcome::Completed
                && let Some(job) = self.jobs.get_mut(&rank.at.job)
            {
                job.record.test_metrics = finite(test_metrics);
                self.draft.jobs.insert(rank.at.job.clone());
            }
        }
        let ended = self.rank_ended(rank, outcome, error);
        self.conclude(ended);
    }

    fn judges(&self, at: &AttemptRef) -> bool {
        self.attempt(at)
            .is_some_and(|attempt| attempt.kind == AttemptKind::Evaluate)
    }

    fn checkpoint_saved(&mut self, at: &AttemptRef, checkpoint: CheckpointRef) {
        self.change_trial(at, |trial| {
            let known = &mut trial.checkpoints;
            if known
                .iter()
                .any(|known| known.manifest == checkpoint.manifest)
            {
                return;
            }
            known.push(checkpoint);
            if known.len() > MAX_CHECKPOINTS {
                known.remove(0);
            }
            trial.losses = 0;
            trial.copies = None;
        });
    }

    /// What is deleted is gone, whoever deleted it.
    fn dropped(&mut self, at: &AttemptRef, manifests: &[String]) {
        let known = self.jobs.get(&at.job).and_then(|job| job.trial(at.trial));
        let touched = known.is_some_and(|trial| {
            let mut checkpoints = trial.record.checkpoints.iter();
            checkpoints.any(|known| manifests.contains(&known.manifest))
        });
        if touched {
            self.change_trial(at, |trial| {
                trial
                    .checkpoints
                    .retain(|known| !manifests.contains(&known.manifest));
            });
        }
    }

    /// Log lines of an attempt that is known, ended or not. Lines that a worker tells again are recognised
    /// by their numbers.
    pub(in crate::cluster) fn log_lines(
        &mut self,
        session: SessionId,
        rank: &RankRef,
        first: u64,
        mut lines: Vec<LogText>,
    ) {
        let Some(worker) = self.seen(session) else {
            return;
        };
        if lines.is_empty() {
            return;
        }
        let through = first.saturating_add(lines.len() as u64 - 1);
        // A batch of lines does not tell a generation.
        let logged = self.numbered_attempt(&rank.at).and_then(|attempt| {
            let known = attempt.ranks.get(rank.rank as usize)?;
            (known.place.worker == worker).then_some(known.logged)
        });
        if let Some(logged) = logged {
            let again = match first {
                0 => 0,
                first => logged.saturating_add(1).saturating_sub(first),
            };
            let again = usize::try_from(again).unwrap_or(usize::MAX);
            lines.drain(..again.min(lines.len()));
            if !lines.is_empty() {
                self.store_lines(rank, first, through, lines);
            }
        }
        if first > 0 {
            self.send(&worker, session, ToWorker::LinesStored { through });
        }
    }

    fn store_lines(&mut self, rank: &RankRef, first: u64, through: u64, lines: Vec<LogText>) {
        let at = &rank.at;
        let trial = self.jobs.get_mut(&at.job);
        let trial = trial.and_then(|job| job.trial_mut(at.trial));
        let attempt = trial.and_then(|trial| trial.attempt_mut(at.attempt));
        let known = attempt.and_then(|attempt| attempt.ranks.get_mut(rank.rank as usize));
        if let Some(known) = known
            && first > 0
        {
            known.logged = through;
        }
        // A thawed trial is put away again with it.
        let changed = (at.job.clone(), at.trial, at.attempt);
        self.draft.attempts.insert(changed);
        self.draft.step.logs.push(SeriesLog {
            job: at.job.clone(),
            trial: at.trial,
            attempt: at.attempt,
            rank: rank.rank,
            lines,
        });
    }
}

/// What a judging comes to is shown as numbers.
fn finite(mut metrics: Metrics) -> Metrics {
    metrics.retain(|(_, value)| value.is_finite());
    metrics
}
