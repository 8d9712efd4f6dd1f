//! Answers in pages: jobs, trials, points, checkpoints, workers and workspaces, each page within the limits
//! of a message.
//!
//! A page's token is the number or the name from which the next one goes on. Numbers and names stay, so that
//! what comes or goes between two pages moves nothing else.

use std::str::FromStr;

use prost::Message;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1;

use super::status::ApiError;
use super::{convert, found};
use crate::cluster::api::{TrialSummary, WorkerSummary, WorkspaceSummary};
use crate::cluster::model::JobSummary;
use crate::cluster::view::pages::{Most, Page};
use crate::driver::DriverHandle;
use crate::driver::series::{SeriesError, decode_decision, decode_point};
use crate::store::{Item, SeriesKind};

/// Jobs, trials, workers, workspaces, or trials' checkpoints in one answer.
const MAX_PAGE: u32 = 1_000;

/// Workers or workspaces in the answer to one who does not know that there are pages: more than a cluster has.
const MAX_UNASKED: usize = 10_000;

/// Bytes after which a page is closed; one entry, which is far smaller than the rest, comes on top.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Items of a series that are read from the store at a time: the largest are some hundred kilobytes.
const SCAN_CHUNK: usize = 200;

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

/// What a client wants of one page, within what there may be.
fn most(wanted: u32) -> Most {
    let wanted = if wanted == 0 { MAX_PAGE } else { wanted };
    Most {
        entries: wanted.min(MAX_PAGE) as usize,
        bytes: MAX_PAGE_BYTES,
    }
}

/// The same of a list that clients knew before it had pages: those that name no size get as much as one
/// answer holds.
fn most_or_all(wanted: u32) -> Most {
    match wanted {
        0 => Most {
            entries: MAX_UNASKED,
            bytes: MAX_PAGE_BYTES,
        },
        wanted => most(wanted),
    }
}

/// Messages of one answer, and whether it is full.
struct Answer<T> {
    entries: Vec<T>,
    bytes: usize,
}

impl<T: Message> Answer<T> {
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

    /// As much of a page as fits, and the token of the next one: what `token` makes of the last entry.
    fn of<E>(
        page: Page<E>,
        token: impl Fn(&E) -> String,
        message: impl Fn(E) -> T,
    ) -> (Vec<T>, String) {
        let mut answer = Self::new();
        let mut entries = page.entries.into_iter().peekable();
        while let Some(entry) = entries.next() {
            let next = token(&entry);
            let room = answer.push(message(entry));
            let last = entries.peek().is_none();
            if (last && page.more) || (!last && !room) {
                return (answer.entries, next);
            }
        }
        (answer.entries, String::new())
    }
}

