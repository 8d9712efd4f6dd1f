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
    pub(super) create_revision: i64,
}

/// Some keys at one moment.
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: i64,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Vec<u8>>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) term: Term,
    pub(super) value: Vec<u8>,
}

impl Holder {
    /// By the leader key's create revision and value.
    pub(super) fn new(create_revision: i64, value: &[u8]) -> Self {
        Self {
            term: Term(u64::try_from(create_revision).unwrap_or(0)),
            value: value.to_vec(),
        }
    }

    /// What the leader said of itself.
    pub(super) fn identity(&self) -> String {
        let value = String::from_utf8_lossy(&self.value);
        let identity = value.split_once(' ').map_or("", |(_, identity)| identity);
        identity.to_owned()
    }
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

    /// Everything under `prefix` at one moment, in the order of keys: at `revision` (0 = now); tells
    /// the revision.
    pub(super) async fn list_at(
        &self,
        prefix: &str,
        revision: i64,
    ) -> Result<(Vec<Entry>, i64), StoreError> {
        let (mut next, end) = self.range(prefix);
        let (mut entries, mut at) = (Vec::new(), revision);
        loop {
            let page = self.page(next, end.clone(), PAGE, at).await?;
            at = page.revision;
            entries.extend(page.entries);
            match page.next {
                Some(further) => next = further,
                None => return Ok((entries, at)),
            }
        }
    }

    /// One page of the keys from `start` to before `end`, at `revision` (0 = now).
    pub(super) async fn page(
        &self,
        start: Vec<u8>,
        end: Vec<u8>,
        limit: i64,
        revision: i64,
    ) -> Result<Page, StoreError> {
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(limit.min(PAGE))
            .with_revision(revision);
        let mut answer = self
            .ask(|client| {
                let (key, options) = (start.clone(), options.clone());
                let mut kv = client
                    .kv_client()
                    .max_decoding_message_size(MAX_ANSWER_BYTES);
                async move { kv.get(key, Some(options)).await }
            })
            .await?;
        let now = answer.header().map_or(0, |header| header.revision());
        let more = answer.more();
        let (mut entries, mut last) = (Vec::new(), Vec::new());
        for pair in answer.take_kvs() {
            let create_revision = pair.create_revision();
            let (key, value) = pair.into_key_value();
            entries.push(Entry {
                key: self.name(&key)?,
                value,
                create_revision,
            });
            last = key;
        }
        last.push(0);
        Ok(Page {
            entries,
            revision: if revision == 0 { now } else { revision },
            next: more.then_some(last),
        })
    }

    /// A key without the prefix.
    pub(super) fn name(&self, key: &[u8]) -> Result<String, StoreError> {
        let name = std::str::from_utf8(key).ok();
        let name = name.and_then(|key| key.strip_prefix(&self.prefix));
        let name = name.ok_or_else(|| {
            self.damaged(format!(
                "key {} is not one of this program's",
                String::from_utf8_lossy(key)
            ))
        })?;
        Ok(name.to_owned())
    }

    /// Where the keys under `prefix` begin, and the first key after them.
    pub(super) fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let start = self.key(prefix);
        (start.clone().into_bytes(), after_prefix(start))
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
    Holder::new(pair.create_revision(), pair.value())
}

/// The first key after all that begin with `prefix`: the last byte one higher. No UTF-8 text ends in a
/// byte that has no successor.
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
    /// For the holder of `term`, after so many writes. Nobody else can write any more, so that the
    /// count stands.
    pub(super) fn new(term: Term, writes: u64, lost: CancellationToken) -> Self {
        Self {
            term,
            writes,
            unsettled: false,
            lost,
        }
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
