//! Asking attempts of lower priority to leave for jobs that do not fit beside them. The slots that they leave
//! are kept by `kept`; who may be asked at all is in `asking`.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::{AttemptRef, JobState, Vacate};
use crate::cluster::parts::Cause;
use crate::cluster::placing::reserve::MAX_RESERVED;
use crate::placement::Unplaced;
use crate::placement::choose::{Holder, choose};
use crate::placement::queue::{Ask, device_name};

/// Jobs at one time for which others have been asked to leave.
const MAX_PREEMPTING: usize = 64;

/// Gangs of one job for which others are asked to leave at one time.
const MAX_GANGS: usize = 16;

/// Who could not get others to leave is not tried again before this.
const TRY_AGAIN_MS: u64 = 1_000;

impl Machine {
    /// Asks attempts of lower priority to leave for jobs that do not fit beside them.
    pub(in crate::cluster) fn preempt(&mut self, full: &BTreeMap<Ask, Unplaced>) {
        let now = self.now;
        self.waits.forget_tried(now);
        let lowest = self.slots.lowest_priority();
        for priority in self.slots.queue().priorities() {
            if lowest.is_none_or(|lowest| lowest >= priority) || self.returning() {
                return;
            }
            let mut tried: BTreeSet<Ask> = BTreeSet::new();
            let mut others = true;
            while others && self.slots.all_kept().len() < MAX_RESERVED + MAX_PREEMPTING {
                let left_out = |ask: &Ask| {
                    let busy = full.get(ask) == Some(&Unplaced::Busy);
                    ask.kept.is_some() || !busy || tried.contains(ask)
                };
                let next = self.slots.queue().next_at(priority, left_out);
                others = next.is_some();
                if let Some((job, ask)) = next
                    && !self.preempt_for(&job, &ask, priority)
                {
                    tried.insert(ask);
                }
            }
        }
    }

    /// False: nobody left who could be asked.
    fn preempt_for(&mut self, job: &JobId, ask: &Ask, priority: i32) -> bool {
        let gate = (priority, ask.clone());
        if let Some(again) = self.waits.tried(&gate) {
            self.wake_at(again);
            return false;
        }
        let mut field = self.field(ask, false, |machine, at| {
            let started_ms = machine.started(at);
            machine.may_preempt(at, priority).then(|| Holder {
                importance: machine.importance(at),
                started_ms,
            })
        });
        let why = "others of lower priority were asked to leave";
        let mut gangs = 0;
        while gangs < self.gangs_wanted(job, ask)
            && let Some(choice) = choose(ask.ranks as usize, &field.seats, &field.holders)
        {
            gangs += 1;
            self.keep(job, ask, &choice.places, Cause::Preempts, why);
            for holder in &choice.holders {
                let at = field.attempts[*holder].clone();
                self.preempt_attempt(&at, job, ask, priority);
            }
            field
                .seats
                .retain(|seat| !choice.places.contains(&seat.place));
            for seat in &mut field.seats {
                seat.held = seat.held.filter(|held| !choice.holders.contains(held));
            }
        }
        if gangs == 0 {
            let again = self.now + TRY_AGAIN_MS;
            self.waits.try_again(gate, again);
            self.wake_at(again);
        }
        gangs > 0
    }

    fn preempt_attempt(&mut self, at: &AttemptRef, job: &JobId, ask: &Ask, priority: i32) {
        let (ranks, device) = (ask.ranks, device_name(ask.device));
        let theirs = self.importance(at);
        let reason = format!(
            "preempted for {job}, of priority {priority} over {theirs}, which needs {ranks} {device} slots"
        );
        self.vacate(at, Vacate::Preempt, &reason);
        self.change_trial(at, |trial| trial.preempted += 1);
    }

    /// Gangs that the job would start at once, within its workspace's quota.
    fn gangs_wanted(&self, job: &JobId, ask: &Ask) -> usize {
        let Some(found) = self.jobs.get(job) else {
            return 0;
        };
        if found.record.state == JobState::Evaluating {
            return 1;
        }
        let open = found.record.search_closed.is_none() && !found.is_logical();
        let suggestions = match found.expected() {
            Some(all) => (all as usize).saturating_sub(found.trials.len()),
            None => 1,
        };
        let promotions = usize::from(found.scheduler.promotable().is_some());
        let more = suggestions.max(promotions);
        let wanted = found.pending.len() + if open { more } else { promotions };
        let most = found.document.job().searcher.max_concurrent_trials;
        let most = most.map_or(usize::MAX, |most| most.max(1) as usize);
        let quota = self.slots.queue().room(&found.record.workspace, ask.device);
        let quota = quota.map_or(usize::MAX, |room| (room / ask.ranks.max(1)) as usize);
        let wanted = wanted.min(most.saturating_sub(found.running.len()));
        wanted.min(quota).min(MAX_GANGS)
    }
}
