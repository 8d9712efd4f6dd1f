//! Why jobs wait: the note that people see.

use std::collections::BTreeMap;

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::{JobState, Proof, Worker};
use crate::placement::queue::{Ask, Queued, device_name};
use crate::placement::{Needs, Unplaced};

/// Proofs of a store that fail in a row on every worker before a job that has not begun fails.
const MAX_PROOFS: u32 = 5;

/// What people can do where every worker refuses programs.
const NO_PROGRAMS: &str = "no worker runs programs: start one with --programs allow";

impl Machine {
    /// Tells the jobs that have changed why they wait, and all of them where the workers have changed.
    pub(in crate::cluster) fn tell_waiting(&mut self, full: &BTreeMap<Ask, Unplaced>, all: bool) {
        let untold = std::mem::take(&mut self.untold);
        let jobs: Vec<JobId> = match all {
            true => self
                .slots
                .queue()
                .jobs()
                .map(|(job, _)| job.clone())
                .collect(),
            false => untold.into_iter().collect(),
        };
        // The same for all who ask for the same.
        let mut unfit: BTreeMap<Ask, String> = BTreeMap::new();
        for job in jobs {
            let Some(queued) = self.slots.queue().get(&job).cloned() else {
                continue;
            };
            if let Some(why) = self.withheld(&queued) {
                self.note(&job, &why);
            } else {
                match full.get(&queued.ask) {
                    Some(Unplaced::Busy) => self.waits_for_slots(&job, &queued.ask),
                    Some(Unplaced::TooLarge { largest }) => {
                        self.does_not_fit(&job, &queued.ask, *largest, &mut unfit);
                    }
                    // In its line, but behind one for whom the quota is kept.
                    None if queued.ask.kept.is_none() => {
                        let why = format!("waits its turn in workspace {}", queued.workspace);
                        self.note(&job, &why);
                    }
                    None => {}
                }
            }
            self.set_since(&job, &queued, full);
        }
    }

    /// Counts from when a job waits for what others have; not while it could never have it, as far as can be
    /// told once workers have come back to a new leader.
    fn set_since(&mut self, job: &JobId, queued: &Queued, full: &BTreeMap<Ask, Unplaced>) {
        let fits = !matches!(full.get(&queued.ask), Some(Unplaced::TooLarge { .. }));
        let fits = fits || self.now < self.returned_ms;
        let most = self.slots.queue().terms(&queued.workspace).most[queued.ask.device];
        let may = most.is_none_or(|most| most >= queued.ask.ranks);
        let Some(found) = self
            .jobs
            .get(job)
            .filter(|_| self.slots.queue().get(job).is_some())
        else {
            return;
        };
        let since = found.record.waiting_since_ms.unwrap_or(self.now);
        self.set_waiting_since(job, (fits && may).then_some(since));
    }

    /// Why the job's workspace may not take what it asks for.
    fn withheld(&self, queued: &Queued) -> Option<String> {
        let (workspace, ask) = (&queued.workspace, &queued.ask);
        let most = self.slots.queue().terms(workspace).most[ask.device]?;
        let (ranks, device) = (ask.ranks, device_name(ask.device));
        if most < ranks {
            return Some(format!(
                "needs {ranks} {device} slots at one time; the quota of workspace {workspace} is {most}"
            ));
        }
        (!self.slots.queue().may_take(workspace, ask)).then(|| {
            format!(
                "waits for {ranks} {device} slots of the quota of workspace {workspace}, which is {most}"
            )
        })
    }

    fn does_not_fit(
        &mut self,
        job: &JobId,
        ask: &Ask,
        largest: usize,
        unfit: &mut BTreeMap<Ask, String>,
    ) {
        if let Some(error) = self.unusable_store(job, &ask.needs) {
            self.stop_job(job, JobState::Failed, error);
            return;
        }
        let why = unfit
            .entry(ask.clone())
            .or_insert_with(|| self.unfit(ask, largest))
            .clone();
        self.note(job, &why);
    }

    /// Why a job that has not begun will not find its store: every worker has tried it often.
    fn unusable_store(&self, job: &JobId, needs: &Needs) -> Option<String> {
        if self.jobs.get(job)?.record.started_ms > 0 {
            return None;
        }
        let url = &needs.store;
        let mut last = None;
        for worker in self.connected_for(needs.programs) {
            match worker.stores.get(url) {
                Some(Proof::Failed { error, tries, .. }) if *tries >= MAX_PROOFS => {
                    last = Some(format!(
                        "checkpoint_storage.url: worker {} could not use the store {url} in {tries} \
                         tries: {error}",
                        worker.info.worker
                    ));
                }
                _ => return None,
            }
        }
        last
    }

    /// Connected workers that take jobs of programs, or all.
    fn connected_for(&self, programs: bool) -> impl Iterator<Item = &Worker> {
        let connected = self.workers.values().filter(|w| w.session.is_some());
        connected.filter(move |worker| worker.may_serve(programs))
    }

    /// Why nothing of a job of programs will be placed, if there are workers and none of them runs any.
    pub(in crate::cluster) fn no_programs(&self, programs: bool) -> Option<&'static str> {
        let none = self.connected_for(programs).next().is_none();
        let others = self.connected_for(false).next().is_some();
        (none && others).then_some(NO_PROGRAMS)
    }

    fn unfit(&self, ask: &Ask, largest: usize) -> String {
        let (ranks, device, url) = (ask.ranks, device_name(ask.device), &ask.needs.store);
        let programs = ask.needs.programs;
        if let Some(why) = self.no_programs(programs) {
            return why.to_owned();
        }
        let connected = || self.connected_for(programs);
        let failed = connected().find_map(|worker| match worker.stores.get(url) {
            Some(Proof::Failed { error, .. }) => Some(format!(
                "worker {} cannot use the store {url}: {error}",
                worker.info.worker
            )),
            _ => None,
        });
        let asked =
            connected().any(|worker| matches!(worker.stores.get(url), Some(Proof::Asked { .. })));
        if connected().next().is_none() {
            "no worker is connected".to_owned()
        } else if let Some(failed) = failed {
            failed
        } else if asked {
            format!("waits until workers have proven that they share the store {url}")
        } else {
            let which = match self.connected_for(false).count() > connected().count() {
                true => "the workers that run programs",
                false => "the workers",
            };
            format!("needs {ranks} {device} slots on one kind of processor; {which} have {largest}")
        }
    }
}
