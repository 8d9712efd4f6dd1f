//! What is known of one job, wherever it lies: in the machine and the store, or in its archive.
//!
//! A job may be archived or deleted between two looks. Its series go only after that was decided, and the
//! driver counts such removals: while none begins, what is read is whole.

use trainyard_common::ids::{JobId, TrialId};

use super::status::ApiError;
use crate::cluster::api::TrialSummary;
use crate::cluster::model::AttemptRecord;
use crate::cluster::model::JobSummary;
use crate::cluster::model::{ArchiveRef, Record, search_prefix};
use crate::cluster::view::pages::{Most, Page};
use crate::cluster::view::recorded_trial;
use crate::driver::DriverHandle;
use crate::driver::keeper::{item_key, series_prefix};
use crate::store::{Item, Series, SeriesKind};
use trainyard_common::spec::Document;

/// Attempts of one archived trial that are read; as many as the machine holds are told.
const MAX_ATTEMPTS: usize = 10_000;

/// Records that are read from an archive at a time.
const CHUNK: usize = 100;

/// Where a job is.
enum Place {
    Live(Box<JobSummary>),
    Archived(Box<JobSummary>, ArchiveRef),
}

async fn place(driver: &DriverHandle, job: &JobId) -> Result<Place, ApiError> {
    let id = job.clone();
    let found = driver
        .read(move |machine| {
            let summary = Box::new(machine.any_job(&id)?);
            Some(match machine.archive_of(&id) {
                Some(archive) => Place::Archived(summary, archive),
                None => Place::Live(summary),
            })
        })
        .await?;
    found.ok_or_else(|| ApiError::NoJob(job.clone()))
}

/// The job's summary.
pub(super) async fn job(driver: &DriverHandle, job: &JobId) -> Result<JobSummary, ApiError> {
    match place(driver, job).await? {
        Place::Live(summary) | Place::Archived(summary, _) => Ok(*summary),
    }
}

/// Its resolved spec, JSON.
pub(super) async fn spec(driver: &DriverHandle, job: &JobId) -> Result<String, ApiError> {
    let id = job.clone();
    let live = driver.read(move |machine| machine.spec_json(&id));
    if let Some(document) = live.await? {
        return Ok(document.to_string());
    }
    let archive = Archive::of(driver, job).await?;
    let archive = archive.ok_or_else(|| ApiError::NoJob(job.clone()))?;
    Ok(archive.document().await?.to_json().to_string())
}

/// Its trials from `first` on.
pub(super) async fn trials(
    driver: &DriverHandle,
    job: &JobId,
    first: TrialId,
    most: Most,
) -> Result<Page<TrialSummary>, ApiError> {
    let id = job.clone();
    let live = driver.read(move |machine| machine.trials_page(&id, first, most));
    if let Some(trials) = live.await? {
        return Ok(trials);
    }
    let archive = Archive::of(driver, job).await?;
    let archive = archive.ok_or_else(|| ApiError::NoJob(job.clone()))?;
    archive.trials(first, most).await
}

/// One trial.
const ONE: Most = Most {
    entries: 1,
    bytes: usize::MAX,
};

pub(super) async fn trial(
    driver: &DriverHandle,
    job: &JobId,
    trial: TrialId,
) -> Result<TrialSummary, ApiError> {
    let found = trials(driver, job, trial, ONE).await?.entries.pop();
    found
        .filter(|found| found.trial == trial)
        .ok_or_else(|| ApiError::NoTrial {
            job: job.clone(),
            trial,
        })
}

/// Records of its search log from entry `from` on, by key, at most `limit`; none where the log ends before.
pub(super) async fn search_log(
    driver: &DriverHandle,
    job: &JobId,
    from: u32,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
    let stored = driver.records(search_prefix(job, from), limit).await?;
    // Records go only after the job has, so that while it is still there what was read is whole.
    let Some(archive) = Archive::of(driver, job).await? else {
        return Ok(stored);
    };
    let of_job = format!("search/{job}/");
    let (prefix, after) = search_prefix(job, from);
    let within = |key: &str| key.replacen(&of_job, "search/", 1);
    let (prefix, after) = (within(&prefix), within(&after));
    let entries = archive.range(&prefix, &after, limit).await?.into_iter();
    Ok(entries
        .map(|(key, value)| (key.replacen("search/", &of_job, 1), value))
        .collect())
}

/// Reads a job's series.
#[derive(Debug)]
pub(super) struct Reader {
    driver: DriverHandle,
    job: JobId,
    /// How many removals had begun when the job was looked at, and the archive that it had then.
    known: Option<(u64, Option<ArchiveRef>)>,
}

