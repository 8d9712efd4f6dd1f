//! A worker's log lines that are not acknowledged, and what the store has of them. Like reports they are
//! numbered when first handed out and handed out again on every new connection; unlike reports those that
//! wait may be dropped, which is told where they were. The model of the agent's log buffer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trainyard_common::ids::{AttemptId, JobId, TrialId};
use trainyard_coordinator::cluster::api::{LogText, SeriesLog};
use trainyard_coordinator::cluster::model::RankRef;

/// Lines of one message: fewer than on the wire, so that an attempt's come in several.
const BATCH: usize = 3;

/// Lines that are handed out and not acknowledged; the rest waits.
const WINDOW: usize = 8;

/// Lines that are held. Beyond it the oldest of those that wait are dropped.
const CAPACITY: usize = 16;

/// What a line says in place of those that were dropped.
const DROPPED: &str = "dropped ";

#[derive(Debug)]
pub(super) struct Lines {
    /// Number of the first of `numbered`.
    first: u64,
    numbered: VecDeque<(RankRef, String)>,
    handed_out: usize,
    waiting: VecDeque<(RankRef, String)>,
    dropped: BTreeMap<RankRef, u32>,
    /// How many each rank has written.
    written: BTreeMap<RankRef, u32>,
    /// Ranks that are no longer this worker's: what waited of them will never be told.
    abandoned: BTreeSet<RankRef>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            first: 1,
            numbered: VecDeque::new(),
            handed_out: 0,
            waiting: VecDeque::new(),
            dropped: BTreeMap::new(),
            written: BTreeMap::new(),
            abandoned: BTreeSet::new(),
        }
    }
}

/// Some of a rank's lines as they are handed out.
#[derive(Debug, Clone)]
pub(super) struct LineBatch {
    pub(super) rank: RankRef,
    /// Number of the first line.
    pub(super) first: u64,
    pub(super) lines: Vec<LogText>,
}

impl Lines {
    /// A rank writes its next line. Whether another was dropped for it.
    pub(super) fn write(&mut self, rank: &RankRef) -> bool {
        let number = self.written.entry(rank.clone()).or_default();
        let text = number.to_string();
        *number += 1;
        let full = self.numbered.len() + self.waiting.len() >= CAPACITY;
        let lost = full.then(|| self.waiting.pop_front()).flatten();
        let dropped = lost.is_some();
        if let Some((of, _)) = lost {
            *self.dropped.entry(of).or_default() += 1;
        }
        self.waiting.push_back((rank.clone(), text));
        dropped
    }

    /// The next lines of one rank, in order.
    pub(super) fn next_batch(&mut self) -> Option<LineBatch> {
        let wanted = (self.handed_out + BATCH).min(WINDOW);
        if self.numbered.len() < wanted {
            for (rank, count) in std::mem::take(&mut self.dropped) {
                self.numbered.push_back((rank, format!("{DROPPED}{count}")));
            }
        }
        while self.numbered.len() < wanted
            && let Some(line) = self.waiting.pop_front()
        {
            self.numbered.push_back(line);
        }
        let (rank, _) = self.numbered.get(self.handed_out)?.clone();
        let again = self.numbered.iter().skip(self.handed_out).take(BATCH);
        let of_rank = again.take_while(|(of, _)| *of == rank);
        let lines: Vec<LogText> = of_rank.map(|(_, text)| text_of(text)).collect();
        let first = self.first + self.handed_out as u64;
        self.handed_out += lines.len();
        Some(LineBatch { rank, first, lines })
    }

    /// Whether lines of this rank are still to be handed out on this connection: its end waits for them.
    pub(super) fn has(&self, rank: &RankRef) -> bool {
        let again = self.numbered.iter().skip(self.handed_out);
        let mut lines = again.chain(&self.waiting);
        lines.any(|(of, _)| of == rank) || self.dropped.contains_key(rank)
    }

    pub(super) fn reconnected(&mut self) {
        self.handed_out = 0;
    }

    /// Takes out the lines up to a number: whose they are, and what they say.
    pub(super) fn acknowledge(&mut self, through: u64) -> Vec<(RankRef, String)> {
        let mut stored = Vec::new();
        while self.first <= through
            && let Some(line) = self.numbered.pop_front()
        {
            self.first += 1;
            self.handed_out = self.handed_out.saturating_sub(1);
            stored.push(line);
        }
        stored
    }

