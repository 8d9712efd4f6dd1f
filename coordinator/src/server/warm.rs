//! What a standby has read of the records already, so that taking over need not read it all.
//!
//! Only a record whose bytes are those that are stored is used: whatever was not followed, or followed
//! wrongly, is read when it is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::model::{Record, RecordError};
use crate::store::etcd::{Changed, Following};

/// Changes are read at most this often, so that a record which changes all the time costs little.
const PACE: Duration = Duration::from_millis(100);

/// Records by key, each with the bytes that it was read from.
#[derive(Debug, Default)]
pub(super) struct Warm(HashMap<String, (Bytes, Record)>);

impl Warm {
    fn absorb(&mut self, changed: Vec<Changed>) {
        for (key, value) in changed {
            let read = value.and_then(|value| {
                // What cannot be read is told when it is needed, with its reason.
                let record = Record::decode(&key, &value).ok()?;
                Some((value, record))
            });
            match read {
                Some(read) => drop(self.0.insert(key, read)),
                None => drop(self.0.remove(&key)),
            }
        }
    }

    /// The records that are stored, in the order given.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub(super) fn take(mut self, stored: Vec<(String, Bytes)>) -> Result<Vec<Record>, RecordError> {
        let record = |(key, value): (String, Bytes)| match self.0.remove(&key) {
            Some((known, record)) if known == value => Ok(record),
            _ => Record::decode(&key, &value),
        };
        stored.into_iter().map(record).collect()
    }
}

/// Reads what changes, beside everything else, until nothing is followed any more.
pub(super) async fn keep(mut following: Following, warm: Arc<Mutex<Warm>>) {
    loop {
        let changed = following.records();
        if !changed.is_empty() {
            let warm = Arc::clone(&warm);
            let absorb = move || locked(&warm).absorb(changed);
            if tokio::task::spawn_blocking(absorb).await.is_err() {
                // What it had not read is read when it is needed.
                tracing::error!("reading records ahead has failed");
            }
            tokio::time::sleep(PACE).await;
        }
        if !following.changed().await {
            return;
        }
    }
}

/// Everything that was read, and nothing afterwards.
pub(super) fn taken(warm: &Mutex<Warm>) -> Warm {
    std::mem::take(&mut locked(warm))
}

fn locked(warm: &Mutex<Warm>) -> std::sync::MutexGuard<'_, Warm> {
    // A panic leaves records that were read wholly: each is one insertion.
    warm.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use trainyard_common::ids::WorkerId;

    use super::*;
    use crate::cluster::model::WorkerRecord;

    fn record(drained_ms: u64) -> (String, Bytes, Record) {
        let record = Record::Worker(WorkerRecord {
            worker: WorkerId("w".to_owned()),
            drained_ms,
        });
        let bytes = record.encode().unwrap().into();
        (record.key().0, bytes, record)
    }

    #[test]
    fn only_what_is_stored_is_used() {
        let ((key, old, first), (_, new, second)) = (record(1), record(2));
        let warm = |changed: Vec<Changed>| {
            let mut warm = Warm::default();
            warm.absorb(changed);
            warm
        };
        let followed = vec![(key.clone(), Some(old.clone()))];
        let stored = |bytes: &Bytes| vec![(key.clone(), bytes.clone())];
        let same = warm(followed.clone()).take(stored(&old));
        assert_eq!(same.unwrap(), std::slice::from_ref(&first));
        // It missed a change.
        let behind = warm(followed.clone()).take(stored(&new));
        assert_eq!(behind.unwrap(), [second]);
        // It saw something that is not there, or nothing.
        assert_eq!(warm(followed.clone()).take(Vec::new()).unwrap(), []);
        let gone = [followed, vec![(key.clone(), None)]].concat();
        assert_eq!(warm(gone).take(stored(&old)).unwrap(), [first]);
        let garbage = Bytes::from_static(b"{}");
        let unread = warm(vec![(key.clone(), Some(garbage.clone()))]);
        assert!(unread.take(stored(&garbage)).is_err());
    }
}
