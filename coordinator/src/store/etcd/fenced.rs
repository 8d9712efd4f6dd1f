//! Reads, and fenced writes that know whether they were applied.
//!
//! Every write is one transaction that compares the leader key's create revision with the term and the
//! count of writes with what it was, and sets the count one higher. So a deposed leader changes
//! nothing; an answer that was lost is found out by asking again; and a request that was given up for
//! lost and arrives late does nothing any more.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, KeyValue, Txn, TxnOp,
    TxnOpResponse,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_common::ids::Term;

use super::super::StoreError;
use super::connection::{Connection, Failure};
use super::layout::{LEADER, Operation, WRITES};
use super::settings::EtcdSettings;

/// How long a read is tried: longer than an election among etcd's members.
const READ_DEADLINE: Duration = Duration::from_secs(20);

/// How long a write is tried while the lease lasts. Without an answer for so long something is wrong
/// that waiting does not mend.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// Keys that are read with one request; with the largest values that is 30 MB.
const PAGE: i64 = 500;

/// Longest answer that is taken in.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Clients and the prefix.
pub(super) struct Etcd {
    pub(super) connection: Connection,
    prefix: String,
}

/// What one key holds.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Without the prefix.
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

/// Who leads.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) term: Term,
    pub(super) value: Vec<u8>,
}

impl Etcd {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::new(settings)?,
            prefix: settings.prefix.clone(),
        })
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Asks until `READ_DEADLINE`.
    pub(super) async fn ask<T, F, R>(&self, request: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        let until = Instant::now() + READ_DEADLINE;
        let answer = self.connection.call(until, request).await;
        answer.map_err(|failure| self.connection.error(failure))
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_at(name, 0).await
    }

    /// As it was at `revision` (0 = now).
    pub(super) async fn get_at(
        &self,
        name: &str,
        revision: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.get_pair(name, revision).await?;
        Ok(found.map(|pair| pair.value().to_vec()))
    }

    async fn get_pair(&self, name: &str, revision: i64) -> Result<Option<KeyValue>, StoreError> {
        let key = self.key(name);
        let options = GetOptions::new().with_revision(revision);
        let mut answer = self
            .ask(|client| {
                let (key, options) = (key.clone(), options.clone());
                async move { client.kv_client().get(key, Some(options)).await }
            })
            .await?;
        Ok(answer.take_kvs().pop())
    }

    /// Who leads now, if anybody does.
    pub(super) async fn holder(&self) -> Result<Option<Holder>, StoreError> {
        let found = self.get_pair(LEADER, 0).await?;
        Ok(found.map(|pair| holder_of(&pair)))
    }

    /// Everything under `prefix` at one moment, in the order of keys.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        Ok(self.list_at(prefix, 0, false).await?.0)
    }

    /// The keys alone.
    pub(super) async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let entries = self.list_at(prefix, 0, true).await?.0;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    /// As [`Etcd::list`] at `revision` (0 = now); tells the revision.
    pub(super) async fn list_at(
        &self,
        prefix: &str,
        revision: i64,
        keys_only: bool,
    ) -> Result<(Vec<Entry>, i64), StoreError> {
        let (start, end) = (self.key(prefix), after_prefix(self.key(prefix)));
        let all = usize::MAX;
        self.range(start.into_bytes(), end, revision, keys_only, all)
            .await
    }

    /// Under `prefix` and above `after`, at most `limit`.
    pub(super) async fn list_above(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut start = self.key(after.max(prefix)).into_bytes();
        if after >= prefix {
            start.push(0);
        }
        let end = after_prefix(self.key(prefix));
        if limit == 0 || start >= end {
            return Ok(Vec::new());
        }
        Ok(self.range(start, end, 0, false, limit).await?.0)
    }

    async fn range(
        &self,
        mut next: Vec<u8>,
        end: Vec<u8>,
        mut revision: i64,
        keys_only: bool,
        limit: usize,
    ) -> Result<(Vec<Entry>, i64), StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let left = i64::try_from(limit - entries.len()).unwrap_or(i64::MAX);
            let mut options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE.min(left))
                .with_revision(revision);
            if keys_only {
                options = options.with_keys_only();
            }
            let mut answer = self
                .ask(|client| {
                    let (key, options) = (next.clone(), options.clone());
                    let mut kv = client
                        .kv_client()
                        .max_decoding_message_size(MAX_ANSWER_BYTES);
                    async move { kv.get(key, Some(options)).await }
                })
                .await?;
            if revision == 0 {
                revision = answer.header().map_or(0, |header| header.revision());
            }
            let more = answer.more();
            for pair in answer.take_kvs() {
                let (key, value) = pair.into_key_value();
                next.clone_from(&key);
                next.push(0);
                entries.push(self.entry(&key, value)?);
            }
            if !more || entries.len() >= limit {
                return Ok((entries, revision));
            }
        }
    }

    fn entry(&self, key: &[u8], value: Vec<u8>) -> Result<Entry, StoreError> {
        let name = std::str::from_utf8(key).ok();
        let name = name.and_then(|key| key.strip_prefix(&self.prefix));
        let name = name.ok_or_else(|| {
            self.damaged(format!(
                "key {} is not one of this program's",
                String::from_utf8_lossy(key)
            ))
        })?;
        Ok(Entry {
            key: name.to_owned(),
            value,
        })
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            path: self.connection.name(),
            reason: reason.into(),
        }
    }

    fn operation(&self, operation: Operation) -> TxnOp {
        match operation {
            Operation::Put { key, value } => TxnOp::put(self.key(&key), value, None),
            Operation::Delete { key } => TxnOp::delete(self.key(&key), None),
            Operation::DeletePrefix { prefix } => {
                let end = after_prefix(self.key(&prefix));
                let range = DeleteOptions::new().with_range(end);
                TxnOp::delete(self.key(&prefix), Some(range))
            }
        }
    }
}

