//! PURE: log lines on their way to the coordinator. Like reports they get a number when they are first
//! handed out, and are handed out again on every new connection until they are acknowledged. Unlike
//! reports they may be dropped while they wait: the newest are kept, and how many are missing is told.

use std::collections::{BTreeMap, VecDeque};

use trainyard_common::text::{Keep, printable, within};
use trainyard_proto::v1::{LogBatch, LogLine};

use crate::attempt::AttemptKey;

/// Lines held at most.
const CAPACITY: usize = 8192;
/// Bytes of the texts of all lines that are held: the lines of a full window at their longest, and as
/// much again.
const MAX_BYTES: usize = 2 * WINDOW * MAX_TEXT_BYTES;
/// Lines handed out but not acknowledged: beyond it the rest waits, and may be dropped.
const WINDOW: usize = CAPACITY / 4;
/// Lines of one batch at most.
const BATCH_LINES: usize = 256;
/// The longest text of a line, in bytes; the rest is cut off.
const MAX_TEXT_BYTES: usize = 8192;

/// How grave a line is, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

/// A line and whose it is.
type Line = (AttemptKey, LogLine);

#[derive(Debug)]
pub(crate) struct LogBuffer {
    /// Number of the first of `numbered`; those after it follow.
    first: u64,
    /// Handed out once, not acknowledged.
    numbered: VecDeque<Line>,
    /// How many of `numbered` were handed out on the present connection.
    handed_out: usize,
    waiting: VecDeque<Line>,
    /// Lines that were dropped while they waited, and when the newest of them was written; not told yet.
    dropped: BTreeMap<AttemptKey, (u64, u64)>,
    /// Of the texts of all lines.
    bytes: usize,
}

impl Default for LogBuffer {
    fn default() -> Self {
        Self {
            first: 1,
            numbered: VecDeque::new(),
            handed_out: 0,
            waiting: VecDeque::new(),
            dropped: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl LogBuffer {
    /// Whether every line is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbered.is_empty() && self.waiting.is_empty() && self.dropped.is_empty()
    }

    /// Whether [`Self::next_batch`] has something to hand out.
    pub(crate) fn has_next(&self) -> bool {
        let more = !self.waiting.is_empty() || !self.dropped.is_empty();
        self.handed_out < self.numbered.len() || (more && self.numbered.len() < WINDOW)
    }

    /// Whether lines of this attempt are still to be handed out on this connection.
    pub(crate) fn has(&self, key: &AttemptKey) -> bool {
        let again = self.numbered.iter().skip(self.handed_out);
        let mut lines = again.chain(&self.waiting);
        lines.any(|(of, _)| of == key) || self.dropped.contains_key(key)
    }

    pub(crate) fn push(&mut self, key: &AttemptKey, time_ms: u64, level: Level, text: &str) {
        let line = key.log_line(time_ms, level.as_str(), shown(text));
        let full = |logs: &Self| {
            logs.numbered.len() + logs.waiting.len() >= CAPACITY
                || logs.bytes + line.text.len() > MAX_BYTES
        };
        while full(self)
            && let Some((of, line)) = self.waiting.pop_front()
        {
            self.bytes -= line.text.len();
            let (count, newest) = self.dropped.entry(of).or_default();
            *count += 1;
            *newest = line.time_ms;
        }
        self.bytes += line.text.len();
        self.waiting.push_back((key.clone(), line));
    }

    /// Gives numbers to what is handed out next. What was dropped is older than all that waits.
    fn number(&mut self, wanted: usize) {
        if self.numbered.len() < wanted {
            for (key, (count, time_ms)) in std::mem::take(&mut self.dropped) {
                let text = format!(
                    "{count} log lines were dropped here: they came faster than the coordinator took them"
                );
                let line = key.log_line(time_ms, Level::Warn.as_str(), text);
                self.bytes += line.text.len();
                self.numbered.push_back((key, line));
            }
        }
        while self.numbered.len() < wanted
            && let Some(line) = self.waiting.pop_front()
        {
            self.numbered.push_back(line);
        }
    }

    /// The next lines of one attempt, in order.
    pub(crate) fn next_batch(&mut self) -> Option<LogBatch> {
        self.number((self.handed_out + BATCH_LINES).min(WINDOW));
        let (key, _) = self.numbered.get(self.handed_out)?.clone();
        let lines: Vec<LogLine> = self
            .numbered
            .iter()
            .skip(self.handed_out)
            .take(BATCH_LINES)
            .take_while(|(of, _)| *of == key)
            .map(|(_, line)| line.clone())
            .collect();
        let first = self.first + self.handed_out as u64;
        self.handed_out += lines.len();
        Some(LogBatch {
            job_id: key.job.to_string(),
            trial_id: key.trial.0,
            attempt: key.attempt.0,
            rank: key.rank,
            lines,
            first,
        })
    }

    /// A new connection: everything that was not acknowledged is handed out again.
    pub(crate) fn reconnected(&mut self) {
        self.handed_out = 0;
    }

    /// Forgets the lines up to a number. Numbers never handed out are ignored.
    pub(crate) fn acknowledge(&mut self, through: u64) {
        while self.first <= through
            && let Some((_, line)) = self.numbered.pop_front()
        {
            self.bytes -= line.text.len();
            self.first += 1;
            self.handed_out = self.handed_out.saturating_sub(1);
        }
    }

    /// Leaves out what waits of an attempt that is no longer this worker's. What has a number stays: the
    /// numbers of others follow it.
    pub(crate) fn abandon(&mut self, key: &AttemptKey) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|(of, line)| {
            if of == key {
                *bytes -= line.text.len();
            }
            of != key
        });
        self.dropped.remove(key);
    }
}

