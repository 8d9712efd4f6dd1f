//! What is held against the machine's own view: free slots beside work that waits, and a machine that
//! is restored from the same records.

use std::collections::BTreeMap;

use trainyard_common::ids::Term;
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::{WorkerState, WorkerSummary, WorkspaceSummary};
use trainyard_coordinator::cluster::model::{JobState, JobSummary};
use trainyard_coordinator::cluster::view::pages::Most;

use super::jobs::{is_program, variant_of};
use super::stats::Hit;
use super::store::JobView;
use super::world::{World, config};

/// One of so many turns compares the machine with a restored one.
const RESTORE_ONE_IN: u64 = 60;

/// Once faults have ended, within this everybody is back and nothing is drained any more.
const HEALED_MS: u64 = 30_000;

impl World {
    /// Looks at a machine all of whose decisions are committed.
    pub(super) fn look(&mut self, n: usize) {
        let Some(leader) = &self.nodes[n].leader else {
            return;
        };
        if leader.term != self.store.term {
            return;
        }
        // Who is about to find out what comes next has nothing to do until then.
        let jobs = self.store.jobs.values();
        let mut jobs = jobs.filter(|job| !leader.machine.computes(&job.record.job));
        let idle = jobs.find_map(idle_logical);
        if let Some(message) = idle {
            return self.violated(message);
        }
        let Some(leader) = &self.nodes[n].leader else {
            return;
        };
        let cluster = leader.machine.cluster();
        if self.calm {
            self.check_waits(n);
        }
        if cluster.slots_used < cluster.slots_total && cluster.jobs_active > 0 {
            self.stats.looked += 1;
            self.check_idle(n);
        }
        if self.unlucky(RESTORE_ONE_IN) {
            self.check_restored(n);
        }
    }

    /// No slot is free while work that fits waits.
    fn check_idle(&mut self, n: usize) {
        let Some(clock) = self.decided_at(n) else {
            return;
        };
        let Some(leader) = &self.nodes[n].leader else {
            return;
        };
        // The cheap question first: mostly nothing waits.
        let jobs = self.store.jobs.values();
        let wanted: Vec<(&JobView, u32)> = jobs
            .filter_map(|job| {
                let (machine, name) = (&leader.machine, &job.record.job);
                let busy = (machine.computes(name), machine.chooses(name));
                Some((job, waiting(job, clock, busy)?))
            })
            .collect();
        if wanted.is_empty() {
            return;
        }
        let shares = leader.machine.workspaces();
        let wants = wanted
            .iter()
            .filter(|want| !withheld(want, &wanted, &shares));
        // What a program waits for, and what the built-in trainer does.
        let mut least: BTreeMap<bool, u32> = BTreeMap::new();
        for (job, slots) in wants {
            let least = least.entry(is_program(&job.record.job)).or_insert(*slots);
            *least = (*least).min(*slots);
        }
        let workers = leader.machine.workers();
        if let Some(job) = untold(&wanted, &workers) {
            let job = &job.record.job;
            return self.violated(format!(
                "{job} waits for a worker that runs programs, and does not say so"
            ));
        }
        if workers.iter().any(|worker| worker.slots_kept > 0) {
            self.stats.hit(Hit::SlotsKept);
        }
        let Some(leader) = &self.nodes[n].leader else {
            return;
        };
        let mut idle = least.into_iter().map(|(programs, least)| {
            let mut free: BTreeMap<&str, u32> = BTreeMap::new();
            for worker in &workers {
                let ready = worker.state == WorkerState::Ready && (worker.programs || !programs);
                if ready && leader.proven.contains(&worker.worker) {
                    let slots = worker.devices.len() as u32 - worker.slots_used - worker.slots_kept;
                    *free.entry(&worker.cpu_kind).or_default() += slots;
                }
            }
            (free.values().max().copied().unwrap_or(0), least)
        });
        let Some((most, least)) = idle.find(|(most, least)| most >= least) else {
            return;
        };
        let jobs = leader.machine.jobs();
        let message = format!(
            "{most} slots are free at {clock} while work for {least} waits: {:?}; {jobs:?}; {:?}",
            self.store
                .jobs
                .values()
                .map(|job| &job.pending)
                .collect::<Vec<_>>(),
            leader.machine.workers()
        );
        self.violated(message);
    }

    /// Nobody who fits waits for longer than is promised, once nothing goes wrong any more.
    fn check_waits(&mut self, n: usize) {
        let (Some(clock), config) = (self.decided_at(n), config(false)) else {
            return;
        };
        let peace = self.calm_since + self.nodes[n].offset_ms + HEALED_MS;
        let since = |job: &JobView| job.record.waiting_since_ms;
        for job in self.store.jobs.values() {
            let Some(began) = since(job).filter(|_| !job.record.state.ended()) else {
                continue;
            };
            let before = self.store.jobs.values().filter_map(since);
            let before = before.filter(|other| *other < began).count() as u64;
            let each = config.reserve_ms + config.vacate_ms + config.lease_ms;
            let bound = config.gang_wait_ms + (before + 1) * each;
            let waited = clock.saturating_sub(began.max(peace));
            if waited > bound {
                let job = &job.record.job;
                let message = format!(
                    "{job} has waited for {waited} ms behind {before} others, and {bound} are promised"
                );
                return self.violated(message);
            }
        }
    }

