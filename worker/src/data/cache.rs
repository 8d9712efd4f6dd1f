//! Datasets that trials of this process hold at the moment, so that they share memory.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tokio_util::sync::CancellationToken;
use trainyard_common::spec::JobSpec;
use trainyard_common::spec::data::SourceSpec;

use super::{DataError, Dataset, Limits, load_within, source};

/// Locked while it is being loaded, so that trials that start together load once.
type Slot = Arc<tokio::sync::Mutex<Weak<Dataset>>>;

static SLOTS: LazyLock<Mutex<HashMap<String, Slot>>> = LazyLock::new(Mutex::default);

/// As [`load_within`], but a dataset that another trial of this process holds, from the same objects in the
/// same versions with the same settings, is shared.
pub async fn load_shared(
    spec: &JobSpec,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Arc<Dataset>, DataError> {
    let slot = slot(key(spec, cancel).await?);
    // While another trial loads there is nothing of this one to be waited for.
    let held = cancel.run_until_cancelled(slot.lock()).await;
    let mut held = held.ok_or(DataError::Cancelled)?;
    if let Some(dataset) = held.upgrade() {
        return Ok(dataset);
    }
    let dataset = Arc::new(load_within(spec, limits, cancel).await?);
    *held = Arc::downgrade(&dataset);
    Ok(dataset)
}

/// Everything that decides a dataset.
async fn key(spec: &JobSpec, cancel: &CancellationToken) -> Result<String, DataError> {
    let data = spec.data.as_ref().ok_or(DataError::NoData)?;
    let mut versions = Vec::new();
    for source in std::iter::once(&data.train).chain(&data.test) {
        let urls = match source {
            SourceSpec::Csv(csv) => vec![&csv.url],
            SourceSpec::Idx(idx) => vec![&idx.features, &idx.labels],
        };
        for url in urls {
            versions.push(source::version(url, cancel).await?);
        }
    }
    let seed = spec.split.shuffle.then_some(spec.seed);
    let limit = spec.training.limit_samples;
    Ok(serde_json::json!([data, spec.split, spec.preprocess, seed, limit, versions]).to_string())
}

fn slot(key: String) -> Slot {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.retain(|_, slot| {
        let gone = slot.try_lock().is_ok_and(|held| held.strong_count() == 0);
        Arc::strong_count(slot) > 1 || !gone
    });
    Arc::clone(slots.entry(key).or_default())
}