    /// Leaves out what has no number yet of a rank that is no longer this worker's.
    pub(super) fn abandon(&mut self, rank: &RankRef) {
        self.waiting.retain(|(of, _)| of != rank);
        self.dropped.remove(rank);
        self.abandoned.insert(rank.clone());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbered.is_empty() && self.waiting.is_empty() && self.dropped.is_empty()
    }

    /// How many lines a rank has written, if all of them were to be told.
    pub(super) fn written(&self, rank: &RankRef) -> Option<u32> {
        let told = !self.abandoned.contains(rank);
        told.then(|| self.written.get(rank).copied().unwrap_or(0))
    }
}

fn text_of(text: &str) -> LogText {
    LogText {
        time_ms: 0,
        level: "info".to_owned(),
        text: text.to_owned(),
    }
}

/// A line as it is stored; its number is its place, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredLine {
    pub(super) attempt: AttemptId,
    pub(super) rank: u32,
    pub(super) text: String,
}

impl StoredLine {
    /// Whether it is a rank's own line: those differ from one another.
    pub(super) fn is_own(&self) -> bool {
        !self.text.starts_with(DROPPED)
    }
}

/// The stored lines of every trial.
#[derive(Debug, Default)]
pub(super) struct StoredLines {
    trials: BTreeMap<(JobId, TrialId), Vec<StoredLine>>,
    /// How far each rank's lines have come, dropped ones counted.
    told: BTreeMap<(JobId, TrialId, AttemptId, u32), u32>,
}

impl StoredLines {
    /// Appends lines: each of a rank's once, in order, none left out but those that were dropped.
    ///
    /// # Errors
    /// It is not the next one.
    pub(super) fn append(&mut self, log: SeriesLog) -> Result<(), String> {
        let SeriesLog {
            job,
            trial,
            attempt,
            rank,
            lines,
        } = log;
        let told = self.told.entry((job.clone(), trial, attempt, rank));
        let told = told.or_default();
        let stored = self.trials.entry((job.clone(), trial)).or_default();
        for LogText { text, .. } in lines {
            let right = match text.strip_prefix(DROPPED) {
                Some(count) => count.parse().map(|count: u32| *told += count).is_ok(),
                None => {
                    let next = text.parse() == Ok(*told);
                    *told += 1;
                    next
                }
            };
            if !right {
                return Err(format!(
                    "line {text:?} of {job}/{trial}.{attempt}r{rank} is not the next one: {stored:?}"
                ));
            }
            stored.push(StoredLine {
                attempt,
                rank,
                text,
            });
        }
        Ok(())
    }

    /// The trial's lines, the first of which has the number 1.
    pub(super) fn of(&self, job: &JobId, trial: TrialId) -> &[StoredLine] {
        let found = self.trials.get(&(job.clone(), trial));
        found.map_or(&[], Vec::as_slice)
    }

    /// The lines of each trial that has any.
    pub(super) fn of_job(&self, job: &JobId) -> BTreeMap<TrialId, Vec<StoredLine>> {
        let known = (job.clone(), TrialId(0))..=(job.clone(), TrialId(u32::MAX));
        let known = self.trials.range(known);
        known
            .map(|((_, trial), lines)| (*trial, lines.clone()))
            .collect()
    }

    pub(super) fn has(&self, rank: &RankRef, text: &str) -> bool {
        let at = &rank.at;
        let mut lines = self.of(&at.job, at.trial).iter();
        lines.any(|line| line.attempt == at.attempt && line.rank == rank.rank && line.text == text)
    }

    /// How many of a rank's lines are stored or known to be dropped.
    pub(super) fn told(&self, rank: &RankRef) -> u32 {
        let at = &rank.at;
        let key = (at.job.clone(), at.trial, at.attempt, rank.rank);
        self.told.get(&key).copied().unwrap_or(0)
    }

    /// A job's lines go.
    pub(super) fn sweep(&mut self, job: &JobId) {
        self.trials.retain(|(of, _), _| of != job);
    }
}
