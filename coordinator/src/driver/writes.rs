//! What a batch of steps wants persisted, gathered for one transaction.

use std::collections::BTreeMap;

use super::{DriverError, series};
use crate::cluster::api::{SeriesDecision, SeriesLog, SeriesPoint, Step};
use crate::cluster::model::{Key, Record};
use crate::store::{Append, Batch, Change, Series, SeriesKind};

/// Of several steps that write one record the last one counts; only that is encoded.
#[derive(Debug, Default)]
pub(super) struct Writes {
    records: BTreeMap<Key, Option<Record>>,
    points: Vec<SeriesPoint>,
    logs: Vec<SeriesLog>,
    decisions: Vec<SeriesDecision>,
}

impl Writes {
    /// Takes what `step` wants written out of it.
    pub(super) fn take(&mut self, step: &mut Step) {
        for record in step.records.drain(..) {
            self.records.insert(record.key(), Some(record));
        }
        for key in step.removed.drain(..) {
            self.records.insert(key, None);
        }
        self.points.append(&mut step.points);
        self.logs.append(&mut step.logs);
        self.decisions.append(&mut step.decisions);
    }

    pub(super) fn into_batch(self) -> Result<Batch, DriverError> {
        let mut changes = Vec::with_capacity(self.records.len());
        for (key, record) in self.records {
            changes.push(match record {
                Some(record) => Change::Put {
                    key: key.0,
                    value: record
                        .encode()
                        .map_err(|error| DriverError::Encode(error.to_string()))?,
                },
                None => Change::Delete { key: key.0 },
            });
        }
        let mut appends: BTreeMap<Series, Vec<Vec<u8>>> = BTreeMap::new();
        let unwritable = |error: serde_json::Error| DriverError::Encode(error.to_string());
        for point in self.points {
            let series = Series {
                kind: SeriesKind::Points,
                job: point.job,
                trial: point.trial,
            };
            let value = series::encode_point(point.point).map_err(unwritable)?;
            appends.entry(series).or_default().push(value);
        }
        for log in self.logs {
            let series = Series {
                kind: SeriesKind::Logs,
                job: log.job,
                trial: log.trial,
            };
            let values = appends.entry(series).or_default();
            for line in log.lines {
                values.push(series::encode_line(log.attempt, log.rank, line).map_err(unwritable)?);
            }
        }
        for decision in self.decisions {
            let series = Series {
                kind: SeriesKind::Decisions,
                job: decision.job.clone(),
                trial: decision.trial,
            };
            let value = series::encode_decision(decision).map_err(unwritable)?;
            appends.entry(series).or_default().push(value);
        }
        Ok(Batch {
            changes,
            appends: appends
                .into_iter()
                .map(|(series, values)| Append { series, values })
                .collect(),
        })
    }
}
