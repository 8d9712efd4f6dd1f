//! Plain lines for logs and pipes: every turn of a trial, and in between now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::exit::Outcome;
use crate::print;
use crate::view::live::board::{Board, News};

/// Between two lines about one trial within an epoch.
const QUIET: Duration = Duration::from_secs(5);

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// They are the verb's result.
    Output,
    /// They accompany it.
    Remarks,
}

pub(crate) struct Lines {
    to: To,
    said: BTreeMap<u32, Instant>,
}

impl Lines {
    pub(crate) fn new(to: To) -> Self {
        Self {
            to,
            said: BTreeMap::new(),
        }
    }

    pub(crate) fn show(&mut self, board: &Board, news: News) -> Outcome {
        match news {
            News::Job { turn: true } => {
                let id = board.job().map_or("", |job| job.job_id.as_str());
                self.say(&format!("{id} {}", board.job_line()))
            }
            News::Trial { trial_id, turn } if turn || self.quiet_is_over(trial_id) => {
                self.said.insert(trial_id, Instant::now());
                board
                    .trial(trial_id)
                    .map_or(Ok(()), |trial| self.say(&board.trial_line(trial)))
            }
            _ => Ok(()),
        }
    }

    fn quiet_is_over(&self, trial_id: u32) -> bool {
        let last = self.said.get(&trial_id);
        last.is_none_or(|last| last.elapsed() >= QUIET)
    }

    fn say(&self, text: &str) -> Outcome {
        match self.to {
            To::Output => print::line(text),
            To::Remarks => {
                print::remark(text);
                Ok(())
            }
        }
    }
}
