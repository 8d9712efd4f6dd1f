//! The workers that are known, by name and by session, and the newest of those that were lost.
//!
//! Owns that a session leads to the one worker that has it, and that no worker is both here and lost.

use std::collections::BTreeMap;

use trainyard_common::ids::WorkerId;

use crate::cluster::model::{Lost, SessionId, Worker};

/// Lost workers that are still shown.
const MAX_LOST: usize = 100;

#[derive(Default)]
pub(in crate::cluster) struct Workers {
    known: BTreeMap<WorkerId, Worker>,
    sessions: BTreeMap<SessionId, WorkerId>,
    lost: BTreeMap<WorkerId, Lost>,
}

impl Workers {
    pub(in crate::cluster) fn get(&self, worker: &WorkerId) -> Option<&Worker> {
        self.known.get(worker)
    }

    /// To be changed, but for its session: that is for `insert` and `disconnect`.
    pub(in crate::cluster) fn get_mut(&mut self, worker: &WorkerId) -> Option<&mut Worker> {
        self.known.get_mut(worker)
    }

    pub(in crate::cluster) fn contains_key(&self, worker: &WorkerId) -> bool {
        self.known.contains_key(worker)
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(in crate::cluster) fn keys(&self) -> impl Iterator<Item = &WorkerId> {
        self.known.keys()
    }

    pub(in crate::cluster) fn values(&self) -> impl Iterator<Item = &Worker> {
        self.known.values()
    }

    /// As `get_mut`.
    pub(in crate::cluster) fn values_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.known.values_mut()
    }

    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.known.iter()
    }

    /// Whose session it is; `None`: nobody's, or not any more.
    pub(in crate::cluster) fn of_session(&self, session: SessionId) -> Option<&WorkerId> {
        self.sessions.get(&session)
    }

    /// The worker is here, in the place of what it was, and under its own session alone.
    pub(in crate::cluster) fn insert(&mut self, worker: Worker) {
        let id = worker.info.worker.clone();
        self.remove(&id);
        self.lost.remove(&id);
        if let Some(session) = worker.session {
            self.sessions.insert(session, id.clone());
        }
        self.known.insert(id, worker);
    }

    /// The worker under this name, or else this one, which has no session yet.
    pub(in crate::cluster) fn get_or_insert(
        &mut self,
        worker: &WorkerId,
        absent: impl FnOnce() -> Worker,
    ) -> &mut Worker {
        self.known.entry(worker.clone()).or_insert_with(absent)
    }

    /// The session has ended; its worker stays.
    pub(in crate::cluster) fn disconnect(&mut self, session: SessionId) -> Option<&mut Worker> {
        let id = self.sessions.remove(&session)?;
        let worker = self.known.get_mut(&id)?;
        worker.session = None;
        Some(worker)
    }

    /// Takes a worker out, and its session with it.
    pub(in crate::cluster) fn remove(&mut self, worker: &WorkerId) -> Option<Worker> {
        let found = self.known.remove(worker)?;
        if let Some(session) = found.session {
            self.sessions.remove(&session);
        }
        Some(found)
    }

    /// Remembers a worker that was lost; the oldest are forgotten first.
    pub(in crate::cluster) fn remember_lost(&mut self, lost: Lost) {
        self.lost.insert(lost.info.worker.clone(), lost);
        while self.lost.len() > MAX_LOST {
            let oldest = self.lost.values().min_by_key(|lost| lost.lost_ms);
            match oldest.map(|lost| lost.info.worker.clone()) {
                Some(oldest) => drop(self.lost.remove(&oldest)),
                None => break,
            }
        }
    }

    pub(in crate::cluster) fn is_lost(&self, worker: &WorkerId) -> bool {
        self.lost.contains_key(worker)
    }

    pub(in crate::cluster) fn forget_lost(&mut self, worker: &WorkerId) {
        self.lost.remove(worker);
    }

    /// The newest ones that were lost.
    pub(in crate::cluster) fn lost(&self) -> impl Iterator<Item = &Lost> {
        self.lost.values()
    }
}

#[cfg(test)]
impl std::ops::Index<&WorkerId> for Workers {
    type Output = Worker;

    fn index(&self, worker: &WorkerId) -> &Worker {
        &self.known[worker]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::bare_worker;

    fn worker(name: &str, session: u64) -> Worker {
        let session = (session > 0).then_some(SessionId(session));
        bare_worker(name, session)
    }

    fn lost(name: &str, lost_ms: u64) -> Lost {
        Lost {
            info: worker(name, 0).info,
            seen_ms: 0,
            lost_ms,
            why: String::new(),
        }
    }

    fn of(workers: &Workers, session: u64) -> Option<&str> {
        workers.of_session(SessionId(session)).map(WorkerId::as_str)
    }

    #[test]
    fn a_session_leads_to_who_has_it() {
        let mut workers = Workers::default();
        workers.insert(worker("a", 1));
        workers.insert(worker("b", 2));
        assert_eq!((of(&workers, 1), of(&workers, 2)), (Some("a"), Some("b")));
        // Another session of the same worker takes the place of the first.
        workers.insert(worker("a", 3));
        assert_eq!((of(&workers, 1), of(&workers, 3)), (None, Some("a")));
        assert!(workers.remove(&"b".into()).is_some());
        assert_eq!(of(&workers, 2), None);
        assert_eq!(workers.keys().collect::<Vec<_>>(), [&WorkerId::from("a")]);
    }

    #[test]
    fn who_is_disconnected_stays_without_a_session() {
        let mut workers = Workers::default();
        workers.insert(worker("a", 1));
        let gone = workers
            .disconnect(SessionId(1))
            .map(|worker| worker.session);
        assert_eq!(gone, Some(None));
        assert!(workers.disconnect(SessionId(1)).is_none());
        assert_eq!(of(&workers, 1), None);
        assert!(workers.contains_key(&"a".into()));
        // Who is known is not replaced.
        let known = workers.get_or_insert(&"a".into(), || unreachable!());
        assert_eq!(known.info.worker, "a".into());
        workers.get_or_insert(&"b".into(), || worker("b", 0));
        assert_eq!(workers.values().count(), 2);
    }

    #[test]
    fn lost_ones_are_bounded_and_found_again() {
        let mut workers = Workers::default();
        for number in 0..=MAX_LOST as u64 {
            workers.remember_lost(lost(&format!("w{number}"), number + 10));
        }
        let first = |workers: &Workers| workers.lost().map(|lost| lost.lost_ms).min();
        assert_eq!(
            (workers.lost().count(), first(&workers)),
            (MAX_LOST, Some(11))
        );
        workers.insert(worker("w1", 1));
        assert_eq!(
            (workers.lost().count(), first(&workers)),
            (MAX_LOST - 1, Some(12))
        );
    }
}