impl Reader {
    pub(super) fn new(driver: &DriverHandle, job: &JobId) -> Self {
        Self {
            driver: driver.clone(),
            job: job.clone(),
            known: None,
        }
    }

    /// Items numbered above `after`, oldest first, at most `limit`.
    pub(super) async fn items(
        &mut self,
        kind: SeriesKind,
        trial: TrialId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, ApiError> {
        let series = Series {
            kind,
            job: self.job.clone(),
            trial,
        };
        loop {
            let removals = self.driver.removals();
            if self.known.as_ref().is_none_or(|(at, _)| *at != removals) {
                let archive = Archive::of(&self.driver, &self.job).await?;
                self.known = Some((removals, archive.map(|archive| archive.at)));
            }
            if let Some((_, Some(at))) = &self.known {
                let archive = Archive {
                    driver: &self.driver,
                    job: &self.job,
                    at: at.clone(),
                };
                return archive.items(&series, after, limit).await;
            }
            let items = self.driver.scan(&series, after, limit).await?;
            if self.driver.removals() == removals {
                return Ok(items);
            }
        }
    }
}

/// A job's archive.
struct Archive<'a> {
    driver: &'a DriverHandle,
    job: &'a JobId,
    at: ArchiveRef,
}

impl<'a> Archive<'a> {
    /// `None` while the job is not archived.
    async fn of(driver: &'a DriverHandle, job: &'a JobId) -> Result<Option<Self>, ApiError> {
        Ok(match place(driver, job).await? {
            Place::Live(_) => None,
            Place::Archived(_, at) => Some(Self { driver, job, at }),
        })
    }

    async fn range(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
        let archives = self.driver.archives();
        let found = archives.range(self.job, &self.at, prefix, after, limit);
        Ok(found.await?)
    }

    /// A record under its own key, which it is compared with.
    fn record(&self, key: &str, value: &[u8]) -> Result<Record, ApiError> {
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        let slash = if rest.is_empty() { "" } else { "/" };
        let key = format!("{kind}/{}{slash}{rest}", self.job);
        Record::decode(&key, value).map_err(|error| self.unreadable(error.to_string()))
    }

    fn unreadable(&self, reason: String) -> ApiError {
        ApiError::Archived {
            job: self.job.clone(),
            reason,
        }
    }

    async fn document(&self) -> Result<Document, ApiError> {
        for (key, value) in self.range("spec", "", 1).await? {
            if let Record::Spec(spec) = self.record(&key, &value)? {
                return Document::from_accepted(spec.document)
                    .map_err(|errors| self.unreadable(errors.to_string()));
            }
        }
        Err(self.unreadable("the spec is missing".to_owned()))
    }

    async fn trials(&self, first: TrialId, most: Most) -> Result<Page<TrialSummary>, ApiError> {
        let document = self.document().await?;
        let mut before = match first.0 {
            0 => String::new(),
            first => format!("trial/{:010}", first - 1),
        };
        let (mut trials, mut held) = (Vec::new(), 0);
        loop {
            let left = most.entries - trials.len();
            let chunk = self.range("trial/", &before, left.min(CHUNK)).await?;
            let Some((last, _)) = chunk.last() else {
                return Ok(Page {
                    entries: trials,
                    more: false,
                });
            };
            before.clone_from(last);
            for (key, value) in chunk {
                let Record::Trial(record) = self.record(&key, &value)? else {
                    continue;
                };
                let attempts = self.attempts(record.trial).await?;
                let trial = recorded_trial(&document, *record, attempts);
                held += trial.bytes();
                trials.push(trial);
                if trials.len() >= most.entries || held >= most.bytes {
                    // Whether others follow is found out by asking for them.
                    return Ok(Page {
                        entries: trials,
                        more: true,
                    });
                }
            }
        }
    }

    async fn attempts(&self, trial: TrialId) -> Result<Vec<AttemptRecord>, ApiError> {
        let prefix = format!("attempt/{:010}/", trial.0);
        let mut attempts = Vec::new();
        for (key, value) in self.range(&prefix, "", MAX_ATTEMPTS).await? {
            if let Record::Attempt(attempt) = self.record(&key, &value)? {
                attempts.push(*attempt);
            }
        }
        Ok(attempts)
    }

    async fn items(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, ApiError> {
        let prefix = series_prefix(series.kind, series.trial);
        let after = item_key(series.kind, series.trial, after);
        let entries = self.range(&prefix, &after, limit).await?;
        let items = entries.into_iter().map(|(key, value)| {
            let sequence = key[prefix.len()..].parse();
            let sequence = sequence.map_err(|_| self.unreadable(format!("entry {key}")))?;
            Ok(Item { sequence, value })
        });
        items.collect()
    }
}
