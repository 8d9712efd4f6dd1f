//! Leading: the leader key under a lease, kept alive, and told when it is lost.
//!
//! The key's create revision is the term. A leader that cannot renew its lease counts it as lost after
//! its time, reckoned from before the last renewal was sent: earlier than etcd does. The time is that of
//! a clock which goes on while the machine is suspended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use trainyard_common::ids::Term;

use super::super::StoreError;
use super::clock::Moment;
use super::fenced::{Etcd, Holder, holder_of, told};
use super::follow::Known;
use super::layout::LEADER;

/// A lease is renewed so many times in its life.
const RENEWALS: u32 = 3;

/// A leader looks at its clock at least this often: a machine that comes back from a suspension knows by
/// then that it leads no more.
const CLOCK_LOOK: Duration = Duration::from_millis(200);

/// Who waits for the leader to go looks at least this often, should a watch say nothing.
const LOOK: Duration = Duration::from_secs(1);

/// How long the leader key is tried for before the next look at it.
const CAMPAIGN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a resigning leader asks for its lease to be revoked; it runs out anyway.
const RESIGN_DEADLINE: Duration = Duration::from_secs(2);

/// A leadership that is held. Dropped, its lease is no longer renewed.
pub(super) struct Leadership {
    pub(super) term: Term,
    pub(super) lease: i64,
    /// Cancelled when the lease has run out, or is no longer known to stand.
    pub(super) lost: CancellationToken,
    pub(super) tenure: Arc<Tenure>,
    _renewing: DropGuard,
}

/// Until when a leadership surely stands, by this process's own clock: whoever stood still finds out
/// here, before anything that runs beside it has had its turn.
#[derive(Debug)]
pub(super) struct Tenure {
    term: Term,
    until_ms: AtomicU64,
    lost: CancellationToken,
}

impl Tenure {
    fn new(term: Term, until: Moment, lost: CancellationToken) -> Self {
        Self {
            term,
            until_ms: AtomicU64::new(until.as_millis()),
            lost,
        }
    }

    fn extend(&self, until: Moment) {
        self.until_ms.store(until.as_millis(), Ordering::SeqCst);
    }

    pub(super) fn holds(&self, term: Term) -> bool {
        self.holds_at(term, Moment::now())
    }

    fn holds_at(&self, term: Term, now: Moment) -> bool {
        let until = self.until_ms.load(Ordering::SeqCst);
        self.term == term && now.as_millis() < until && !self.lost.is_cancelled()
    }
}

impl Leadership {
    /// Waits until nobody leads, by what is followed, and takes the lead. `lease` is counted in whole
    /// seconds.
    pub(super) async fn campaign(
        etcd: &Arc<Etcd>,
        lease: Duration,
        identity: &str,
        mut followed: watch::Receiver<Known>,
    ) -> Result<Self, StoreError> {
        // Known by this, even where the answer to becoming leader was lost.
        let value = format!("{} {identity}", uuid::Uuid::new_v4().simple());
        loop {
            if let Some(holder) = etcd.holder().await? {
                let over = followed.wait_for(|known| known.outlasted(holder.term));
                // Where nothing is followed at the moment, it is a look now and then.
                let _ = tokio::time::timeout(LOOK, over).await;
                continue;
            }
            if let Some(leadership) = Self::try_once(etcd, lease, &value).await? {
                return Ok(leadership);
            }
        }
    }

    async fn try_once(
        etcd: &Arc<Etcd>,
        lease: Duration,
        value: &str,
    ) -> Result<Option<Self>, StoreError> {
        let seconds = i64::try_from(lease.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let begun = Moment::now();
        let granted = etcd
            .ask(|mut client| async move { client.lease_grant(seconds, None).await })
            .await?;
        let id = granted.id();
        let lease = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0));
        let Some(holder) = create_leader(etcd, id, value).await? else {
            return Ok(None);
        };
        if holder.value != value.as_bytes() {
            // Another was first; the lease must not linger.
            revoke(etcd, id).await;
            return Ok(None);
        }
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let until = begun.after(lease);
        let tenure = Arc::new(Tenure::new(holder.term, until, lost.clone()));
        let renewal = Renewal {
            etcd: Arc::clone(etcd),
            id,
            lease,
            until,
            tenure: Arc::clone(&tenure),
            lost: lost.clone(),
        };
        tokio::spawn(renewal.run(stop.clone()));
        Ok(Some(Self {
            term: holder.term,
            lease: id,
            lost,
            tenure,
            _renewing: stop.drop_guard(),
        }))
    }

    /// Gives the lead back at once, so that the next does not wait for the lease to run out.
    pub(super) async fn resign(self, etcd: &Etcd) {
        let lease = self.lease;
        self.lost.cancel();
        drop(self);
        revoke(etcd, lease).await;
    }
}

