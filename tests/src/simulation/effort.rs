//! How much work one step of the machine may make: no more than what has changed asks for. A leader that
//! wrote a job's every record at each result, or asked every worker at each event, would be right in all it
//! says and still come to a stand at a hundred thousand trials.
//!
//! Records, removals, series and effects are counted, which is the same on every machine. Processor time is
//! looked at too, where somebody sets a bound.

use trainyard_coordinator::cluster::api::{Effect, Event, Step};

use super::batch::Batch;
use super::clock::cpu_ns;
use super::world::World;

/// Records that a step may write although nothing in them has changed, beyond one for each report: an
/// attempt that is looked at is written again where that puts an ended trial away.
const UNCHANGED: usize = 4;

/// Effects for each thing that has changed: a trial that is placed is told to each of its workers, and to
/// those who watch; a worker that comes is knocked at.
const EFFECTS_A_CHANGE: usize = 2;
const EFFECTS: usize = 8;

/// What an event asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Reports, lines and ranks that it tells of.
    told: usize,
    began_ns: u64,
}

impl World {
    /// What `event` asks for, before it is taken in.
    pub(super) fn asked_of(&self, event: &Event) -> Asked {
        let told = match event {
            Event::Reports { reports, .. } => reports.len(),
            Event::WorkerJoined { running, .. } => running.len(),
            Event::Logs { .. } => 1,
            _ => 0,
        };
        let began_ns = self.step_ns.map_or(0, |_| cpu_ns());
        Asked { told, began_ns }
    }

    /// Holds what was done against what was asked.
    pub(super) fn check_effort(&mut self, term: u64, asked: Asked, step: &Step, batch: &Batch) {
        if let Some(most) = self.step_ns {
            let spent = cpu_ns() - asked.began_ns;
            if spent > most {
                let message = format!(
                    "one step took {spent} ns of the processor's time, and {most} are allowed"
                );
                return self.violated(message);
            }
        }
        // What a deposed leader decides on is not what is stored.
        if term != self.store.term {
            return;
        }
        let changed = step.records.iter().filter(|record| {
            let key = record.key();
            let before = batch.records.get(&key).or_else(|| self.store.record(&key));
            before != Some(*record)
        });
        let changed = changed.count();
        let unchanged = step.records.len() - changed;
        let lines: usize = step.logs.iter().map(|log| log.lines.len()).sum();
        let series = step.points.len() + step.decisions.len() + lines;
        let changes = changed + step.removed.len() + series + asked.told;
        // A store is asked about once for each worker and job.
        // And a search is read once from its log.
        let probes =
            |effect: &&Effect| matches!(effect, Effect::Probe { .. } | Effect::Search { .. });
        let probes = step.effects.iter().filter(probes).count();
        let stores = self.plan.jobs.len() * (self.workers.len() + 1);
        let effects = step.effects.len() - probes;
        self.stats.most_unchanged = self
            .stats
            .most_unchanged
            .max((unchanged - unchanged.min(asked.told)) as u64);
        self.stats.most_effects = self
            .stats
            .most_effects
            .max((effects - effects.min(EFFECTS_A_CHANGE * changes)) as u64);
        if unchanged > asked.told + UNCHANGED
            || effects > EFFECTS_A_CHANGE * changes + EFFECTS
            || probes > stores
        {
            let message = format!(
                "one step writes {unchanged} records that have not changed beside {changed} that have, and has \
                 {effects} effects and {probes} probes: {asked:?}"
            );
            self.violated(message);
        }
    }
}
