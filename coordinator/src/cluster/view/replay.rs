//! Replaying a search log: the same spec, seed and log lead to the same suggestions and decisions, or it
//! is told where they do not. A restart relies on it; anybody may check it.
//!
//! The scheduler's part is a step for each entry and says what the searcher is told; what that takes may be long,
//! and is done wherever there is time for it.

use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::{Document, JobSpec, Params};

use crate::cluster::model::{Awake, Check, SearchEntry, SearchTask, Told};
use crate::schedule::Scheduler;
use crate::search::Searcher;

/// What a log that replays is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub suggestions: u32,
    pub results: u32,
    /// Results at rungs.
    pub rungs: u32,
    pub promotions: u32,
    pub extensions: u32,
}

impl Tally {
    fn count(&mut self, entry: &SearchEntry) {
        match entry {
            SearchEntry::Suggested { .. } => self.suggestions += 1,
            SearchEntry::Observed(_) => self.results += 1,
            SearchEntry::Rung { .. } => self.rungs += 1,
            SearchEntry::Promoted { .. } => self.promotions += 1,
            SearchEntry::Extended { .. } => self.extensions += 1,
            SearchEntry::Asked { .. }
            | SearchEntry::Exhausted
            | SearchEntry::Closed
            | SearchEntry::Retried { .. } => {}
        }
    }
}

/// Replays a job's whole log into a fresh searcher and a fresh scheduler. `params` are those that trials
/// were given.
///
/// # Errors
/// Which entry would be decided otherwise, and how.
pub fn verify<'a>(
    spec: &JobSpec,
    log: impl IntoIterator<Item = &'a SearchEntry>,
    params: impl Fn(TrialId) -> Option<&'a Params>,
) -> Result<Tally, String> {
    let searcher = Searcher::of(spec);
    let mut searcher = searcher.map_err(|error| error.to_string())?;
    let mut log_read = Reading::of(spec, Check::All);
    for entry in log {
        if let Some(told) = log_read.next(entry, &params)? {
            told.tell(&mut searcher, Check::All)?;
        }
    }
    Ok(log_read.tally)
}

/// A job's search as its log tells it, for as little work as that takes. `params` are those that trials were given.
///
/// # Errors
/// Which entry would be decided otherwise, and how.
pub fn awake<'a>(
    document: &Arc<Document>,
    log: impl IntoIterator<Item = &'a SearchEntry>,
    params: impl Fn(TrialId) -> Option<&'a Params>,
) -> Result<Awake, String> {
    let read = read(document.job(), log, params)?;
    let task = SearchTask::load(Arc::clone(document), read.told);
    Ok(Awake {
        thought: task.run()?,
        scheduler: read.scheduler,
        entries: read.entries,
    })
}

/// A log that was read: the scheduler as it is at its end, and what the searcher is told.
pub(in crate::cluster) struct Read {
    pub(in crate::cluster) scheduler: Scheduler,
    pub(in crate::cluster) told: Vec<Told>,
    /// Entries of the log.
    entries: u32,
}

/// Reads a job's log. `params` are those that trials were given.
///
/// # Errors
/// Which entry the scheduler would decide otherwise, and how.
pub(in crate::cluster) fn read<'a>(
    spec: &JobSpec,
    log: impl IntoIterator<Item = &'a SearchEntry>,
    params: impl Fn(TrialId) -> Option<&'a Params>,
) -> Result<Read, String> {
    let (mut reading, mut told) = (Reading::of(spec, Check::Adopt), Vec::new());
    for entry in log {
        told.extend(reading.next(entry, &params)?);
    }
    Ok(Read {
        entries: u32::try_from(reading.entries).unwrap_or(u32::MAX),
        scheduler: reading.scheduler,
        told,
    })
}

/// How far a log was read.
struct Reading {
    scheduler: Scheduler,
    check: Check,
    /// The searcher was asked for this trial and it has not begun.
    asked: Option<TrialId>,
    entries: usize,
    tally: Tally,
}

impl Reading {
    fn of(spec: &JobSpec, check: Check) -> Self {
        Self {
            check,
            scheduler: Scheduler::of(spec),
            asked: None,
            entries: 0,
            tally: Tally::default(),
        }
    }

