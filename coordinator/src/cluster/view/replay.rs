//! Replaying a search log: the same spec, seed and log lead to the same suggestions and decisions, or it
//! is told where they do not. A restart relies on it; anybody may check it.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::{Document, JobSpec, Params};

use crate::cluster::model::{Awake, SearchEntry};
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
            SearchEntry::Exhausted | SearchEntry::Closed | SearchEntry::Retried { .. } => {}
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
    replay(
        &mut searcher,
        &mut Scheduler::of(spec),
        log,
        params,
        Check::All,
    )
}

/// A job's search as its log tells it, for as little work as that takes. `params` are those that trials were given.
///
/// # Errors
/// Which entry would be decided otherwise, and how.
pub fn awake<'a>(
    document: &Document,
    log: impl IntoIterator<Item = &'a SearchEntry>,
    params: impl Fn(TrialId) -> Option<&'a Params>,
) -> Result<Awake, String> {
    let job = document.job();
    let searcher = Searcher::over(job, document.space().clone());
    let mut awake = Awake {
        searcher: searcher.map_err(|error| error.to_string())?,
        scheduler: Scheduler::of(job),
        entries: 0,
    };
    let mut entries = 0;
    let counted = log.into_iter().inspect(|_| entries += 1);
    let (searcher, scheduler) = (&mut awake.searcher, &mut awake.scheduler);
    replay(searcher, scheduler, counted, params, Check::Adopt)?;
    awake.entries = entries;
    Ok(awake)
}

/// How a log is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Every suggestion is found anew and compared.
    All,
    /// What a model proposed is taken from the log, so that a coordinator is soon there again.
    Adopt,
}

/// As [`verify`], into these, which decide what comes next afterwards.
fn replay<'a>(
    searcher: &mut Searcher,
    scheduler: &mut Scheduler,
    log: impl IntoIterator<Item = &'a SearchEntry>,
    params: impl Fn(TrialId) -> Option<&'a Params>,
    check: Check,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (index, entry) in log.into_iter().enumerate() {
        step(searcher, scheduler, entry, &params, check)
            .map_err(|reason| format!("the search log does not replay: entry {index}: {reason}"))?;
        tally.count(entry);
    }
    Ok(tally)
}

fn step<'a>(
    searcher: &mut Searcher,
    scheduler: &mut Scheduler,
    entry: &SearchEntry,
    params: impl Fn(TrialId) -> Option<&'a Params>,
    check: Check,
) -> Result<(), String> {
    match entry {
        SearchEntry::Suggested { trial } => {
            let known = params(*trial);
            let first_resource = scheduler.first_resource();
            let suggestion = match (check, known) {
                (Check::Adopt, Some(known)) => searcher.adopt(*trial, first_resource, known),
                _ => searcher.suggest(*trial, first_resource),
            };
            match suggestion {
                Some(params) if Some(&params) == known => {
                    scheduler.begun(*trial, &params);
                }
                other => {
                    return Err(format!(
                        "trial {trial} was given {known:?}, and this version of the searcher \
                         proposes {other:?}"
                    ));
                }
            }
        }
        SearchEntry::Exhausted | SearchEntry::Retried { .. } => {}
        SearchEntry::Closed => {
            scheduler.close();
        }
        SearchEntry::Extended { trials } => {
            searcher.extend(*trials);
            scheduler.reopen();
        }
        SearchEntry::Observed(observation) => {
            searcher.observe(observation);
            let value = observation.outcome.value();
            scheduler.ended_with(observation.trial, value, &observation.values);
        }
        SearchEntry::Rung {
            trial,
            rung,
            value,
            resource,
            values,
        } => {
            let resource = resource.or_else(|| scheduler.until(*trial)).unwrap_or(0);
            let known = scheduler.reaches(*trial, resource);
            if known != Some(*rung) {
                return Err(format!(
                    "trial {trial} reached rung {rung}, and this version of the scheduler has it on \
                     the way to {known:?}"
                ));
            }
            searcher.reached(*trial, resource, *value);
            scheduler.reached_with(*trial, resource, *value, values);
        }
        SearchEntry::Promoted { trial, rung } => {
            let next = scheduler.promotable();
            let next = next.map(|next| (next.trial, next.rung));
            if next != Some((*trial, *rung)) {
                return Err(format!(
                    "trial {trial} was promoted from rung {rung}, and this version of the scheduler \
                     promotes {next:?}"
                ));
            }
            scheduler.promote(*trial);
            searcher.promoted(*trial);
        }
    }
    Ok(())
}
