//! A job's search log for people and their tools, as it is stored.

use trainyard_common::ids::JobId;
use trainyard_proto::v1;

use super::found;
use super::status::ApiError;
use crate::cluster::model::Record;
use crate::driver::Seat;

/// Entries of one answer, and the bytes of their stored form after which it is closed: well below the size of
/// a message.
const PAGE: usize = 2_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Entries that are read from the store at a time.
const CHUNK: usize = 100;

/// The entries from number `from` on, in order, at most [`PAGE`]; none where the log ends before.
pub(super) async fn page(
    seat: &Seat,
    job: &JobId,
    from: u32,
) -> Result<Vec<v1::SearchLogEntry>, ApiError> {
    let driver = seat.handle().await?;
    let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
    while entries.len() < PAGE && bytes < PAGE_BYTES {
        let stored = found::search_log(&driver, job, next, CHUNK).await?;
        if stored.is_empty() {
            break;
        }
        for (key, value) in stored {
            bytes += value.len();
            let entry = entry(&key, &value)?;
            next = entry.index.saturating_add(1);
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn entry(key: &str, value: &[u8]) -> Result<v1::SearchLogEntry, ApiError> {
    let internal = |reason: String| ApiError::Internal(format!("record {key}: {reason}"));
    let record = Record::decode(key, value).map_err(|e| internal(e.to_string()))?;
    let Record::Search(record) = record else {
        return Err(internal("is no entry of a search log".to_owned()));
    };
    let entry_json = serde_json::to_string(&record.entry);
    Ok(v1::SearchLogEntry {
        index: record.index,
        entry_json: entry_json.map_err(|e| internal(e.to_string()))?,
    })
}
