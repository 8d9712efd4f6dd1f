//! Answers in pages: jobs, trials, points and checkpoints, each page within the limits of a message.
//!
//! A page's token is the number from which the next one goes on. Jobs and trials keep their numbers, so
//! that what comes or goes between two pages moves nothing else.

use std::str::FromStr;

use prost::Message;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1;

use super::status::ApiError;
use super::{convert, found};
use crate::driver::DriverHandle;
use crate::driver::series::{SeriesError, decode_decision, decode_point};
use crate::store::{Item, SeriesKind};

/// Jobs, trials, or trials' checkpoints in one answer.
const MAX_PAGE: u32 = 1_000;

/// Bytes after which a page is closed; one entry, which is far smaller than the rest, comes on top.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Items of a series that are read from the store at a time.
const SCAN_CHUNK: usize = 2_000;

/// The number that a token holds; `first` for the first page.
fn start<T: FromStr>(token: &str, first: T) -> Result<T, ApiError> {
    if token.is_empty() {
        return Ok(first);
    }
    token.parse().map_err(|_| {
        let given = format!("{:?}", token.chars().take(64).collect::<String>());
        ApiError::field("page_token", given, "`next_page_token` of the page before")
    })
}

fn size(wanted: u32) -> usize {
    let wanted = if wanted == 0 { MAX_PAGE } else { wanted };
    wanted.min(MAX_PAGE) as usize
}

/// Entries of one answer, and whether it is full.
struct Page<T> {
    entries: Vec<T>,
    bytes: usize,
}

impl<T: Message> Page<T> {
    fn new() -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// False: it has no room left.
    fn push(&mut self, entry: T) -> bool {
        self.bytes += entry.encoded_len();
        self.entries.push(entry);
        self.bytes < MAX_PAGE_BYTES
    }
}