/// Who leads after an attempt to create the leader key; `None` where the lease was gone already.
async fn create_leader(etcd: &Etcd, lease: i64, value: &str) -> Result<Option<Holder>, StoreError> {
    let key = etcd.key(LEADER);
    let txn = Txn::new()
        .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(
            key.clone(),
            value,
            Some(PutOptions::new().with_lease(lease)),
        )])
        .or_else([TxnOp::get(key, None)]);
    let until = Instant::now() + CAMPAIGN_DEADLINE;
    let answer = etcd.connection.call(until, |client| {
        let txn = txn.clone();
        async move { client.kv_client().txn(txn).await }
    });
    let answer = match answer.await {
        Ok(answer) => answer,
        // A lease that ran out while nobody answered.
        Err(super::connection::Failure::Refused(reason)) if reason.contains("lease not found") => {
            return Ok(None);
        }
        Err(failure) => return Err(told(etcd, failure)),
    };
    if answer.succeeded() {
        let revision = answer.header().map_or(0, |header| header.revision());
        return Ok(Some(Holder {
            term: Term(u64::try_from(revision).unwrap_or(0)),
            value: value.as_bytes().to_vec(),
        }));
    }
    match answer.op_responses().first() {
        Some(TxnOpResponse::Get(found)) => Ok(found.kvs().first().map(holder_of)),
        _ => Ok(None),
    }
}

/// Ends a lease, and a leadership that is under it.
pub(super) async fn revoke(etcd: &Etcd, lease: i64) {
    let until = Instant::now() + RESIGN_DEADLINE;
    let revoked = etcd.connection.call(until, |mut client| async move {
        client.lease_revoke(lease).await
    });
    if let Err(failure) = revoked.await {
        tracing::debug!(?failure, "a lease was not revoked; it runs out by itself");
    }
}

struct Renewal {
    etcd: Arc<Etcd>,
    id: i64,
    lease: Duration,
    /// When the lease ends unless it is renewed.
    until: Moment,
    tenure: Arc<Tenure>,
    lost: CancellationToken,
}

impl Renewal {
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.renew() => {
                tracing::error!("the lease was not renewed in time: this coordinator leads no more");
                self.lost.cancel();
            }
        }
    }

    /// Returns when the lease is lost.
    async fn renew(&mut self) {
        let id = self.id;
        loop {
            self.pause().await;
            let sent = Moment::now();
            let left = self.until.from(sent);
            if left.is_zero() {
                return;
            }
            let renewed = self
                .etcd
                .connection
                .call(Instant::now() + left, |client| keep(client, id));
            match renewed.await {
                Ok(()) => {
                    self.until = sent.after(self.lease);
                    self.tenure.extend(self.until);
                }
                Err(failure) => {
                    tracing::warn!(?failure, "the lease could not be renewed");
                    return;
                }
            }
        }
    }

    /// Until the next renewal is due. Timers stand still with a suspended machine, so it is in short steps
    /// with a look at the clock.
    async fn pause(&self) {
        let due = Moment::now().after(self.lease / RENEWALS).min(self.until);
        loop {
            let left = due.from(Moment::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(CLOCK_LOOK)).await;
        }
    }
}

async fn keep(mut client: Client, lease: i64) -> Result<(), Error> {
    match client.lease_keep_alive(lease).await {
        Ok(_) => Ok(()),
        // What the client says where etcd does not know the lease any more.
        Err(Error::LeaseKeepAliveError(reason)) if reason == "lease not found" => {
            Err(Error::InvalidArgs(reason))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_with_its_time_or_its_loss() {
        let lost = CancellationToken::new();
        let now = Moment::now();
        let far = now.after(Duration::from_secs(3_600));
        let tenure = Tenure::new(Term(7), far, lost.clone());
        assert!(tenure.holds(Term(7)));
        assert!(!tenure.holds(Term(6)) && !tenure.holds(Term(8)));
        assert!(!tenure.holds_at(Term(7), far), "a machine was suspended");
        tenure.extend(now);
        assert!(!tenure.holds(Term(7)), "its time is over");
        tenure.extend(far);
        assert!(tenure.holds(Term(7)));
        lost.cancel();
        assert!(!tenure.holds(Term(7)), "known to be lost");
    }
}
