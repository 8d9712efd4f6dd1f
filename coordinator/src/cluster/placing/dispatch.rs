//! Giving free slots to trials, in the order of `crate::placement::queue`.
//!
//! A turn looks at the jobs that have changed and at the heads of the lines: what asks for the same and does
//! not fit is tried once. Who waits for what, and what is kept for whom, is in `waiting` and `reserve`.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, WorkerId};

use crate::cluster::Machine;
use crate::cluster::placing::want::Want;
use crate::placement::queue::{Ask, Queued};
use crate::placement::{DEVICES, Needs, Place, Unplaced, at};

/// Turns after one event: what one turn lets go, the next one gives away.
const MAX_TURNS: usize = 4;

impl Machine {
    /// Places all that can be placed now.
    pub(in crate::cluster) fn dispatch(&mut self) {
        for _ in 0..MAX_TURNS {
            if !self.dirty {
                break;
            }
            self.dirty = false;
            self.turn();
        }
    }

    fn turn(&mut self) {
        let changed = std::mem::take(&mut self.workers_changed);
        for job in self.changed_jobs() {
            self.line_up(&job);
        }
        self.check_kept(changed);
        let mut full: BTreeMap<Ask, Unplaced> = BTreeMap::new();
        while let Some((job, ask)) = self.slots.queue().next(|ask| full.contains_key(ask)) {
            self.ask_proofs(&job, &ask);
            match self.slots.find(&job, &ask) {
                Ok(places) => self.use_places(&job, &ask, &places),
                Err(why) => {
                    if matches!(why, Unplaced::TooLarge { .. }) {
                        // It would keep others of its workspace from what it cannot use.
                        self.slots.queue_mut().end_hold(&job);
                    }
                    full.insert(ask, why);
                }
            }
        }
        self.preempt(&full);
        self.reserve(&full);
        self.ask_holders();
        self.tell_waiting(&full, changed);
    }

    /// Jobs of which something has changed since the last turn.
    fn changed_jobs(&mut self) -> BTreeSet<JobId> {
        let mut changed = std::mem::take(&mut self.touched);
        self.draft.touch(&mut changed);
        changed
    }

    /// Puts a job in the line in which it belongs, or in none.
    pub(in crate::cluster) fn line_up(&mut self, job: &JobId) {
        self.logical_turn(job);
        let Some(want) = self.want(job) else {
            self.step_out(job);
            return;
        };
        let ask = self.ask_of(job, want);
        if self
            .slots
            .kept(job)
            .is_some_and(|kept| kept.ranks != ask.ranks)
        {
            self.let_go(job);
        }
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let queued = Queued {
            priority: found.record.priority,
            ask: self.ask_of(job, want),
            workspace: found.record.workspace.clone(),
            number: found.record.number,
        };
        let since = found.record.waiting_since_ms;
        self.slots.queue_mut().put(job, queued);
        self.set_waiting_since(job, since);
        self.untold.insert(job.clone());
    }

    fn ask_of(&self, job: &JobId, want: Want) -> Ask {
        let kept = self.slots.kept(job).is_some().then(|| job.clone());
        let Some(found) = self.jobs.get(job) else {
            let needs = Needs {
                store: String::new(),
                programs: false,
            };
            return Ask {
                needs,
                device: 0,
                ranks: 1,
                kept,
            };
        };
        let resources = &found.document.job().resources;
        Ask {
            needs: found.needs(),
            device: at(resources.device),
            // One rank can judge.
            ranks: match want {
                Want::Judge(_) => 1,
                _ => resources.slots_per_trial.max(1),
            },
            kept,
        }
    }

    fn ask_proofs(&mut self, job: &JobId, ask: &Ask) {
        let device = DEVICES[ask.device];
        let unasked = self.slots.index().unasked(&ask.needs, device);
        let unasked: Vec<WorkerId> = unasked.cloned().collect();
        for worker in unasked {
            self.ask_proof(&worker, &ask.needs.store, job);
        }
    }

    /// Uses the places, and puts the job where it belongs afterwards.
    fn use_places(&mut self, job: &JobId, ask: &Ask, places: &[Place]) {
        let Some(want) = self.want(job) else {
            self.step_out(job);
            return;
        };
        if self.ask_of(job, want) != *ask {
            self.line_up(job);
        } else if self.start(job, want, places) {
            if places.iter().any(|place| self.is_held(place)) {
                self.use_kept(job, places);
            }
            // The next one of its trials waits anew.
            self.slots.queue_mut().take_out(job);
            self.line_up(job);
        } else {
            self.step_out(job);
        }
    }

    fn is_held(&self, place: &Place) -> bool {
        let worker = self.workers.get(&place.worker);
        let slot = worker.and_then(|worker| worker.slots.get(place.slot as usize));
        slot.is_some_and(Option::is_some)
    }
}