/// A text of a program, of a file or of our own as a line of a log: no control character of it reaches
/// whoever reads the log.
fn shown(text: &str) -> String {
    // Escaped it may be several times as long.
    let short = within(text.to_owned(), MAX_TEXT_BYTES);
    within(printable(&short, Keep::Lines).into_owned(), MAX_TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(trial: u32) -> AttemptKey {
        AttemptKey::new("job-1", trial, 0, 1, 0)
    }

    #[test]
    fn batches_hold_lines_of_one_attempt_in_order() {
        let mut logs = LogBuffer::default();
        for (trial, text) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
            logs.push(&key(trial), 5, Level::Info, text);
        }
        let mut seen = Vec::new();
        while let Some(batch) = logs.next_batch() {
            let texts: Vec<String> = batch.lines.into_iter().map(|line| line.text).collect();
            seen.push((batch.trial_id, texts.concat()));
        }
        assert_eq!(seen, [(1, "ab".into()), (2, "c".into()), (1, "d".into())]);
    }

    fn numbers(batch: &LogBatch) -> std::ops::Range<u64> {
        batch.first..batch.first + batch.lines.len() as u64
    }

    #[test]
    fn what_was_not_acknowledged_is_handed_out_again_under_its_numbers() {
        let mut logs = LogBuffer::default();
        (0..300).for_each(|i| logs.push(&key(1), 0, Level::Info, &i.to_string()));
        assert_eq!(numbers(&logs.next_batch().unwrap()), 1..257);
        assert_eq!(numbers(&logs.next_batch().unwrap()), 257..301);
        assert!(!logs.has_next() && !logs.has(&key(1)) && !logs.is_empty());
        logs.acknowledge(256);
        logs.push(&key(1), 0, Level::Info, "300");
        logs.reconnected();
        assert!(logs.has(&key(1)));
        let again = logs.next_batch().unwrap();
        assert_eq!(numbers(&again), 257..302);
        assert_eq!(again.lines[0].text, "256");
        assert_eq!(again.lines[44].text, "300");
        // The future is ignored.
        logs.acknowledge(999);
        assert!(logs.is_empty());
        logs.push(&key(1), 0, Level::Info, "next");
        assert_eq!(numbers(&logs.next_batch().unwrap()), 302..303);
    }

    #[test]
    fn the_newest_are_kept_and_the_loss_is_told_where_it_was() {
        let mut logs = LogBuffer::default();
        logs.push(&key(1), 0, Level::Info, "first");
        logs.next_batch().unwrap();
        logs.push(&key(2), 7, Level::Info, "lost");
        (0..CAPACITY).for_each(|i| logs.push(&key(1), 0, Level::Info, &i.to_string()));
        // What was handed out is never dropped.
        logs.reconnected();
        let mut told = Vec::new();
        let mut windows = 0;
        while !logs.is_empty() {
            match logs.next_batch() {
                Some(batch) => told.extend(batch.lines.into_iter().map(|l| (batch.trial_id, l))),
                // The window is full.
                None => {
                    windows += 1;
                    logs.acknowledge(logs.first + WINDOW as u64);
                }
            }
        }
        assert!(windows > 1);
        let text = |at: usize| (told[at].0, told[at].1.text.as_str());
        assert_eq!(text(0), (1, "first"));
        assert!(text(1).1.starts_with("1 log lines"), "{:?}", told[1]);
        assert!(text(2).1.starts_with("1 log lines"), "{:?}", told[2]);
        assert_eq!((told[1].0, told[2].0), (1, 2));
        assert_eq!((told[2].1.level.as_str(), told[2].1.time_ms), ("warn", 7));
        assert_eq!(text(3), (1, "1"));
        assert_eq!(told.len(), 3 + CAPACITY - 1);
    }

    #[test]
    fn lines_are_bounded_in_bytes() {
        let mut logs = LogBuffer::default();
        let long = "x".repeat(MAX_TEXT_BYTES);
        (0..CAPACITY - 1).for_each(|_| logs.push(&key(1), 0, Level::Info, &long));
        let most = MAX_BYTES / MAX_TEXT_BYTES;
        assert_eq!((logs.waiting.len(), logs.bytes), (most, MAX_BYTES));
        assert_eq!(logs.dropped[&key(1)].0 as usize, CAPACITY - 1 - most);
        // Also with those that were handed out, and back to nothing.
        for _ in 0..100 {
            let batch = logs.next_batch().unwrap();
            logs.push(&key(2), 0, Level::Info, &long);
            logs.acknowledge(batch.first + batch.lines.len() as u64 / 2);
        }
        assert!(logs.bytes <= MAX_BYTES + 2 * MAX_TEXT_BYTES);
        logs.abandon(&key(2));
        logs.acknowledge(u64::MAX);
        assert_eq!(logs.bytes, 0);
    }

    #[test]
    fn control_characters_do_not_get_into_a_log() {
        let mut logs = LogBuffer::default();
        logs.push(&key(1), 0, Level::Warn, "a\u{1b}[31mred\tb\u{7}");
        let batch = logs.next_batch().unwrap();
        assert_eq!(batch.lines[0].text, "a\\u{1b}[31mred\tb\\u{7}");
        logs.push(&key(1), 0, Level::Warn, &"\u{1b}".repeat(MAX_TEXT_BYTES));
        let batch = logs.next_batch().unwrap();
        assert!(batch.lines[0].text.len() < MAX_TEXT_BYTES + 40);
    }
}
