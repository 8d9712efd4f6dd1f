//! A job's searcher: at hand, beside the loop with something to compute, or resting in the job's log.
//!
//! Owns that it hears everything in the order of the log: what happens while it computes is kept for it.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;

use super::told::{Check, Thought, Told};
use crate::search::Searcher;

/// Names a computation of a searcher among all of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is there for the next trial.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster) enum Next {
    Params(Params),
    /// There is nothing more.
    Nothing,
    /// It takes long to find out.
    Long,
    /// It is being found out, or the search rests.
    Later,
}

/// A job's searcher.
pub(in crate::cluster) struct Mind {
    seat: Seat,
    /// What was proposed for the trial after the newest.
    proposal: Option<Params>,
    /// How many trials can be added, as of when the searcher was last here; `None`: any number.
    room: Option<u32>,
}

enum Seat {
    /// It rests in its log.
    Rests,
    Here(Box<Searcher>),
    Away(Away),
}

struct Away {
    ticket: Ticket,
    /// It is being made from its log.
    loads: bool,
    /// What it is still to be told, in order: no more than the log has by then.
    missed: Vec<Told>,
}

impl Mind {
    pub(in crate::cluster) fn resting() -> Self {
        Self {
            seat: Seat::Rests,
            proposal: None,
            room: None,
        }
    }

    /// A searcher that has heard everything.
    pub(in crate::cluster) fn here(thought: Thought) -> Self {
        let mut mind = Self::resting();
        mind.take_in(thought);
        mind
    }

    /// One that is being made from its log.
    pub(in crate::cluster) fn loading(ticket: Ticket) -> Self {
        Self {
            seat: Seat::Away(Away {
                ticket,
                loads: true,
                missed: Vec::new(),
            }),
            ..Self::resting()
        }
    }

    pub(in crate::cluster) fn rest(&mut self) {
        *self = Self::resting();
    }

    pub(in crate::cluster) fn rests(&self) -> bool {
        matches!(self.seat, Seat::Rests)
    }

    /// Whether it is being made from its log.
    pub(in crate::cluster) fn loads(&self) -> bool {
        matches!(&self.seat, Seat::Away(away) if away.loads)
    }

    /// Whether it computes something, and nothing is there for the next trial.
    pub(in crate::cluster) fn thinks(&self) -> bool {
        matches!(self.seat, Seat::Away(_)) && self.proposal.is_none()
    }

    pub(in crate::cluster) fn searcher(&self) -> Option<&Searcher> {
        match &self.seat {
            Seat::Here(searcher) => Some(searcher),
            Seat::Rests | Seat::Away(_) => None,
        }
    }

    /// How many trials can be added; `None`: any number.
    pub(in crate::cluster) fn room(&self) -> Option<u32> {
        self.searcher().map_or(self.room, Searcher::room)
    }

    /// Tells it something, now or once it is back.
    pub(in crate::cluster) fn tell(&mut self, told: Told) {
        match &mut self.seat {
            Seat::Rests => {}
            Seat::Here(searcher) => hear(searcher, told),
            Seat::Away(away) => {
                if let Told::Extended { trials } = &told {
                    self.room = self.room.map(|room| room.saturating_sub(*trials));
                }
                away.missed.push(told);
            }
        }
    }

    /// A configuration for the trial after the newest, if that takes less than so many milliseconds.
    pub(in crate::cluster) fn next(
        &mut self,
        trial: TrialId,
        first_resource: Option<u64>,
        quick_ms: u64,
    ) -> Next {
        if let Some(params) = self.proposal.take() {
            return Next::Params(params);
        }
        match &mut self.seat {
            Seat::Here(searcher) if searcher.effort_ms() < quick_ms => {
                let proposed = searcher.suggest(trial, first_resource);
                proposed.map_or(Next::Nothing, Next::Params)
            }
            Seat::Here(_) => Next::Long,
            Seat::Rests | Seat::Away(_) => Next::Later,
        }
    }

    /// Lets the searcher go for something that takes long. `None`: it is not here.
    pub(in crate::cluster) fn send(&mut self, ticket: Ticket) -> Option<Searcher> {
        let Seat::Here(_) = self.seat else {
            return None;
        };
        self.room = self.room();
        let away = Away {
            ticket,
            loads: false,
            missed: Vec::new(),
        };
        match std::mem::replace(&mut self.seat, Seat::Away(away)) {
            Seat::Here(searcher) => Some(*searcher),
            Seat::Rests | Seat::Away(_) => None,
        }
    }

    /// Whether this is the computation that it is away for.
    pub(in crate::cluster) fn awaits(&self, ticket: Ticket) -> bool {
        matches!(&self.seat, Seat::Away(away) if away.ticket == ticket)
    }

    /// It is back: it hears what it has missed. True: there is nothing more to propose, unless trials were added
    /// meanwhile.
    pub(in crate::cluster) fn back(&mut self, thought: Thought) -> bool {
        let missed = match &mut self.seat {
            Seat::Away(away) => std::mem::take(&mut away.missed),
            Seat::Rests | Seat::Here(_) => Vec::new(),
        };
        let extended = |told: &Told| matches!(told, Told::Extended { .. });
        let extended = missed.iter().any(extended);
        let exhausted = self.take_in(thought) && !extended;
        missed.into_iter().for_each(|told| self.tell(told));
        exhausted
    }

    fn take_in(&mut self, thought: Thought) -> bool {
        let exhausted = thought.exhausted();
        let Thought { searcher, proposal } = thought;
        self.seat = Seat::Here(Box::new(searcher));
        self.proposal = proposal.and_then(|proposal| proposal.params);
        exhausted
    }
}

/// None of this is a question, nor takes long.
fn hear(searcher: &mut Searcher, told: Told) {
    // Nothing is compared: there is nothing to fail.
    let _ = told.tell(searcher, Check::Adopt);
}
