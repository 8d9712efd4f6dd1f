//! Asks for what is computed beside the loop.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::api::Effect;
use crate::cluster::model::{Computation, Ticket};

impl Machine {
    /// Has something of the job's search computed beside the loop.
    pub(in crate::cluster) fn compute(&mut self, job: &JobId, ticket: Ticket, task: Computation) {
        self.draft.step.effects.push(Effect::Search {
            job: job.clone(),
            ticket,
            task,
        });
    }
}
