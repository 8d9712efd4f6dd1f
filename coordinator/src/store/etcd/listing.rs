//! Some of the records at one moment, for who asks the leader.

use bytes::Bytes;

use super::super::StoreError;
use super::Shared;
use super::codec::Malformed;
use super::fenced::Entry;
use super::layout::{RECORDS, Value};

impl Shared {
    /// Records whose key begins with `prefix` and is above `after`, in the order of keys, at most `limit`.
    pub(super) async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let etcd = &self.etcd;
        let (mut start, end) = etcd.range(&format!("{RECORDS}{prefix}"));
        if after >= prefix {
            start = etcd.key(&format!("{RECORDS}{after}")).into_bytes();
            start.push(0);
        }
        let mut records = Vec::new();
        let mut revision = 0;
        while start < end && records.len() < limit {
            let left = i64::try_from(limit - records.len()).unwrap_or(i64::MAX);
            let page = {
                // At a moment at which no batch is half carried out; later pages are of the same.
                let _idle = match revision {
                    0 => Some(self.leading.lock().await),
                    _ => None,
                };
                etcd.page(start, end.clone(), left, revision).await?
            };
            revision = page.revision;
            for entry in page.entries {
                records.push(self.whole(entry, revision).await?);
            }
            start = page.next.unwrap_or_else(|| end.clone());
        }
        Ok(records)
    }

    /// A record with its value, whose chunks are read where it has any.
    async fn whole(&self, entry: Entry, revision: i64) -> Result<(String, Vec<u8>), StoreError> {
        let key = entry.key[RECORDS.len()..].to_owned();
        let unreadable = |error: Malformed| {
            let name = &entry.key;
            self.etcd
                .damaged(format!("key {name} cannot be read: {error}"))
        };
        let stored = Bytes::from(entry.value);
        let value = match Value::decode(&key, &stored).map_err(unreadable)? {
            Value::Inline(value) => value.into(),
            Value::Chunked(chunked) => {
                let prefix = chunked.prefix(&key);
                let (chunks, _) = self.etcd.list_at(&prefix, revision).await?;
                let value = chunks.into_iter().flat_map(|chunk| chunk.value).collect();
                chunked.joined(&key, value).map_err(unreadable)?
            }
        };
        Ok((key, value))
    }
}