pub(super) async fn jobs(
    driver: &DriverHandle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, ApiError> {
    let before: u64 = start(&request.page_token, u64::MAX)?;
    let most = most(request.limit);
    let (workspace, archived) = (request.workspace, request.archived);
    let look = driver.read(move |machine| {
        let page = machine.jobs_page(before, &workspace, archived, most);
        (page, machine.leaving_jobs())
    });
    let (page, (leaving, failed)) = look.await?;
    let count = |jobs| u32::try_from(jobs).unwrap_or(u32::MAX);
    let token = |(number, _): &(u64, JobSummary)| number.to_string();
    let (jobs, next_page_token) = Answer::of(page, token, |(_, job)| convert::job(job));
    Ok(v1::ListJobsResponse {
        jobs,
        next_page_token,
        leaving: count(leaving),
        leaving_failed: count(failed),
    })
}

pub(super) async fn trials(
    driver: &DriverHandle,
    request: v1::ListTrialsRequest,
) -> Result<v1::ListTrialsResponse, ApiError> {
    let job = convert::job_id(&request.job_id)?;
    let first = TrialId(start(&request.page_token, 0)?);
    let page = found::trials(driver, &job, first, most(request.page_size)).await?;
    let (trials, next_page_token) = Answer::of(page, after, convert::trial);
    Ok(v1::ListTrialsResponse {
        trials,
        next_page_token,
    })
}

/// The token of the page after this trial.
fn after(trial: &TrialSummary) -> String {
    trial.trial.0.saturating_add(1).to_string()
}

pub(super) async fn checkpoints(
    driver: &DriverHandle,
    request: v1::ListCheckpointsRequest,
) -> Result<v1::ListCheckpointsResponse, ApiError> {
    let job = convert::job_id(&request.job_id)?;
    let checkpoint_url = found::job(driver, &job).await?.checkpoint_url;
    let trials = match request.trial_id {
        Some(trial) => Page {
            entries: vec![found::trial(driver, &job, TrialId(trial)).await?],
            more: false,
        },
        None => {
            let first = TrialId(start(&request.page_token, 0)?);
            found::trials(driver, &job, first, most(0)).await?
        }
    };
    let next = trials.entries.last().filter(|_| trials.more).map(after);
    let mut next_page_token = next.unwrap_or_default();
    let mut page = Answer::new();
    let mut trials = trials.entries.into_iter().peekable();
    while let Some(trial) = trials.next() {
        let next = after(&trial);
        let mut room = true;
        for checkpoint in convert::checkpoints(trial) {
            room = page.push(checkpoint);
        }
        if !room && trials.peek().is_some() {
            next_page_token = next;
            break;
        }
    }
    Ok(v1::ListCheckpointsResponse {
        checkpoint_url,
        checkpoints: page.entries,
        next_page_token,
    })
}

/// A token that is the name of the last entry of the page before.
fn name(token: String) -> Result<String, ApiError> {
    if !token.is_empty() {
        convert::identifier("page_token", &token)?;
    }
    Ok(token)
}

pub(super) async fn workers(
    driver: &DriverHandle,
    request: v1::ListWorkersRequest,
) -> Result<v1::ListWorkersResponse, ApiError> {
    let (after, most) = (name(request.page_token)?, most_or_all(request.page_size));
    let look = driver.read(move |machine| machine.workers_page(&after, most));
    let token = |worker: &WorkerSummary| worker.worker.to_string();
    let (workers, next_page_token) = Answer::of(look.await?, token, convert::worker);
    Ok(v1::ListWorkersResponse {
        workers,
        next_page_token,
    })
}

pub(super) async fn workspaces(
    driver: &DriverHandle,
    request: v1::ListWorkspacesRequest,
) -> Result<v1::ListWorkspacesResponse, ApiError> {
    let (after, most) = (name(request.page_token)?, most_or_all(request.page_size));
    let look = driver.read(move |machine| machine.workspaces_page(&after, most));
    let token = |workspace: &WorkspaceSummary| workspace.workspace.clone();
    let (workspaces, next_page_token) = Answer::of(look.await?, token, convert::workspace);
    Ok(v1::ListWorkspacesResponse {
        workspaces,
        next_page_token,
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
    let mut page = Answer::new();
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
        let (driver, handle) =
            Driver::new(machine, any, Clock::start(), closing, tasks, 2).unwrap();
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

    #[tokio::test]
    async fn workers_and_workspaces_come_in_pages() {
        let driver = super::super::testing::bench(1, 1).await.driver;
        for number in 0..25 {
            let info = crate::cluster::model::WorkerInfo {
                worker: format!("p-{number:02}").as_str().into(),
                host: "h".to_owned(),
                version: "0".to_owned(),
                devices: vec!["cpu".to_owned()],
                collective_address: String::new(),
                cpu_kind: "x".to_owned(),
                programs: true,
            };
            driver
                .join(info, None, None, Vec::new(), Default::default())
                .await
                .unwrap();
            let event = Event::SetWorkspace {
                workspace: format!("s-{number:02}"),
                change: crate::cluster::api::WorkspaceChange {
                    weight: Some(2.0),
                    ..Default::default()
                },
            };
            driver.ask(event).await.unwrap();
        }
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        let mut page_token = String::new();
        loop {
            let page_size = 10;
            let request = v1::ListWorkersRequest {
                page_size,
                page_token,
            };
            let page = workers(&driver, request).await.unwrap();
            assert!(page.workers.len() <= 10);
            ids.extend(page.workers.into_iter().map(|worker| worker.worker_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        loop {
            let page_size = 7;
            let request = v1::ListWorkspacesRequest {
                page_size,
                page_token,
            };
            let page = workspaces(&driver, request).await.unwrap();
            assert!(page.workspaces.len() <= 7);
            names.extend(page.workspaces.into_iter().map(|workspace| workspace.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!((ids.len(), names.len()), (26, 26));
        assert!(ids.is_sorted() && names.is_sorted());
        // Who knows of no pages gets all of them.
        let all = workers(&driver, v1::ListWorkersRequest::default())
            .await
            .unwrap();
        assert_eq!((all.workers.len(), all.next_page_token.as_str()), (26, ""));
        let request = v1::ListWorkersRequest {
            page_size: 1,
            page_token: "\n".to_owned(),
        };
        let error = workers(&driver, request).await.unwrap_err().to_string();
        assert!(error.starts_with("page_token: "), "{error}");
    }
}