pub(super) async fn jobs(
    driver: &DriverHandle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, ApiError> {
    let before: u64 = start(&request.page_token, u64::MAX)?;
    let wanted = size(request.limit);
    let (workspace, archived) = (request.workspace, request.archived);
    let look =
        driver.read(move |machine| machine.jobs_before(before, &workspace, archived, wanted));
    let found = look.await?;
    let whole = found.len() == wanted;
    let mut page = Page::new();
    let mut next = String::new();
    let last = found.len().saturating_sub(1);
    for (at, (number, summary)) in found.into_iter().enumerate() {
        let room = page.push(convert::job(summary));
        if (at == last && whole) || (at < last && !room) {
            next = number.to_string();
        }
        if !room {
            break;
        }
    }
    Ok(v1::ListJobsResponse {
        jobs: page.entries,
        next_page_token: next,
    })
}

pub(super) async fn trials(
    driver: &DriverHandle,
    request: v1::ListTrialsRequest,
) -> Result<v1::ListTrialsResponse, ApiError> {
    let job = convert::job_id(&request.job_id)?;
    let first = TrialId(start(&request.page_token, 0)?);
    let wanted = size(request.page_size);
    let trials = found::trials(driver, &job, first, wanted).await?;
    let (mut whole, mut next) = (trials.len() == wanted, first.0);
    let mut page = Page::new();
    for trial in trials {
        next = trial.trial.0.saturating_add(1);
        if !page.push(convert::trial(trial)) {
            whole = true;
            break;
        }
    }
    Ok(v1::ListTrialsResponse {
        trials: page.entries,
        next_page_token: if whole {
            next.to_string()
        } else {
            String::new()
        },
    })
}

pub(super) async fn checkpoints(
    driver: &DriverHandle,
    request: v1::ListCheckpointsRequest,
) -> Result<v1::ListCheckpointsResponse, ApiError> {
    let job = convert::job_id(&request.job_id)?;
    let checkpoint_url = found::job(driver, &job).await?.checkpoint_url;
    let wanted = MAX_PAGE as usize;
    let trials = match request.trial_id {
        Some(trial) => vec![found::trial(driver, &job, TrialId(trial)).await?],
        None => {
            let first = TrialId(start(&request.page_token, 0)?);
            found::trials(driver, &job, first, wanted).await?
        }
    };
    let (mut whole, mut next) = (trials.len() == wanted, 0);
    let mut page = Page::new();
    for trial in trials {
        next = trial.trial.0.saturating_add(1);
        let mut room = true;
        for checkpoint in convert::checkpoints(trial) {
            room = page.push(checkpoint);
        }
        if !room && request.trial_id.is_none() {
            whole = true;
            break;
        }
    }
    Ok(v1::ListCheckpointsResponse {
        checkpoint_url,
        checkpoints: page.entries,
        next_page_token: if whole {
            next.to_string()
        } else {
            String::new()
        },
    })
}

pub(super) async fn trial(
    driver: &DriverHandle,
    request: v1::GetTrialRequest,
) -> Result<v1::GetTrialResponse, ApiError> {
    let job = convert::job_id(&request.job_id)?;
    let trial = TrialId(request.trial_id);
    let after: u64 = start(&request.page_token, 0)?;
    let mut summary = found::trial(driver, &job, trial).await?;
    let id = job.clone();
    let slow = driver.read(move |machine| machine.slow_trial(&id, trial));
    if let Some(slow) = slow.await? {
        summary.reason = format!("{}; {slow}", summary.reason);
    }
    let kind = SeriesKind::Points;
    let read = |item: &Item| decode_point(item).map(convert::point);
    let (points, next) = from_series(driver, kind, &job, trial, after, read).await?;
    Ok(v1::GetTrialResponse {
        trial: Some(convert::trial(summary)),
        points,
        next_page_token: next.map_or_else(String::new, |next| next.to_string()),
    })
}

/// Everything that was decided about a trial: kept within a bound that fits one answer.
pub(super) async fn explanation(
    driver: &DriverHandle,
    request: v1::ExplainTrialRequest,
) -> Result<v1::ExplainTrialResponse, ApiError> {
    let job: JobId = convert::job_id(&request.job_id)?;
    let trial = TrialId(request.trial_id);
    // A trial that does not exist has no decisions either: told apart here.
    found::trial(driver, &job, trial).await?;
    let kind = SeriesKind::Decisions;
    let read =
        |item: &Item| decode_decision(item).map(|stored| convert::decision(item.sequence, stored));
    let (decisions, _) = from_series(driver, kind, &job, trial, 0, read).await?;
    Ok(v1::ExplainTrialResponse { decisions })
}

/// Items of a series above `after`, and the last one's number where there may be more.
async fn from_series<T: Message>(
    driver: &DriverHandle,
    kind: SeriesKind,
    job: &JobId,
    trial: TrialId,
    mut after: u64,
    decode: impl Fn(&Item) -> Result<T, SeriesError>,
) -> Result<(Vec<T>, Option<u64>), ApiError> {
    let mut page = Page::new();
    let mut reader = found::Reader::new(driver, job);
    loop {
        let items = reader.items(kind, trial, after, SCAN_CHUNK).await?;
        if items.is_empty() {
            return Ok((page.entries, None));
        }
        for item in &items {
            after = item.sequence;
            let entry = decode(item).map_err(|error| ApiError::Series {
                job: job.clone(),
                trial,
                error,
            })?;
            if !page.push(entry) {
                return Ok((page.entries, Some(after)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;
    use trainyard_common::spec::Document;

    use super::*;
    use crate::cluster::Machine;
    use crate::cluster::api::{Event, MachineConfig};
    use crate::cluster::model::{Record, TrialRecord};
    use crate::driver::Driver;
    use crate::driver::clock::Clock;
    use crate::store::{AnyStore, MemoryStore, Store};

    const SPEC: &str = r#"
name: many
entrypoint: {command: [train]}
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
objectives: [{metric: loss, mode: minimize}]
searcher: {name: random, max_trials: 1}
"#;

    fn template(padding: usize) -> TrialRecord {
        let record = serde_json::json!({
            "job": "many-1", "trial": 0, "state": "cancelled",
            "params": {"x": "y".repeat(padding)}, "epochs_total": 0, "steps_total": 0,
            "parameters": 0, "best": null, "newest_point": null, "restarts": 0, "losses": 0,
            "retry_at_ms": 0, "error": "", "reason": "", "created_ms": 1, "started_ms": 0,
            "ended_ms": 1, "checkpoints": [], "next_attempt": 0
        });
        serde_json::from_value(record).unwrap()
    }

    /// A loop around a cancelled job with so many trials.
    async fn with_trials(count: u32, padding: usize) -> DriverHandle {
        let store = MemoryStore::new();
        let term = store.acquire_term().await.unwrap();
        let mut machine = Machine::new(term, MachineConfig::default());
        let submit = Event::Submit {
            request: "r".into(),
            document: Box::new(Document::parse(SPEC).unwrap()),
        };
        let cancel = Event::Cancel {
            request: "c".into(),
            job: "many-1".into(),
        };
        let mut records = machine.apply(1, submit).unwrap().records;
        records.extend(machine.apply(1, cancel).unwrap().records);
        let template = template(padding);
        records.extend((0..count).map(TrialId).map(|trial| {
            let record = TrialRecord {
                trial,
                ..template.clone()
            };
            Record::Trial(Box::new(record))
        }));
        // Of two versions of a record the later one counts.
        let records = records.into_iter().map(|record| (record.key(), record));
        let records: BTreeMap<_, _> = records.collect();
        let records = records.into_values();
        let machine = Machine::restore(term, MachineConfig::default(), 1, records).unwrap();
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let any = AnyStore::Memory(store);
        let (driver, handle) = Driver::new(machine, any, Clock::start(), closing, tasks).unwrap();
        tokio::spawn(driver.run(CancellationToken::new()));
        handle
    }

    fn asked(page_size: u32, page_token: &str) -> v1::ListTrialsRequest {
        v1::ListTrialsRequest {
            job_id: "many-1".to_owned(),
            page_size,
            page_token: page_token.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_hundred_thousand_trials_are_told_in_pages_that_fit_a_message() {
        let driver = with_trials(100_000, 700).await;
        let (mut next, mut expected, mut whole) = (String::new(), 0, 0);
        loop {
            let page = trials(&driver, asked(0, &next)).await.unwrap();
            assert!(page.encoded_len() < trainyard_proto::MAX_MESSAGE_BYTES / 2);
            assert!(page.trials.len() <= MAX_PAGE as usize);
            whole += page.encoded_len();
            for trial in page.trials {
                assert_eq!(trial.trial_id, expected);
                expected += 1;
            }
            next = page.next_page_token;
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(expected, 100_000);
        assert!(whole > 4 * trainyard_proto::MAX_MESSAGE_BYTES, "{whole}");
    }

    #[tokio::test]
    async fn large_trials_make_short_pages_and_bad_tokens_are_refused() {
        let driver = with_trials(10, 1_000_000).await;
        let page = trials(&driver, asked(0, "")).await.unwrap();
        assert!(
            (4..=6).contains(&page.trials.len()),
            "{}",
            page.trials.len()
        );
        let rest = trials(&driver, asked(0, &page.next_page_token))
            .await
            .unwrap();
        assert_eq!(rest.trials[0].trial_id, page.trials.len() as u32);
        let page = trials(&driver, asked(3, "8")).await.unwrap();
        assert_eq!((page.trials.len(), page.next_page_token.as_str()), (2, ""));
        let beyond = trials(&driver, asked(3, "4000000000")).await.unwrap();
        assert!(beyond.trials.is_empty() && beyond.next_page_token.is_empty());
        for token in ["x", "-1", "99999999999"] {
            let error = trials(&driver, asked(3, token)).await.unwrap_err();
            assert!(error.to_string().starts_with("page_token: "), "{error}");
        }
        let request = v1::ListJobsRequest::default();
        let listed = jobs(&driver, request.clone()).await.unwrap();
        assert_eq!(listed.jobs.len(), 1);
        let archived = true;
        let request = v1::ListJobsRequest {
            archived,
            ..request
        };
        assert!(jobs(&driver, request).await.unwrap().jobs.is_empty());
    }
}
