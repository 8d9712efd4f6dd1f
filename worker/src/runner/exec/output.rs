//! Follows the pipes of a program: its lines become reports and log lines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncRead;
use tokio::task::JoinHandle;

use super::lines::{EndOfLine, Line, Lines};
use super::loose::uncoloured;
use super::meter::Meter;
use super::report::{self, Miss, Parsed};
use super::telling::Telling;
use crate::attempt::Mask;
use crate::outbox::{Level, Reporter};

/// The longest line that is read, in bytes. Of a longer one the beginning is logged, and a report is looked for
/// in as many bytes of its end.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A line that is drawn over again and again (a progress bar) is logged once in this time.
const DRAWN_EVERY: Duration = Duration::from_secs(10);

/// How long output may still come once the program has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Turns standard output into reports and log lines, `most` of them a second.
pub(super) async fn follow_output(
    pipe: impl AsyncRead + Unpin,
    reporter: Reporter,
    telling: Arc<Telling>,
    most: u32,
) {
    let mut lines = Lines::new(pipe, MAX_LINE_BYTES, true);
    let mut log = Log::new(reporter, Level::Info, most);
    let mut missed = BTreeSet::new();
    while let Some(line) = lines.next().await {
        log.reporter.activity.sign();
        // Who speaks over the channel prints for people.
        let parsed = parse(&line, log.reporter.mask());
        let spoken = telling.has_channel();
        let meant = matches!(parsed, Parsed::Report(_) | Parsed::Infeasible(_));
        if spoken && !(meant && telling.counts_again().await) {
            log.line(&line);
            continue;
        }
        match parsed {
            Parsed::Report(said) => {
                log.drawn = None;
                if let Err(why) = telling.report(said).await {
                    log.warn(&why);
                }
            }
            Parsed::Infeasible(why) => {
                log.warn(&log.shown(&line));
                telling.is_infeasible(why);
            }
            Parsed::Text => log.line(&line),
            Parsed::Miss(kind, why) => {
                log.line(&line);
                // A program that has made reports prints objects for people, too.
                let meant = kind != Miss::Bare || !telling.has_reported();
                if meant && missed.insert(kind) {
                    log.warn(&format!(
                        "the line above looks like a report and is none: {why} (told once)"
                    ));
                }
            }
        }
    }
    log.end();
}

fn parse(line: &Line, mask: &Mask) -> Parsed {
    let text = line.rest.as_ref().unwrap_or(&line.text);
    report::line(&uncoloured(text), mask)
}

/// Turns standard error into log lines; gives the last one that is not empty.
pub(super) async fn follow_errors(
    pipe: impl AsyncRead + Unpin,
    reporter: Reporter,
    most: u32,
) -> String {
    let mut lines = Lines::new(pipe, MAX_LINE_BYTES, true);
    let mut log = Log::new(reporter, Level::Warn, most);
    let mut last = String::new();
    while let Some(line) = lines.next().await {
        log.reporter.activity.sign();
        log.line(&line);
        if !line.text.trim().is_empty() {
            last = log.shown(&line);
        }
    }
    log.end();
    last
}

/// What a follower found, within the grace, which begins anew as long as it is busy.
pub(super) async fn rest<T>(
    follower: Option<&mut JoinHandle<T>>,
    is_busy: impl Fn() -> bool,
) -> Option<T> {
    let follower = follower?;
    loop {
        match tokio::time::timeout(OUTPUT_GRACE, &mut *follower).await {
            Ok(found) => return found.ok(),
            Err(_) if is_busy() => {}
            Err(_) => {
                follower.abort();
                return None;
            }
        }
    }
}

/// Where lines go that are text.
struct Log {
    reporter: Reporter,
    level: Level,
    meter: Meter,
    /// What stands where the next text is drawn.
    drawn: Option<String>,
    /// When something that may be drawn over was passed on.
    passed: Option<Instant>,
}

impl Log {
    fn new(reporter: Reporter, level: Level, most: u32) -> Self {
        Self {
            reporter,
            level,
            meter: Meter::new(most),
            drawn: None,
            passed: None,
        }
    }

    /// What people see of a line; of one that is too long no beginning of a secret at its end.
    fn shown(&self, line: &Line) -> String {
        let text = uncoloured(&line.text);
        match line.rest {
            None => text.into_owned(),
            Some(_) => self.reporter.mask().hide_beginning(&text),
        }
    }

    fn line(&mut self, line: &Line) {
        let text = self.shown(line);
        match line.end {
            EndOfLine::Return if text.is_empty() => {}
            EndOfLine::Return => {
                let now = Instant::now();
                let passed = *self.passed.get_or_insert(now);
                if now.duration_since(passed) < DRAWN_EVERY {
                    self.drawn = Some(text);
                } else {
                    self.passed = Some(now);
                    self.drawn = None;
                    self.meter.line(&self.reporter, self.level, &text);
                }
            }
            EndOfLine::Feed => {
                let drawn = self.drawn.take();
                let text = match (text.is_empty(), &drawn) {
                    (true, Some(drawn)) => drawn,
                    _ => &text,
                };
                self.meter.line(&self.reporter, self.level, text);
            }
        }
    }

    fn warn(&mut self, text: &str) {
        self.meter.line(&self.reporter, Level::Warn, text);
    }

    fn end(&mut self) {
        if let Some(drawn) = self.drawn.take() {
            self.meter.line(&self.reporter, self.level, &drawn);
        }
        self.meter.end(&self.reporter);
    }
}
