//! PURE: log lines on their way to the coordinator. Lines are not acknowledged: while the coordinator
//! is away the newest are kept, and how many were dropped is told.

use std::collections::VecDeque;

use trainyard_proto::v1::{LogBatch, LogLine};

use crate::runner::AttemptKey;

/// Lines held at most.
const CAPACITY: usize = 8192;
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

#[derive(Debug, Default)]
pub(crate) struct LogBuffer {
    lines: VecDeque<(AttemptKey, LogLine)>,
    dropped: u64,
}

impl LogBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether lines of this attempt wait.
    pub(crate) fn has(&self, key: &AttemptKey) -> bool {
        self.lines.iter().any(|(of, _)| of == key)
    }

    pub(crate) fn push(&mut self, key: &AttemptKey, time_ms: u64, level: Level, text: &str) {
        if self.lines.len() >= CAPACITY {
            self.lines.pop_front();
            self.dropped += 1;
        }
        let line = key.log_line(time_ms, level.as_str(), cut(text, MAX_TEXT_BYTES));
        self.lines.push_back((key.clone(), line));
    }

    /// The oldest lines of one attempt, in order.
    pub(crate) fn next_batch(&mut self) -> Option<LogBatch> {
        let key = self.lines.front()?.0.clone();
        let mut lines = Vec::new();
        if self.dropped > 0 {
            let time_ms = self.lines.front()?.1.time_ms;
            let text = format!(
                "{} log lines of this worker's attempts were dropped: they came faster than the coordinator took them",
                self.dropped
            );
            lines.push(key.log_line(time_ms, Level::Warn.as_str(), text));
            self.dropped = 0;
        }
        while lines.len() < BATCH_LINES && self.lines.front().is_some_and(|(of, _)| *of == key) {
            lines.extend(self.lines.pop_front().map(|(_, line)| line));
        }
        Some(LogBatch {
            job_id: key.job.to_string(),
            trial_id: key.trial.0,
            attempt: key.attempt.0,
            rank: key.rank,
            lines,
        })
    }

    pub(crate) fn abandon(&mut self, key: &AttemptKey) {
        self.lines.retain(|(of, _)| of != key);
    }
}

/// The text up to a number of bytes, cut between characters, with the cut marked.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let boundary = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=limit).rev().find(boundary).unwrap_or(0);
    format!("{}... ({} bytes)", &text[..end], text.len())
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

    #[test]
    fn the_newest_are_kept_and_the_loss_is_told() {
        let mut logs = LogBuffer::default();
        (0..CAPACITY + 3).for_each(|i| logs.push(&key(1), 0, Level::Info, &i.to_string()));
        let first = logs.next_batch().unwrap();
        assert!(first.lines[0].text.starts_with("3 log lines"), "{first:?}");
        assert_eq!(first.lines[0].level, "warn");
        assert_eq!(first.lines[1].text, "3");
        assert_eq!(first.lines.len(), BATCH_LINES);
        assert_eq!(
            logs.next_batch().unwrap().lines[0].text,
            (BATCH_LINES + 2).to_string()
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ä".repeat(MAX_TEXT_BYTES);
        let short = cut(&text, 5);
        assert_eq!(short, format!("ää... ({} bytes)", text.len()));
        assert_eq!(cut("abc", 3), "abc");
    }
}
