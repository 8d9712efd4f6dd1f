//! A job as it happens: bars on a terminal, plain lines elsewhere.
//!
//! `board` knows what stands where and what is worth saying; it is pure. `bars` and `lines` show it.

mod bars;
mod board;
mod lines;

use std::io::IsTerminal;

use trainyard_proto::v1::JobSummary;
use trainyard_proto::v1::job_event::Event;

use crate::exit::Outcome;

pub(crate) use bars::LogWriter;
use board::Board;
pub(crate) use lines::To;

/// Shows one job's progress.
pub(crate) struct Display {
    board: Board,
    view: View,
}

enum View {
    Bars(Box<bars::Bars>),
    Lines(lines::Lines),
}

impl Display {
    /// Bars where standard error is a terminal, otherwise lines to where `lines` says.
    pub(crate) fn new(lines: To) -> Self {
        let view = if std::io::stderr().is_terminal() {
            View::Bars(Box::new(bars::Bars::new()))
        } else {
            View::Lines(lines::Lines::new(lines))
        };
        Self {
            board: Board::default(),
            view,
        }
    }

    pub(crate) fn apply(&mut self, event: Event) -> Outcome {
        let news = self.board.apply(event);
        match &mut self.view {
            View::Bars(bars) => {
                bars.show(&self.board, news);
                Ok(())
            }
            View::Lines(lines) => lines.show(&self.board, news),
        }
    }

    /// Says something above the bars.
    pub(crate) fn remark(&self, text: &str) {
        match &self.view {
            View::Bars(bars) => bars.say(text),
            View::Lines(_) => crate::print::remark(text),
        }
    }

    /// Takes the bars away; what was said stays.
    pub(crate) fn finish(&mut self) {
        if let View::Bars(bars) = &self.view {
            bars.clear();
        }
    }

    pub(crate) fn job(&self) -> Option<&JobSummary> {
        self.board.job()
    }
}
