//! The stored form of learning-curve points, log lines and decisions: one JSON object each, with a version.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::AttemptId;
use trainyard_common::text::within;

use crate::cluster::api::{LogText, Point, SeriesDecision};
use crate::cluster::model::Decision;
use crate::store::Item;

/// Version of the forms below. Raise it when an older program would misread what is written.
const FORMAT_VERSION: u32 = 1;

/// Longest kept text of a log line, bytes; the rest is cut off visibly.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024;

/// A stored item that cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeriesError {
    #[error(
        "item {sequence} has format version {found}, newer than {FORMAT_VERSION}, the newest that \
         this program knows"
    )]
    Newer { sequence: u64, found: u32 },
    #[error("item {sequence} cannot be read: {reason}")]
    Damaged { sequence: u64, reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredPoint {
    v: u32,
    pub(crate) step: u64,
    pub(crate) epoch: u64,
    #[serde(with = "trainyard_common::checkpoint::metric_values")]
    pub(crate) metrics: Vec<(String, f64)>,
    pub(crate) time_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredLine {
    v: u32,
    pub(crate) attempt: u32,
    pub(crate) rank: u32,
    pub(crate) time_ms: u64,
    pub(crate) level: String,
    pub(crate) text: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredDecision {
    v: u32,
    pub(crate) what: Decision,
    pub(crate) reason: String,
    pub(crate) attempt: Option<u32>,
    pub(crate) time_ms: u64,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

pub(crate) fn encode_point(point: Point) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&StoredPoint {
        v: FORMAT_VERSION,
        step: point.step,
        epoch: point.epoch,
        metrics: point.metrics,
        time_ms: point.time_ms,
    })
}

pub(crate) fn encode_line(
    attempt: AttemptId,
    rank: u32,
    line: LogText,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&StoredLine {
        v: FORMAT_VERSION,
        attempt: attempt.0,
        rank,
        time_ms: line.time_ms,
        level: line.level,
        text: within(line.text, MAX_LINE_BYTES),
    })
}

pub(crate) fn encode_decision(decision: SeriesDecision) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&StoredDecision {
        v: FORMAT_VERSION,
        what: decision.what,
        reason: decision.reason,
        attempt: decision.attempt.map(|attempt| attempt.0),
        time_ms: decision.time_ms,
    })
}

pub(crate) fn decode_decision(item: &Item) -> Result<StoredDecision, SeriesError> {
    decode(item)
}

pub(crate) fn decode_point(item: &Item) -> Result<StoredPoint, SeriesError> {
    decode(item)
}

pub(crate) fn decode_line(item: &Item) -> Result<StoredLine, SeriesError> {
    decode(item)
}

fn decode<T: for<'de> Deserialize<'de>>(item: &Item) -> Result<T, SeriesError> {
    let damaged = |error: serde_json::Error| SeriesError::Damaged {
        sequence: item.sequence,
        reason: error.to_string(),
    };
    let VersionOnly { v } = serde_json::from_slice(&item.value).map_err(damaged)?;
    if v > FORMAT_VERSION {
        return Err(SeriesError::Newer {
            sequence: item.sequence,
            found: v,
        });
    }
    serde_json::from_slice(&item.value).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use trainyard_common::text::CUT;

    use super::*;

    fn item(value: Vec<u8>) -> Item {
        Item { sequence: 7, value }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let point = Point {
            step: 3,
            epoch: 1,
            metrics: vec![("loss".to_owned(), 0.1), ("mae".to_owned(), f64::INFINITY)],
            end_of_epoch: true,
            epochs_from_zero: false,
            time_ms: 9,
        };
        let back = decode_point(&item(encode_point(point.clone()).unwrap())).unwrap();
        assert_eq!((back.step, back.epoch, back.time_ms), (3, 1, 9));
        assert_eq!(back.metrics, point.metrics);
        let line = LogText {
            time_ms: 5,
            level: "info".to_owned(),
            text: "é".repeat(MAX_LINE_BYTES),
        };
        let back = decode_line(&item(encode_line(AttemptId(2), 1, line).unwrap())).unwrap();
        assert_eq!((back.attempt, back.rank, back.time_ms), (2, 1, 5));
        assert!(back.text.len() <= MAX_LINE_BYTES);
        assert!(back.text.ends_with(CUT));
    }

    #[test]
    fn newer_and_damaged_items_are_refused() {
        let error = decode_point(&item(br#"{"v":2,"other":1}"#.to_vec())).unwrap_err();
        assert!(matches!(error, SeriesError::Newer { found: 2, .. }));
        let error = decode_line(&item(b"{\"v\":1".to_vec())).unwrap_err();
        assert!(matches!(error, SeriesError::Damaged { sequence: 7, .. }));
    }
}