    /// Takes the next entry in: what the searcher is told of it.
    fn next<'a>(
        &mut self,
        entry: &SearchEntry,
        params: impl Fn(TrialId) -> Option<&'a Params>,
    ) -> Result<Option<Told>, String> {
        let index = self.entries;
        self.entries += 1;
        self.tally.count(entry);
        let told = self.step(index, entry, params);
        told.map_err(|reason| format!("the search log does not replay: entry {index}: {reason}"))
    }

    fn step<'a>(
        &mut self,
        index: usize,
        entry: &SearchEntry,
        params: impl Fn(TrialId) -> Option<&'a Params>,
    ) -> Result<Option<Told>, String> {
        let scheduler = &mut self.scheduler;
        Ok(match entry {
            SearchEntry::Asked { trial } => {
                self.asked = Some(*trial);
                Some(asked(scheduler, *trial, index, params(*trial)))
            }
            SearchEntry::Suggested { trial } => {
                let missing = || format!("trial {trial} was suggested and has no record");
                let known = params(*trial).ok_or_else(missing)?;
                let now = self.asked.take() != Some(*trial);
                let told = now.then(|| asked(scheduler, *trial, index, Some(known)));
                scheduler.begun(*trial, known);
                told
            }
            SearchEntry::Exhausted => {
                self.asked = None;
                Some(Told::Exhausted)
            }
            SearchEntry::Retried { .. } => None,
            SearchEntry::Closed => {
                scheduler.close();
                None
            }
            SearchEntry::Extended { trials } => {
                scheduler.reopen();
                Some(Told::Extended { trials: *trials })
            }
            SearchEntry::Observed(observation) => {
                let value = observation.outcome.value();
                scheduler.ended_with(observation.trial, value, &observation.values);
                Some(Told::Observed(observation.clone()))
            }
            SearchEntry::Rung {
                trial,
                rung,
                value,
                resource,
                values,
            } => {
                let resource = resource.or_else(|| scheduler.until(*trial)).unwrap_or(0);
                reached(scheduler, (*trial, *rung), resource, *value, values)?;
                Some(Told::Reached {
                    trial: *trial,
                    resource,
                    value: *value,
                })
            }
            SearchEntry::Promoted {
                trial,
                rung,
                params,
            } => {
                promoted(scheduler, (*trial, *rung), params.as_ref(), self.check)?;
                Some(Told::Promoted { trial: *trial })
            }
        })
    }
}

fn asked(scheduler: &Scheduler, trial: TrialId, index: usize, known: Option<&Params>) -> Told {
    Told::Asked {
        trial,
        first_resource: scheduler.first_resource(),
        known: known.map(|params| (index, params.clone())),
    }
}

fn reached(
    scheduler: &mut Scheduler,
    (trial, rung): (TrialId, u32),
    resource: u64,
    value: Option<f64>,
    values: &[f64],
) -> Result<(), String> {
    let known = scheduler.reaches(trial, resource);
    if known != Some(rung) {
        return Err(format!(
            "trial {trial} reached rung {rung}, and this version of the scheduler has it on the way to \
             {known:?}"
        ));
    }
    scheduler.reached_with(trial, resource, value, values);
    Ok(())
}

fn promoted(
    scheduler: &mut Scheduler,
    (trial, rung): (TrialId, u32),
    params: Option<&Params>,
    check: Check,
) -> Result<(), String> {
    let next = scheduler.promotable();
    let next = next.map(|next| (next.trial, next.rung));
    if next != Some((trial, rung)) {
        return Err(format!(
            "trial {trial} was promoted from rung {rung}, and this version of the scheduler promotes {next:?}"
        ));
    }
    if let (Check::Adopt, Some(params)) = (check, params) {
        scheduler.adopt(params.clone());
    }
    let promotion = scheduler.promote(trial);
    let chosen = promotion.and_then(|promotion| promotion.params);
    if params.is_some() && params != chosen.as_ref() {
        return Err(format!(
            "trial {trial} went on from rung {rung} with {params:?}, and this version of the scheduler chooses \
             {chosen:?}"
        ));
    }
    Ok(())
}
