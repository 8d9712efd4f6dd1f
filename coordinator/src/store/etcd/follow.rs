//! Following what the leader stores: a standby is warm, and knows at once when the leader goes.
//!
//! Everything is read once, then a watch tells what changes. A watch that breaks or falls silent is
//! begun again, at another member, from where it was; where etcd's history does not reach back so far,
//! everything is read again. What is kept is what is stored, and nothing waits: who looks here sees
//! each key's newest state.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Error, Event, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use trainyard_common::ids::Term;

use super::super::StoreError;
use super::connection::names_token;
use super::fenced::{Etcd, Holder};
use super::layout::RECORDS;
use super::mirror::{Mirror, Seen};
use super::{Leader, Shared};

/// A watch that says nothing for so long is asked for a sign of life, and is over without one for as
/// long again.
const SILENCE: Duration = Duration::from_secs(1);

/// Between tries while etcd does not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest message of a watch. etcd cuts its messages at 2 MiB where it is asked to, but a single key.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How long a new leader waits for what it follows to reach the beginning of its term. Beyond it, it
/// reads everything.
const CATCH_UP: Duration = Duration::from_millis(500);

/// A changed record: its key, and its value unless it was deleted.
pub type Changed = (String, Option<Bytes>);

/// Follows until it is dropped.
pub(super) struct Follower {
    followed: Arc<Followed>,
    _task: AbortOnDropHandle<()>,
}

/// What is known by following.
pub(super) struct Followed {
    state: Mutex<State>,
    standing: watch::Sender<Known>,
}

#[derive(Default)]
struct State {
    mirror: Mirror,
    /// Keys of records that changed since somebody asked. One entry a key, so no more than there are.
    changed: BTreeSet<String>,
}

/// How far the following is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The newest that was seen; 0 = nothing yet.
    revision: i64,
    /// Who led then.
    pub(super) holder: Option<Holder>,
}

impl Known {
    /// Whether the leadership of `term` is over.
    pub(super) fn outlasted(&self, term: Term) -> bool {
        let reached = u64::try_from(self.revision).is_ok_and(|revision| revision >= term.0);
        reached
            && self
                .holder
                .as_ref()
                .is_none_or(|holder| holder.term != term)
    }
}

