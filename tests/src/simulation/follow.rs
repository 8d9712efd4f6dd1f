//! A client that follows a job's log, step by step as the shell's reader does: which trials have lines,
//! where the series lie, a piece of one series at a time; a removal that begins in between has it look
//! again.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::TrialId;
use trainyard_coordinator::cluster::model::ArchiveRef;

use super::lines::StoredLine;
use super::readers::Stage;
use super::stats::Hit;
use super::world::{Due, World};

/// Lines that are read at a time: few, so that something comes in between.
const PIECE: usize = 4;

/// How long a read of the store takes at most.
const SCAN_MS: u64 = 60;

/// A piece that was read, and how many removals had begun before.
#[derive(Debug)]
struct Piece {
    trial: TrialId,
    removals: u64,
    lines: Vec<StoredLine>,
}

/// One call.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// The machine was looked at, and the job had ended then.
    looked: bool,
    ended: bool,
    /// Removals that had begun when it was, and the archive that the job had.
    known: Option<(u64, Option<ArchiveRef>)>,
    /// Trials whose lines are still to be read.
    fresh: BTreeSet<TrialId>,
    /// How many lines there were when the job was first seen as ended.
    before_end: Option<BTreeMap<TrialId, usize>>,
    reading: Option<Piece>,
    waits: bool,
    /// Trials that have new lines, it was told.
    news: BTreeSet<TrialId>,
    /// Where the series lie is to be looked up again.
    lost_place: bool,
}

impl Follow {
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// These trials have new lines.
    pub(super) fn told(&mut self, news: BTreeSet<TrialId>) {
        self.news.extend(news);
    }

    /// Takes in what a look at the machine has shown; `lines`: how many each trial has in the store.
    pub(super) fn looked(
        &mut self,
        ended: bool,
        archive: Option<ArchiveRef>,
        lines: BTreeMap<TrialId, usize>,
    ) {
        // The shell's reader asks for nothing while it reads; what a slow coordinator answers twice is not heard.
        if self.reading.is_some() {
            return;
        }
        // Only where the series lie was asked.
        if std::mem::take(&mut self.lost_place) {
            self.known = self.known.take().map(|(at, _)| (at, archive));
            return;
        }
        let first = !self.looked;
        self.looked = true;
        let news = std::mem::take(&mut self.news);
        self.fresh = match first || ended {
            true => lines.keys().copied().collect(),
            false => news,
        };
        if ended && archive.is_none() {
            self.before_end.get_or_insert(lines);
        }
        self.ended = ended;
        self.waits = false;
    }
}

impl World {
    /// The next step of one who follows.
    pub(super) fn follow(&mut self, r: usize) {
        let reader = &mut self.readers[r];
        let (n, call) = (reader.node, reader.call);
        let Some(leader) = self.nodes[n].leader.as_ref() else {
            return;
        };
        let (Stage::Lines(follow), Some(job)) = (&mut reader.stage, &reader.job) else {
            return;
        };
        if follow.waits {
            return self.ask_to_read(r);
        }
        let removals = leader.removals;
        if let Some(piece) = follow.reading.take() {
            let archived = matches!(&follow.known, Some((_, Some(_))));
            if archived || piece.removals == removals {
                if piece.lines.is_empty() {
                    follow.fresh.remove(&piece.trial);
                }
                if archived {
                    self.stats.hit(Hit::ReadFromArchive);
                }
                let told = reader.seen.lines(piece.trial, piece.lines);
                if let Err(message) = told {
                    let message = format!("the log of {job}, reader {r}: {message}");
                    return self.violated(message);
                }
            } else {
                self.stats.hit(Hit::ReadAgain);
            }
        }
        let Some(trial) = follow.fresh.first().copied() else {
            return self.followed(r);
        };
        if follow.known.as_ref().is_none_or(|(at, _)| *at != removals) {
            follow.known = Some((removals, None));
            follow.lost_place = true;
            return self.ask_to_read(r);
        }
        let after = reader.seen.lines_of(trial);
        let archive = follow
            .known
            .as_ref()
            .and_then(|(_, archive)| archive.as_ref());
        let lines = match archive {
            Some(archive) => self.leavers.archived_lines(job, &archive.name, trial),
            None => self.store.lines.of(job, trial),
        };
        let lines = lines.iter().skip(after).take(PIECE).cloned().collect();
        follow.reading = Some(Piece {
            trial,
            removals,
            lines,
        });
        let wait = 1 + self.below(SCAN_MS);
        self.after(wait, Due::Reader(r, call));
    }

    /// All that was asked for is told: the stream ends with the job, or waits for news.
    fn followed(&mut self, r: usize) {
        let reader = &mut self.readers[r];
        let n = reader.node;
        let Stage::Lines(follow) = &mut reader.stage else {
            return;
        };
        if !follow.ended {
            follow.waits = true;
            return self.wake_reader(n, r);
        }
        let before = follow.before_end.take().unwrap_or_default();
        let missing = before
            .into_iter()
            .find(|(trial, lines)| reader.seen.lines_of(*trial) < *lines);
        if let Some((trial, lines)) = missing {
            let message = format!(
                "the log of {:?} ended with {} of the {lines} lines of trial {trial}",
                reader.job,
                reader.seen.lines_of(trial)
            );
            return self.violated(message);
        }
        self.stats.hit(Hit::Followed);
        self.round_over(r);
    }
}
