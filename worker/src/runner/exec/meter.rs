//! How many lines a second of a program are passed on.

use std::time::{Duration, Instant};

use crate::outbox::{Level, Reporter};

/// Passes on so many lines a second and counts the rest.
#[derive(Debug)]
pub(super) struct Meter {
    most: u32,
    second: Option<Instant>,
    passed: u32,
    left_out: u64,
}

impl Meter {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            second: None,
            passed: 0,
            left_out: 0,
        }
    }

    pub(super) fn line(&mut self, reporter: &Reporter, level: Level, text: &str) {
        if self.admits(Instant::now()) {
            self.end(reporter);
            reporter.log(level, text);
        } else {
            self.left_out += 1;
        }
    }

    fn admits(&mut self, now: Instant) -> bool {
        let over = |since: Instant| now.duration_since(since) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            self.second = Some(now);
            self.passed = 0;
        }
        self.passed += 1;
        self.passed <= self.most
    }

    /// Tells how many lines were left out, if any were.
    pub(super) fn end(&mut self, reporter: &Reporter) {
        if self.left_out > 0 {
            let text = format!(
                "{} lines left out: more than {} a second (log_lines_per_second of the worker)",
                self.left_out, self.most
            );
            reporter.warn(&text);
            self.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_counted() {
        let mut meter = Meter::new(20);
        let now = Instant::now();
        let admitted = (0..20 + 50).filter(|_| meter.admits(now)).count();
        assert_eq!(admitted, 20);
        assert!(meter.admits(now + Duration::from_secs(1)));
    }
}
