//! What jobs that leave the records need beside the loop: their archive written, and what is left of them
//! removed. The machine asks for one at a time; the outcome comes back to the loop, whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::{JobId, Term, TrialId};
use trainyard_common::store_url;

use super::Input;
use super::input::WeakInputs;
use crate::archive::{Archives, Writer, delete_below};
use crate::bundles::{self, Bundles};
use crate::cluster::Machine;
use crate::cluster::api::Event;
use crate::cluster::model::ArchiveRef;
use crate::store::{AnyStore, Series, SeriesKind, Store};

/// Records that are read from the store at a time.
const PAGE: usize = 500;

/// Items of a series that are read at a time.
const SCAN: usize = 1_000;

/// Sections of an archive in the order in which they are written, which is that of their keys.
#[derive(Debug, Clone, Copy)]
enum Section {
    /// A record of the job's.
    One(&'static str),
    /// Records of its trials or of its search log.
    Records(&'static str),
    Series(SeriesKind),
}

const SECTIONS: [Section; 8] = [
    Section::Records("attempt"),
    Section::Series(SeriesKind::Decisions),
    Section::One("job"),
    Section::Series(SeriesKind::Logs),
    Section::Series(SeriesKind::Points),
    Section::Records("search"),
    Section::One("spec"),
    Section::Records("trial"),
];

/// What the keys of a series' items in an archive begin with.
pub(crate) fn series_prefix(kind: SeriesKind, trial: TrialId) -> String {
    format!("{}/{:010}/", kind.name(), trial.0)
}

/// The key of an item in an archive.
pub(crate) fn item_key(kind: SeriesKind, trial: TrialId, sequence: u64) -> String {
    format!("{}{sequence:020}", series_prefix(kind, trial))
}

/// What is left of a job that is gone.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) job: JobId,
    /// Of its archives this one stays.
    pub(super) keep: Option<String>,
    pub(super) checkpoint_url: Option<String>,
    /// Goes unless a job names it.
    pub(super) bundle_url: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Keeper {
    pub(super) store: AnyStore,
    pub(super) term: Term,
    pub(super) archives: Archives,
    pub(super) bundles: Bundles,
    /// Counts the removals that have begun.
    pub(super) removals: Arc<AtomicU64>,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

impl Keeper {
    /// Writes a job's archive and tells the loop where it lies.
    pub(super) fn archive(&self, job: JobId, trials: u32, inputs: WeakInputs) {
        let keeper = self.clone();
        self.tasks.spawn(async move {
            let archive = tokio::select! {
                () = keeper.closing.cancelled() => return,
                archive = keeper.write(&job, trials) => archive,
            };
            match &archive {
                Ok(archive) => tracing::info!(
                    job_id = %job, name = archive.name, bytes = archive.bytes, "archive written"
                ),
                Err(error) => tracing::warn!(job_id = %job, error, "archive not written"),
            }
            tell(inputs, Event::Archived { job, archive }).await;
        });
    }

    /// Removes what is left of a job that is gone and tells the loop.
    pub(super) fn remove(&self, gone: Gone, inputs: WeakInputs) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        let keeper = self.clone();
        self.tasks.spawn(async move {
            let removed = tokio::select! {
                () = keeper.closing.cancelled() => return,
                removed = keeper.sweep(&gone, &inputs) => removed,
            };
            let (job, error) = (gone.job, removed.err());
            if let Some(error) = &error {
                tracing::warn!(job_id = %job, error, "not all of the job is removed; tried again");
            }
            tell(inputs, Event::Removed { job, error }).await;
        });
    }

    async fn write(&self, job: &JobId, trials: u32) -> Result<ArchiveRef, String> {
        let mut writer = self.archives.begin(job);
        for section in SECTIONS {
            match section {
                Section::One(kind) => self.copy_one(&mut writer, job, kind).await?,
                Section::Records(kind) => self.copy_records(&mut writer, job, kind).await?,
                Section::Series(kind) => {
                    for trial in 0..trials {
                        self.copy_series(&mut writer, job, TrialId(trial), kind)
                            .await?;
                    }
                }
            }
        }
        writer.finish().await.map_err(|error| error.to_string())
    }

    async fn copy_one(&self, writer: &mut Writer, job: &JobId, kind: &str) -> Result<(), String> {
        let key = format!("{kind}/{job}");
        let found = self.store.page(&key, "", 1).await;
        let found = found.map_err(|error| error.to_string())?;
        let (_, value) = found
            .into_iter()
            .find(|(known, _)| *known == key)
            .ok_or_else(|| format!("record {key} is missing"))?;
        let pushed = writer.push(kind, &value).await;
        pushed.map_err(|error| error.to_string())
    }

    async fn copy_records(
        &self,
        writer: &mut Writer,
        job: &JobId,
        kind: &str,
    ) -> Result<(), String> {
        let prefix = format!("{kind}/{job}/");
        let mut after = String::new();
        loop {
            let page = self.store.page(&prefix, &after, PAGE).await;
            let page = page.map_err(|error| error.to_string())?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after.clone_from(last);
            for (key, value) in page {
                let key = format!("{kind}/{}", &key[prefix.len()..]);
                let pushed = writer.push(&key, &value).await;
                pushed.map_err(|error| error.to_string())?;
            }
        }
    }

    async fn copy_series(
        &self,
        writer: &mut Writer,
        job: &JobId,
        trial: TrialId,
        kind: SeriesKind,
    ) -> Result<(), String> {
        let series = Series {
            kind,
            job: job.clone(),
            trial,
        };
        let mut after = 0;
        loop {
            let items = self.store.scan(&series, after, SCAN).await;
            let items = items.map_err(|error| error.to_string())?;
            let Some(last) = items.last() else {
                return Ok(());
            };
            after = last.sequence;
            for item in items {
                let key = item_key(kind, trial, item.sequence);
                let pushed = writer.push(&key, &item.value).await;
                pushed.map_err(|error| error.to_string())?;
            }
        }
    }

    async fn sweep(&self, gone: &Gone, inputs: &WeakInputs) -> Result<(), String> {
        let job = &gone.job;
        // Each call is bounded, so that commits get their turn in between.
        while self
            .store
            .drop_series(self.term, job)
            .await
            .map_err(|error| error.to_string())?
        {}
        let deleted = self.archives.delete(job, gone.keep.as_deref()).await;
        deleted.map_err(|error| error.to_string())?;
        if let Some(url) = &gone.checkpoint_url {
            delete_checkpoints(url).await?;
        }
        if let Some(url) = &gone.bundle_url {
            self.remove_bundles(url, inputs).await?;
        }
        Ok(())
    }

    /// Removes a bundle unless a job names it by now, and those beside it that were sent and never named.
    async fn remove_bundles(&self, url: &str, inputs: &WeakInputs) -> Result<(), String> {
        let _nobody_names = self.bundles.removing().await;
        let mut gone = vec![url.to_owned()];
        gone.extend(bundles::old_ones_beside(url).await?);
        for url in gone {
            if !self.is_named(url.clone(), inputs).await? {
                bundles::delete(&url).await?;
            }
        }
        Ok(())
    }

    /// Whether a job names a bundle, as the loop knows it now; an error where this coordinator may no longer say.
    async fn is_named(&self, url: String, inputs: &WeakInputs) -> Result<bool, String> {
        let ended = || "the coordinator ends".to_owned();
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |machine: &Machine| {
            // Whoever asks has not gone away but with the whole coordinator.
            let _ = reply.send(machine.names_bundle(&url));
        });
        let loop_ = inputs.upgrade().ok_or_else(ended)?;
        let asked = loop_.send(Input::Read(look)).await;
        drop(loop_);
        asked.map_err(|_| ended())?;
        let named = answer.await.map_err(|_| ended())?;
        match self.store.holds(self.term) {
            true => Ok(named),
            false => Err("another coordinator leads".to_owned()),
        }
    }
}

/// Deletes all below a job's own folder of checkpoints.
async fn delete_checkpoints(url: &str) -> Result<(), String> {
    let (store, folder) = store_url::open(url).map_err(|error| error.to_string())?;
    if folder.parts().next().is_none() {
        return Err(format!("{url} is a whole store, not one job's folder"));
    }
    let deleted = delete_below(&store, &folder, |_| false).await;
    deleted.map_err(|error| format!("checkpoints in {url}: {error}"))
}

/// The loop may have ended: the next one asks again.
async fn tell(inputs: WeakInputs, event: Event) {
    if let Some(inputs) = inputs.upgrade() {
        let _ = inputs.send(Input::own(event)).await;
    }
}
