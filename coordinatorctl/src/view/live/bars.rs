//! Progress bars on a terminal: one for the job, one for each running trial.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use trainyard_proto::v1::{TrialState, TrialSummary};

use crate::print;
use crate::view::convert;
use crate::view::live::board::{Board, News};

/// Bars of running trials that fit on a screen; the others are counted.
const MOST_BARS: usize = 16;
/// The clock of the job's bar moves this often.
const TICK: Duration = Duration::from_millis(500);

const JOB_STYLE: &str = "{prefix} [{elapsed_precise}] {bar:24} {pos}/{len} trials {wide_msg}";
const TRIAL_STYLE: &str = "  {prefix} {bar:24} {wide_msg}";

pub(crate) struct Bars {
    all: MultiProgress,
    job: ProgressBar,
    trials: BTreeMap<u32, ProgressBar>,
}

/// The bars that are on the terminal now: log lines must not run into them.
static SHOWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn set_shown(bars: Option<MultiProgress>) {
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = bars;
}

/// Standard error, clear of the bars. One write is one log line.
pub(crate) struct LogWriter;

impl LogWriter {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let bars = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let write = || io::stderr().lock().write_all(line);
        match bars {
            Some(bars) => bars.suspend(write)?,
            None => write()?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong one falls back to the plain bar.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    pub(crate) fn new() -> Self {
        let all = MultiProgress::new();
        let job = all.add(ProgressBar::new(0).with_style(style(JOB_STYLE)));
        job.enable_steady_tick(TICK);
        set_shown(Some(all.clone()));
        Self {
            all,
            job,
            trials: BTreeMap::new(),
        }
    }

    pub(crate) fn show(&mut self, board: &Board, news: News) {
        match news {
            News::Job { .. } => self.show_job(board),
            News::Trial { trial_id, turn } => {
                if let Some(trial) = board.trial(trial_id) {
                    self.show_trial(board, trial, turn);
                }
            }
        }
    }

    pub(crate) fn say(&self, text: &str) {
        // A terminal that has gone away is noticed by the next result, not here.
        let _ = self.all.println(print::shown(text));
    }

    pub(crate) fn clear(&self) {
        self.job.finish_and_clear();
        for bar in self.trials.values() {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
        set_shown(None);
    }

    fn show_job(&self, board: &Board) {
        let (done, all) = board.counts();
        self.job.set_length(all);
        self.job.set_position(done);
        if let Some(job) = board.job() {
            self.job
                .set_prefix(print::shown_part(&job.job_id).into_owned());
        }
        let hidden = board.running().count().saturating_sub(self.trials.len());
        let more = match hidden {
            0 => String::new(),
            hidden => format!(", {hidden} more running"),
        };
        let best = board.best_part("");
        self.job
            .set_message(format!("{}{more}", print::shown_part(&best)));
    }

    fn show_trial(&mut self, board: &Board, trial: &TrialSummary, turn: bool) {
        if trial.state() != TrialState::Running {
            if let Some(bar) = self.trials.remove(&trial.trial_id) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            if turn && convert::trial_ended(trial.state()) {
                self.say(&board.trial_line(trial));
            }
            return;
        }
        if let Some(bar) = self.bar(trial) {
            bar.set_length(trial.steps_total.max(trial.step).max(1));
            bar.set_position(trial.step);
            let progress = board.progress(trial);
            bar.set_message(print::shown_part(&progress).into_owned());
        }
    }

    fn bar(&mut self, trial: &TrialSummary) -> Option<&ProgressBar> {
        let id = trial.trial_id;
        if !self.trials.contains_key(&id) {
            if self.trials.len() >= MOST_BARS {
                return None;
            }
            // Whatever is set after `new` and before `add` would draw a line of its own.
            let bar = ProgressBar::new(1)
                .with_style(style(TRIAL_STYLE))
                .with_prefix(format!("trial {id:>3}"));
            self.trials.insert(id, self.all.add(bar));
        }
        self.trials.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        for template in [JOB_STYLE, TRIAL_STYLE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
