//! PURE: which coordinator to ask next, until the one that leads is found.
//!
//! A client or a worker knows one or more addresses. One that does not lead names the leader where it
//! knows it: that one is asked first, then the others, each once in a round; then comes a pause. Opens
//! no connection and reads no clock.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Addresses off the list that are followed in one round: a chain of coordinators that each name
/// another ends.
const MAX_HINTS: usize = 4;

/// Longest part of an answer that is kept for the report.
const MAX_SAID_CHARS: usize = 300;

/// Whether the next address is to be asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    AtOnce,
    /// Every address was asked in this round: wait before the next one.
    AfterPause,
}

/// The search for the leader among known and named addresses.
#[derive(Debug, Clone)]
pub struct LeaderSearch {
    known: Vec<String>,
    /// Index of the known address that is asked when nobody has named another.
    at: usize,
    /// Named by a coordinator, and not on the list.
    named: Option<String>,
    /// Asked in this round, without schemes.
    asked: BTreeSet<String>,
    hints: usize,
    /// What each address said last, in the order in which they were first asked.
    said: Vec<(String, String)>,
}

impl LeaderSearch {
    /// A search among `known`, beginning with the first. Addresses that differ only in their scheme
    /// count once.
    pub fn new(known: impl IntoIterator<Item = String>) -> Self {
        let mut seen = BTreeSet::new();
        let known = known.into_iter();
        let known = known.filter(|address| seen.insert(plain(address).to_owned()));
        Self {
            known: known.collect(),
            at: 0,
            named: None,
            asked: BTreeSet::new(),
            hints: 0,
            said: Vec::new(),
        }
    }

    /// Begins at another of the known addresses, so that many clients do not all ask the first.
    #[must_use]
    pub fn beginning_at(mut self, index: usize) -> Self {
        self.at = index % self.known.len().max(1);
        self
    }

    /// The address to ask now; empty only if none was ever known.
    pub fn current(&self) -> &str {
        let known = self.known.get(self.at).map_or("", String::as_str);
        self.named.as_deref().unwrap_or(known)
    }

    /// All known addresses.
    pub fn known(&self) -> &[String] {
        &self.known
    }

    /// The current address leads: the next failure begins a new round with it.
    pub fn succeeded(&mut self) {
        self.asked.clear();
        self.hints = 0;
        self.said.clear();
    }

    /// The current address does not do; it said so, and perhaps who leads. Moves on.
    pub fn failed(&mut self, said: &str, leader: Option<&str>) -> Next {
        let current = self.current().to_owned();
        self.note(&current, said);
        self.asked.insert(plain(&current).to_owned());
        self.named = None;
        if let Some(leader) = leader.filter(|leader| !leader.is_empty())
            && !self.asked.contains(plain(leader))
            && self.hints < MAX_HINTS
        {
            self.hints += 1;
            match self.known.iter().position(|k| plain(k) == plain(leader)) {
                Some(index) => self.at = index,
                None => self.named = Some(leader.to_owned()),
            }
            return Next::AtOnce;
        }
        let count = self.known.len().max(1);
        let open = (1..=count)
            .map(|step| (self.at + step) % count)
            .find(|index| {
                let address = self.known.get(*index);
                address.is_some_and(|address| !self.asked.contains(plain(address)))
            });
        match open {
            Some(index) => {
                self.at = index;
                Next::AtOnce
            }
            None => {
                self.at = (self.at + 1) % count;
                self.asked.clear();
                self.hints = 0;
                Next::AfterPause
            }
        }
    }

    fn note(&mut self, address: &str, said: &str) {
        let said: String = said.chars().take(MAX_SAID_CHARS).collect();
        match self.said.iter_mut().find(|(known, _)| known == address) {
            Some((_, last)) => *last = said,
            None => {
                // Named addresses come and go; the list stays as long as a round can be.
                if self.said.len() > self.known.len() + MAX_HINTS {
                    self.said.remove(0);
                }
                self.said.push((address.to_owned(), said));
            }
        }
    }

    /// Every address that was asked since the last success and what each said last:
    /// `a:1: refused; b:2: not the leader`.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (address, said) in &self.said {
            let separator = if text.is_empty() { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{address}: {said}");
        }
        text
    }
}

/// An address without its scheme and trailing slash.
fn plain(address: &str) -> &str {
    let address = address.trim().trim_end_matches('/');
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(addresses: &[&str]) -> LeaderSearch {
        LeaderSearch::new(addresses.iter().map(|address| (*address).to_owned()))
    }

    #[test]
    fn each_known_address_is_asked_once_a_round() {
        let mut search = search(&["a:1", "http://b:1", "c:1", "http://a:1"]);
        assert_eq!(search.known().len(), 3, "one address twice");
        for _ in 0..3 {
            let mut asked = BTreeSet::new();
            loop {
                asked.insert(search.current().to_owned());
                if search.failed("refused", None) == Next::AfterPause {
                    break;
                }
            }
            assert_eq!(asked.len(), 3, "{asked:?}");
        }
    }

    #[test]
    fn who_is_named_is_asked_first_and_once() {
        let mut search = search(&["a:1", "b:1", "c:1"]);
        assert_eq!(search.failed("not the leader", Some("c:1")), Next::AtOnce);
        assert_eq!(search.current(), "c:1");
        // It has died meanwhile; the last known one still names it.
        assert_eq!(search.failed("refused", None), Next::AtOnce);
        assert_eq!(search.current(), "b:1");
        assert_eq!(
            search.failed("not the leader", Some("http://c:1")),
            Next::AfterPause
        );
        let report = search.report();
        assert_eq!(
            report,
            "a:1: not the leader; c:1: refused; b:1: not the leader"
        );
    }

    #[test]
    fn one_that_is_not_on_the_list_is_followed_but_no_chain_of_them() {
        let mut search = search(&["service:1"]);
        assert_eq!(
            search.failed("not the leader", Some("pod-1:1")),
            Next::AtOnce
        );
        assert_eq!(search.current(), "pod-1:1");
        search.succeeded();
        assert_eq!(search.current(), "pod-1:1", "stays with the leader");
        assert_eq!(search.failed("gone", None), Next::AtOnce);
        assert_eq!(search.current(), "service:1");
        let mut followed = 0;
        for number in 0..100 {
            let next = search.failed("not the leader", Some(&format!("x{number}:1")));
            if next == Next::AfterPause {
                break;
            }
            followed += 1;
        }
        assert!(followed <= MAX_HINTS, "{followed}");
        assert!(search.said.len() <= 2 + MAX_HINTS);
    }

    #[test]
    fn one_address_is_asked_again_after_each_pause() {
        let mut search = search(&["a:1"]).beginning_at(7);
        for _ in 0..3 {
            assert_eq!(search.current(), "a:1");
            assert_eq!(search.failed("refused", None), Next::AfterPause);
        }
        // Itself is no hint.
        assert_eq!(search.failed("wait", Some("a:1")), Next::AfterPause);
        search.succeeded();
        assert_eq!(search.report(), "");
    }
}
