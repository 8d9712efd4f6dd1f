//! `StreamLogs`: the stored lines, then new ones as they are stored; no gap, no line twice.
//!
//! Every line comes from the store by its number. News only say that it is worth looking again, so
//! neither a slow reader nor a lost notice can lose a line.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::LogLine;

use super::found;
use super::status::ApiError;
use super::watch::stopped;
use crate::driver::series::decode_line;
use crate::driver::{DriverHandle, Watcher};
use crate::store::SeriesKind;

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
        let mut reader = found::Reader::new(&driver, &query.job);
        loop {
            for trial in fresh {
                let after = told.entry(trial).or_insert(query.after);
                loop {
                    let lines = chunk(&mut reader, &query.job, trial, *after).await?;
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
        Ok(match query.trial {
            Some(trial) => Self {
                trials: BTreeSet::from([trial]),
                ended: found::trial(driver, &query.job, trial).await?.state.ended(),
            },
            None => {
                let summary = found::job(driver, &query.job).await?;
                Self {
                    // Trials are numbered without gaps.
                    trials: (0..summary.trials.total()).map(TrialId).collect(),
                    ended: summary.state.ended(),
                }
            }
        })
    }
}

async fn chunk(
    reader: &mut found::Reader,
    job: &JobId,
    trial: TrialId,
    after: u64,
) -> Result<Vec<LogLine>, ApiError> {
    let items = reader
        .items(SeriesKind::Logs, trial, after, SCAN_CHUNK)
        .await?;
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