/// Why a watch is over.
enum Over {
    /// What comes next is no longer in etcd's history.
    Compacted,
    Broken(String),
    /// For its token.
    Refused(String),
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Follower {
    pub(super) fn start(etcd: Arc<Etcd>) -> Self {
        let followed = Arc::new(Followed {
            state: Mutex::default(),
            standing: watch::Sender::default(),
        });
        let task = tokio::spawn(run(etcd, Arc::clone(&followed)));
        Self {
            followed,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(super) fn followed(&self) -> Arc<Followed> {
        Arc::clone(&self.followed)
    }

    /// Everything as it is since the leader of `term` began to lead, once that is known; `None` where it
    /// is not within `patience`. The leader key is followed with all others and in the order of changes:
    /// when it is seen, so is everything that was stored before, and whoever led before can store
    /// nothing any more.
    pub(super) async fn until_led(self, term: Term, patience: Duration) -> Option<Mirror> {
        let mut standing = self.followed.standing.subscribe();
        let reached = |known: &Known| known.holder.as_ref().is_some_and(|h| h.term == term);
        if standing.borrow().revision == 0 {
            // Reading it all directly takes no longer.
            return None;
        }
        let waiting = standing.wait_for(reached);
        tokio::time::timeout(patience, waiting).await.ok()?.ok()?;
        Some(std::mem::take(&mut self.followed.state().mirror))
    }
}

impl Followed {
    /// Who leads and how far this is, now and after each change.
    pub(super) fn standing(&self) -> watch::Receiver<Known> {
        self.standing.subscribe()
    }

    /// The records that have changed since this was asked last, with what they are now.
    pub(super) fn changed(&self) -> Vec<Changed> {
        let mut state = self.state();
        let keys = std::mem::take(&mut state.changed);
        let changed = keys.into_iter().map(|key| {
            let value = state.mirror.record(&key);
            (key, value)
        });
        changed.collect()
    }

    /// What is known now, and the revision from which on it is not.
    #[cfg(test)]
    pub(super) fn mirror(&self) -> Mirror {
        self.state().mirror.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic halfway leaves a mirror that only lacks changes, and its task gone: it is not used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, mirror: Mirror) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.changed.extend(state.mirror.keys_of_records());
        state.changed.extend(mirror.keys_of_records());
        state.mirror = mirror;
        self.tell(&state.mirror);
    }

    fn apply(&self, changes: Vec<Seen>) {
        let mut state = self.state();
        for seen in changes {
            if let Some(key) = seen.key.strip_prefix(RECORDS) {
                state.changed.insert(key.to_owned());
            }
            state.mirror.apply(seen);
        }
        self.tell(&state.mirror);
    }

    fn tell(&self, mirror: &Mirror) {
        self.standing.send_replace(Known {
            revision: mirror.revision(),
            holder: mirror.holder().cloned(),
        });
    }
}

/// What a standby knows of the leader and of what it stores, as it changes.
pub struct Following {
    /// Ends with the following.
    followed: Weak<Followed>,
    standing: watch::Receiver<Known>,
}

impl Following {
    pub(super) fn of(followed: &Arc<Followed>) -> Self {
        Self {
            followed: Arc::downgrade(followed),
            standing: followed.standing(),
        }
    }

    /// Who leads, as far as is known.
    pub fn leader(&self) -> Option<Leader> {
        let known = self.standing.borrow();
        known.holder.as_ref().map(Leader::from)
    }

    /// Waits for a change of anything; false: nothing is followed any more, for this store leads.
    pub async fn changed(&mut self) -> bool {
        self.standing.changed().await.is_ok()
    }

    /// The records that have changed since this was asked last (of the same store), with what they are
    /// now. At first all of them.
    pub fn records(&self) -> Vec<Changed> {
        let followed = self.followed.upgrade();
        followed.map_or_else(Vec::new, |followed| followed.changed())
    }
}

impl Shared {
    /// What is followed; the following begins here where it has not.
    pub(super) fn followed(&self) -> Arc<Followed> {
        let mut follower = self.follower.lock();
        let follower = follower.as_deref_mut();
        let follower = follower.unwrap_or_else(|poisoned| poisoned.get_mut());
        let begin = || Follower::start(Arc::clone(&self.etcd));
        follower.get_or_insert_with(begin).followed()
    }

    /// Everything as it is since this store leads under `term`; the following ends.
    pub(super) async fn since(&self, term: Term) -> Result<Mirror, StoreError> {
        let follower = {
            let mut follower = self.follower.lock();
            let follower = follower.as_deref_mut();
            follower
                .unwrap_or_else(|poisoned| poisoned.get_mut())
                .take()
        };
        if let Some(follower) = follower {
            if let Some(mirror) = follower.until_led(term, CATCH_UP).await {
                return Ok(mirror);
            }
            tracing::info!(%term, "what was followed is behind; everything is read");
        }
        Mirror::read(&self.etcd, 0).await
    }
}

async fn run(etcd: Arc<Etcd>, followed: Arc<Followed>) {
    let mut loaded = false;
    loop {
        if !loaded {
            match Mirror::read(&etcd, 0).await {
                Ok(mirror) => {
                    let revision = mirror.revision();
                    tracing::info!(
                        revision,
                        "a standby is warm: everything that is stored was read"
                    );
                    followed.replace(mirror);
                    loaded = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "what is stored cannot be read; it is tried again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        match watch(&etcd, &followed).await {
            Over::Compacted => {
                tracing::info!("etcd's history was compacted further than this standby was");
                loaded = false;
            }
            Over::Broken(reason) | Over::Refused(reason) => {
                tracing::debug!(reason, "the watch is over; another begins");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Takes in changes until the watch is over.
async fn watch(etcd: &Etcd, followed: &Followed) -> Over {
    let member = etcd.connection.current();
    let over = watch_at(etcd, followed, member).await;
    match &over {
        Over::Broken(_) => etcd.connection.rotate_from(member),
        Over::Refused(_) => etcd.connection.renew(member).await,
        Over::Compacted => {}
    }
    over
}

async fn watch_at(etcd: &Etcd, followed: &Followed, member: usize) -> Over {
    let opened = open(etcd, followed, member);
    let mut stream = match tokio::time::timeout(2 * SILENCE, opened).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return error.into(),
        Err(_) => return Over::Broken("no watch was begun in time".to_owned()),
    };
    let mut asked = false;
    loop {
        let answer = match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Over::Broken("it was ended".to_owned()),
            Ok(Err(error)) => return error.into(),
            Err(_) if asked => return Over::Broken("it fell silent".to_owned()),
            Err(_) => {
                asked = true;
                if let Err(error) = stream.request_progress().await {
                    return error.into();
                }
                continue;
            }
        };
        asked = false;
        if let Err(over) = take_in(etcd, followed, &answer) {
            return over;
        }
    }
}

async fn open(etcd: &Etcd, followed: &Followed, member: usize) -> Result<WatchStream, Error> {
    let next = followed.state().mirror.next();
    let (start, end) = etcd.range("");
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(next)
        .with_fragment();
    let client = etcd.connection.member(member).await?;
    let mut client = client
        .watch_client()
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    client.watch(start, Some(options)).await
}

fn take_in(etcd: &Etcd, followed: &Followed, answer: &WatchResponse) -> Result<(), Over> {
    if answer.compact_revision() > 0 {
        return Err(Over::Compacted);
    }
    if answer.canceled() {
        let reason = answer.cancel_reason().to_owned();
        // Earlier versions of etcd say of a lost token that it permits nothing.
        let refused = names_token(&reason) || reason.contains("permission denied");
        return Err(match refused {
            true => Over::Refused(reason),
            false => Over::Broken(reason),
        });
    }
    let changes = answer.events().iter();
    let changes = changes.filter_map(|event| seen(etcd, event).transpose());
    let changes: Result<Vec<Seen>, StoreError> = changes.collect();
    let changes = changes.map_err(|error| Over::Broken(error.to_string()))?;
    if !changes.is_empty() {
        followed.apply(changes);
    }
    Ok(())
}

fn seen(etcd: &Etcd, event: &Event) -> Result<Option<Seen>, StoreError> {
    let Some(pair) = event.kv() else {
        return Ok(None);
    };
    let put = event.event_type() == EventType::Put;
    Ok(Some(Seen {
        key: etcd.name(pair.key())?,
        value: put.then(|| Bytes::copy_from_slice(pair.value())),
        create_revision: pair.create_revision(),
        revision: pair.mod_revision(),
    }))
}