pub(super) fn holder_of(pair: &KeyValue) -> Holder {
    Holder {
        term: Term(u64::try_from(pair.create_revision()).unwrap_or(0)),
        value: pair.value().to_vec(),
    }
}

/// The first key after all that begin with `prefix`: the last byte one higher. Every prefix of ours ends
/// in a letter, a digit or `/`, which have successors.
fn after_prefix(prefix: String) -> Vec<u8> {
    let mut end = prefix.into_bytes();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Writes under one term, one after the other.
pub(super) struct Writer {
    pub(super) term: Term,
    /// How many writes there have been, of all terms.
    writes: u64,
    /// A write was begun whose end is not known: another one could take its success for its own.
    unsettled: bool,
    /// The lease has run out.
    lost: CancellationToken,
}

impl Writer {
    /// For the holder of `term`. Nobody else can write any more, so that the count stands.
    pub(super) async fn open(
        etcd: &Etcd,
        term: Term,
        lost: CancellationToken,
    ) -> Result<Self, StoreError> {
        let writes = match etcd.get(WRITES).await? {
            Some(stored) => {
                count_of(&stored).ok_or_else(|| etcd.damaged("`writes` does not hold a number"))?
            }
            None => 0,
        };
        Ok(Self {
            term,
            writes,
            unsettled: false,
            lost,
        })
    }

    /// The number of the next write: never used before.
    pub(super) fn next_id(&self) -> u64 {
        self.writes + 1
    }

    /// Applies `operations` (which fit one transaction) in one transaction. After an error it is not
    /// known whether they were applied, and this writer must not be used again.
    pub(super) async fn write(
        &mut self,
        etcd: &Etcd,
        operations: Vec<Operation>,
    ) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.unsettled, true) {
            return Err(etcd.connection.error(Failure::Unanswered(
                "whether an earlier write was applied is not known".to_owned(),
            )));
        }
        let txn = self.transaction(etcd, operations);
        let until = Instant::now() + WRITE_DEADLINE;
        let applied = etcd.connection.call(until, |client| {
            let txn = txn.clone();
            send(etcd, client, txn)
        });
        let answer = tokio::select! {
            answer = applied => answer,
            () = self.lost.cancelled() => return Err(StoreError::LeaseLost { held: self.term }),
        };
        let answer = answer.map_err(|failure| etcd.connection.error(failure))?;
        if !answer.succeeded() {
            self.refused(etcd, &answer.op_responses())?;
        }
        self.writes += 1;
        self.unsettled = false;
        Ok(())
    }

    fn transaction(&self, etcd: &Etcd, operations: Vec<Operation>) -> Txn {
        let revision = i64::try_from(self.term.0).unwrap_or(i64::MAX);
        let counted = match self.writes {
            0 => Compare::create_revision(etcd.key(WRITES), CompareOp::Equal, 0),
            writes => Compare::value(etcd.key(WRITES), CompareOp::Equal, writes.to_string()),
        };
        let fenced = Compare::create_revision(etcd.key(LEADER), CompareOp::Equal, revision);
        let mut then = vec![TxnOp::put(
            etcd.key(WRITES),
            (self.writes + 1).to_string(),
            None,
        )];
        then.extend(operations.into_iter().map(|o| etcd.operation(o)));
        let otherwise = [LEADER, WRITES].map(|name| TxnOp::get(etcd.key(name), None));
        Txn::new()
            .when([fenced, counted])
            .and_then(then)
            .or_else(otherwise)
    }

    /// A comparison failed: by an earlier try of the same write, whose answer was lost, or because
    /// the term is over.
    fn refused(&self, etcd: &Etcd, found: &[TxnOpResponse]) -> Result<(), StoreError> {
        let pair = |at: usize| match found.get(at) {
            Some(TxnOpResponse::Get(answer)) => answer.kvs().first(),
            _ => None,
        };
        let newest = pair(0).map(|pair| holder_of(pair).term);
        match newest {
            Some(newest) if newest != self.term => {
                return Err(StoreError::Deposed {
                    held: self.term,
                    newest,
                });
            }
            Some(_) => {}
            None => return Err(StoreError::LeaseLost { held: self.term }),
        }
        let writes = pair(1).and_then(|pair| count_of(pair.value()));
        if writes == Some(self.writes + 1) {
            return Ok(());
        }
        Err(etcd.damaged(format!(
            "`writes` is {writes:?} where {} was expected: something else has written to it",
            self.writes
        )))
    }
}

fn count_of(stored: &[u8]) -> Option<u64> {
    std::str::from_utf8(stored).ok()?.parse().ok()
}

#[cfg(not(test))]
async fn send(_: &Etcd, client: Client, txn: Txn) -> Result<etcd_client::TxnResponse, Error> {
    client.kv_client().txn(txn).await
}

/// As above, with the faults that tests plan.
#[cfg(test)]
async fn send(etcd: &Etcd, client: Client, txn: Txn) -> Result<etcd_client::TxnResponse, Error> {
    use super::faults::Verdict;
    let lost = |reason: &str| Error::IoError(std::io::Error::other(reason.to_owned()));
    let refused = |reason: &str| Error::InvalidArgs(reason.to_owned());
    match etcd.connection.faults.next() {
        Verdict::Pass => client.kv_client().txn(txn).await,
        Verdict::Drop => Err(refused("cut")),
        Verdict::Deafen { last } => {
            client.kv_client().txn(txn).await?;
            Err(if last {
                refused("cut")
            } else {
                lost("answer lost")
            })
        }
    }
}

/// A failure told as an error of this store.
pub(super) fn told(etcd: &Etcd, failure: Failure) -> StoreError {
    etcd.connection.error(failure)
}
