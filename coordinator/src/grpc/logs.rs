//! `StreamLogs`: the stored lines, then new ones as they are stored; no gap, no line twice.
//!
//! Every line comes from the store by its number. News only say that it is worth looking again, so
//! neither a slow reader nor a lost notice can lose a line.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::LogLine;

use super::status::ApiError;
use super::watch::stopped;
use crate::driver::series::decode_line;
use crate::driver::{DriverHandle, Watcher};
use crate::store::{Series, SeriesKind};

/// Lines that are read from the store, and held for one reader, at a time.
const SCAN_CHUNK: usize = 256;

/// Which lines a client wants.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) job: JobId,
    /// All trials when unset.
    pub(super) trial: Option<TrialId>,
    /// Go on until the trials have ended.
    pub(super) follow: bool,
    /// Only lines numbered above this, in each trial.
    pub(super) after: u64,
}

/// The stream, or why there is none.
pub(super) async fn open(
    driver: DriverHandle,
    query: Query,
) -> Result<impl Stream<Item = Result<LogLine, Status>>, ApiError> {
    let watcher = driver.watch(&query.job)?;
    let mut scope = Scope::read(&driver, &query).await?;
    Ok(async_stream::try_stream! {
        // For each trial the number of the last line that was told.
        let mut told: BTreeMap<TrialId, u64> = BTreeMap::new();
        let mut fresh = scope.trials.clone();
        loop {
            for trial in fresh {
                let after = told.entry(trial).or_insert(query.after);
                loop {
                    let lines = chunk(&driver, &query.job, trial, *after).await?;
                    let Some(last) = lines.last() else { break };
                    *after = last.sequence;
                    for line in lines {
                        yield line;
                    }
                }
            }
            // `ended` was read before the lines: none of them came after the end.
            if !query.follow || scope.ended {
                break;
            }
            let news = next(&driver, &watcher, &query).await?;
            scope = Scope::read(&driver, &query).await?;
            fresh = if scope.ended { scope.trials.clone() } else { news };
        }
    })
}

/// Waits for the next news; the trials of the query that have new lines.
async fn next(
    driver: &DriverHandle,
    watcher: &Watcher,
    query: &Query,
) -> Result<BTreeSet<TrialId>, Status> {
    let changes = tokio::select! {
        biased;
        () = driver.closing().cancelled() => return Err(stopped()),
        changes = watcher.next() => changes,
    };
    Ok(match query.trial {
        Some(only) => changes.logs.into_iter().filter(|t| *t == only).collect(),
        None => changes.logs,
    })
}

/// The trials whose lines are wanted, and whether all of them have ended.
struct Scope {
    trials: BTreeSet<TrialId>,
    ended: bool,
}

impl Scope {
    async fn read(driver: &DriverHandle, query: &Query) -> Result<Self, ApiError> {
        let (job, only) = (query.job.clone(), query.trial);
        let found = driver
            .read(move |machine| {
                let summary = machine.job(&job)?;
                Some(match only {
                    Some(trial) => {
                        let state = machine.trial(&job, trial).map(|trial| trial.state);
                        (BTreeSet::from([trial]), state.map(|state| state.ended()))
                    }
                    None => {
                        // Trials are numbered without gaps.
                        let ids = (0..summary.trials.total()).map(TrialId).collect();
                        (ids, Some(summary.state.ended()))
                    }
                })
            })
            .await?;
        let (trials, ended) = found.ok_or_else(|| ApiError::NoJob(query.job.clone()))?;
        match (ended, query.trial) {
            (Some(ended), _) => Ok(Self { trials, ended }),
            (None, trial) => Err(ApiError::NoTrial {
                job: query.job.clone(),
                trial: trial.unwrap_or_default(),
            }),
        }
    }
}

async fn chunk(
    driver: &DriverHandle,
    job: &JobId,
    trial: TrialId,
    after: u64,
) -> Result<Vec<LogLine>, ApiError> {
    let series = Series {
        kind: SeriesKind::Logs,
        job: job.clone(),
        trial,
    };
    let items = driver.scan(&series, after, SCAN_CHUNK).await?;
    let lines = items.iter().map(|item| {
        let line = decode_line(item)?;
        Ok(LogLine {
            sequence: item.sequence,
            trial_id: trial.0,
            attempt: line.attempt,
            rank: line.rank,
            time_ms: line.time_ms,
            level: line.level,
            text: line.text,
        })
    });
    lines
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::Series {
            job: job.clone(),
            trial,
            error,
        })
}
