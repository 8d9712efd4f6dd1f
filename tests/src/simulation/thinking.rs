//! What searchers compute beside the loop: the answer comes as an event, after as long as the seed says, and is
//! lost with its coordinator.

use trainyard_common::ids::JobId;
use trainyard_coordinator::cluster::api::Event;
use trainyard_coordinator::cluster::model::{Computation, Ticket};

use super::stats::Hit;
use super::turn::Input;
use super::world::{Due, World};

/// One of so many takes long, and how long at most.
const LONG_ONE_IN: u64 = 6;
const LONG_MS: u64 = 8_000;

/// Others take less than this.
const SHORT_MS: u64 = 400;

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    epoch: u64,
    event: Event,
}

impl World {
    /// A searcher of a leader begins to compute.
    pub(super) fn think(&mut self, n: usize, job: JobId, ticket: Ticket, task: Computation) {
        let most = match self.below(LONG_ONE_IN) {
            0 => LONG_MS,
            _ => SHORT_MS,
        };
        let wait = self.below(most);
        let event = Event::Searched {
            job,
            ticket,
            // When it is computed makes no difference.
            computed: task.run(),
        };
        let epoch = self.nodes[n].epoch;
        let number = self.answers.len();
        self.answers.push(Some(Answer { epoch, event }));
        self.after(wait, Due::Thought(n, number));
    }

    /// It has found out.
    pub(super) fn thought(&mut self, n: usize, number: usize) {
        let Some(answer) = self.answers.get_mut(number).and_then(Option::take) else {
            return;
        };
        if answer.epoch == self.nodes[n].epoch && self.nodes[n].leader.is_some() {
            self.stats.hit(Hit::SuggestedLate);
            self.input(n, Input::Tell(None, answer.event));
        } else {
            self.stats.hit(Hit::SuggestionLost);
        }
    }
}
