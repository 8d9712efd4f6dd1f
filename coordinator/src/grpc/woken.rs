//! Extending searches. The search of an ended job rests in its log: it is woken here, off the loop, since that
//! grows with the log. One that is being read already is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::{Document, Params};

use super::status::ApiError;
use crate::cluster::api::{Event, Rejection, Reply};
use crate::cluster::model::{Awake, Record, SearchEntry, TrialRecord, search_prefix, trial_prefix};
use crate::cluster::view::replay::awake;
use crate::driver::{CallError, DriverHandle, Seat};

/// Records that are read from the store at a time.
const PAGE: usize = 500;

/// Times that a search is woken for one call: another may extend it, and it may end again, in between.
const TRIES: u32 = 3;

/// Searches that are woken at once, others wait: each may take a core for seconds.
static WAKING: Semaphore = Semaphore::const_new(2);

/// As `ask`, of an event that extends a job's search.
pub(super) async fn extend(seat: &Seat, event: Event) -> Result<Reply, ApiError> {
    for _ in 0..TRIES {
        match seat.ask(event.clone()).await {
            Err(CallError::Rejected(Rejection::Asleep(job))) => wake(seat, &job).await?,
            Err(CallError::Rejected(Rejection::Loading(job))) => loaded(seat, &job).await?,
            answer => return Ok(answer?),
        }
    }
    Ok(seat.ask(event).await?)
}

/// Waits until the search has been read from its log, as it is after a restart.
async fn loaded(seat: &Seat, job: &JobId) -> Result<(), ApiError> {
    let driver = seat.handle().await?;
    let watcher = driver.watch(job);
    let closing = driver.closing().clone();
    loop {
        let id = job.clone();
        if !driver.read(move |machine| machine.loads(&id)).await? {
            return Ok(());
        }
        tokio::select! {
            _ = watcher.next() => {}
            () = closing.cancelled() => return Err(CallError::Stopped.into()),
        }
    }
}

async fn wake(seat: &Seat, job: &JobId) -> Result<(), ApiError> {
    let _permit = WAKING.acquire().await;
    let driver = seat.handle().await?;
    let id = job.clone();
    let document = driver.read(move |machine| machine.shared_document(&id));
    let document = document
        .await?
        .ok_or_else(|| ApiError::NoJob(job.clone()))?;
    let (mut log, mut params) = (Vec::new(), BTreeMap::new());
    read(&driver, search_prefix(job, 0).0, |record| {
        if let Record::Search(record) = record {
            log.push(record.entry);
        }
    })
    .await?;
    read(&driver, trial_prefix(job), |record| {
        if let Record::Trial(trial) = record {
            params.insert(trial.trial, suggested(&trial));
        }
    })
    .await?;
    let waking = move || woken(&document, &log, &params);
    let search = tokio::task::spawn_blocking(waking).await;
    let search = search.map_err(|error| ApiError::Internal(format!("waking a search: {error}")))?;
    let search = search.map_err(|message| {
        CallError::from(Rejection::Extend {
            job: job.clone(),
            field: "job",
            message,
        })
    })?;
    let (job, search) = (job.clone(), Box::new(search));
    Ok(driver.own(Event::Wake { job, search }).await?)
}

fn suggested(trial: &TrialRecord) -> Params {
    trial.suggested_params().clone()
}

fn woken(
    document: &Arc<Document>,
    log: &[SearchEntry],
    params: &BTreeMap<TrialId, Params>,
) -> Result<Awake, String> {
    awake(document, log, |trial| params.get(&trial))
}

/// All records whose keys begin so, in order.
async fn read(
    driver: &DriverHandle,
    prefix: String,
    mut each: impl FnMut(Record),
) -> Result<(), ApiError> {
    let mut after = String::new();
    loop {
        let page = driver.records((prefix.clone(), after), PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = last.clone();
        for (key, value) in page {
            let record = Record::decode(&key, &value);
            each(record.map_err(|error| ApiError::Internal(error.to_string()))?);
        }
    }
}