    /// A machine that is restored now answers every query alike.
    pub(super) fn check_restored(&mut self, n: usize) {
        let Some(leader) = &self.nodes[n].leader else {
            return;
        };
        let (term, clock) = (leader.term, self.clock(n));
        let records = self.store.records().cloned();
        let restored = match Machine::restore(Term(term), config(self.plan.late), clock, records) {
            Ok(restored) => restored,
            Err(error) => return self.violated(format!("not restored: {error}")),
        };
        self.stats.restored += 1;
        let jobs = settled(&leader.machine);
        let other = settled(&restored);
        let archived = |machine: &Machine| machine.jobs_page(u64::MAX, "", true, Most::ALL).entries;
        if archived(&restored) != archived(&leader.machine) {
            return self.violated("restored archived jobs differ".to_owned());
        }
        let differs = other.iter().zip(&jobs).find(|(a, b)| a != b);
        if differs.is_some() || other.len() != jobs.len() {
            return self.violated(format!("restored jobs differ: {differs:#?}"));
        }
        for job in jobs {
            if restored.trials(&job.job) != leader.machine.trials(&job.job) {
                let message = format!(
                    "restored trials of {} differ: {:?} {:?}",
                    job.job,
                    restored.trials(&job.job),
                    leader.machine.trials(&job.job)
                );
                return self.violated(message);
            }
        }
    }
}

/// The jobs, whatever their searchers compute at present.
fn settled(machine: &Machine) -> Vec<JobSummary> {
    let mut jobs = machine.jobs();
    jobs.iter_mut().for_each(|job| job.working.clear());
    jobs
}

/// The slots that the job would take at once, if some work of it waits. `computes`: its next trial is being found;
/// `chooses`: or what those that wait go on with.
fn waiting(job: &JobView, clock: u64, (computes, chooses): (bool, bool)) -> Option<u32> {
    let variant = variant_of(&job.record.job)?;
    match job.record.state {
        JobState::Pending | JobState::Running => {}
        JobState::Evaluating => {
            let judged = job.record.evaluation.as_ref()?;
            let idle = !job.living.contains_key(&judged.trial);
            return (idle && judged.retry_at_ms <= clock).then_some(1);
        }
        _ => return None,
    }
    let resumes = job.pending.values().any(|retry_at| *retry_at <= clock);
    if variant.job().logical_time {
        // What its logical workers do not run waits for them, not for slots.
        return resumes.then_some(variant.ranks);
    }
    let most = variant.job().searcher.max_concurrent_trials;
    let under_way = (job.pending.len() + job.running.len()) as u32;
    let room = most.is_none_or(|most| under_way < most.max(1));
    let admits = || job.decisions.scheduler.admits();
    let begins = || !computes && job.record.search_closed.is_none() && admits();
    let goes_on = || begins() || (!chooses && promotable(job));
    (resumes || (room && goes_on())).then_some(variant.ranks)
}

/// A job that waits since every worker refuses programs, and has no note.
fn untold<'a>(wanted: &[(&'a JobView, u32)], workers: &[WorkerSummary]) -> Option<&'a JobView> {
    let nobody = !workers.is_empty() && workers.iter().all(|worker| !worker.programs);
    let mut jobs = wanted.iter().map(|(job, _)| *job);
    jobs.find(|job| {
        let waits = is_program(&job.record.job) && job.living.is_empty();
        nobody && waits && job.record.note.is_empty()
    })
}

/// Whether a quota keeps the job from its slots; what is left of one may be meant for a gang that came
/// before.
fn withheld(
    (job, slots): &(&JobView, u32),
    wanted: &[(&JobView, u32)],
    shares: &[WorkspaceSummary],
) -> bool {
    let workspace = &job.record.workspace;
    let mut shares = shares.iter();
    let share = shares.find(|share| share.workspace == *workspace);
    let Some((most, used)) = share.and_then(|s| Some((s.max_cpu_slots?, s.cpu_slots_used))) else {
        return false;
    };
    let mut others = wanted.iter();
    used + slots > most
        || others.any(|(other, more)| other.record.workspace == *workspace && used + more > most)
}

/// Whether a trial is to go on from its rung that nobody holds.
fn promotable(job: &JobView) -> bool {
    let next = job.decisions.scheduler.promotable();
    next.is_some_and(|next| job.paused.contains(&next.trial))
}

/// Whether a logical worker has nothing to do although there is something.
fn idle_logical(job: &JobView) -> Option<String> {
    let spec = variant_of(&job.record.job)?.job();
    let searches = matches!(job.record.state, JobState::Pending | JobState::Running);
    let workers = spec.logical_workers.filter(|_| searches)?;
    let next = job.decisions.scheduler.promotable();
    let more = next.is_some() || job.record.search_closed.is_none();
    (more && job.stints.len() < workers as usize).then(|| {
        format!(
            "{} has {workers} logical workers and stints {:?} while {next:?} or a new trial waits",
            job.record.job, job.stints
        )
    })
}
