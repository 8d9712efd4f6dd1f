//! The store on real etcd: the suite of all stores, and what only etcd has.

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use trainyard_common::ids::TrialId;
use trainyard_common::testing::EtcdCluster;

use super::super::{Append, Change, SeriesKind, conformance};
use super::faults::Fault;
use super::segments::Packer;
use super::*;

mod auth;
mod damage;
mod dropped;
mod follow;
mod proxy;
mod size;

/// A cluster, a folder for objects, and a prefix for each store that is asked for.
struct Place {
    cluster: EtcdCluster,
    folder: TempDir,
    number: AtomicU32,
}

impl Place {
    fn new(test: &str, members: usize) -> Option<Self> {
        Some(Self {
            cluster: EtcdCluster::start(test, members)?,
            folder: tempfile::tempdir().unwrap(),
            number: AtomicU32::new(0),
        })
    }

    /// Of a cluster that nobody has used yet.
    fn settings(&self) -> EtcdSettings {
        let url = self.folder.path().join("objects").display().to_string();
        let mut settings = EtcdSettings::new(self.cluster.endpoints(), url);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        settings.prefix = format!("/test-{number}/");
        settings
    }

    async fn fresh(&self) -> EtcdStore {
        EtcdStore::connect(self.settings()).await.unwrap()
    }
}

#[tokio::test]
async fn etcd_conforms() {
    let Some(place) = Place::new("etcd_conforms", 1) else {
        return;
    };
    Box::pin(conformance::suite(async || place.fresh().await)).await;
}

#[tokio::test]
async fn etcd_of_three_members_conforms() {
    let Some(place) = Place::new("etcd_of_three_members_conforms", 3) else {
        return;
    };
    Box::pin(conformance::suite(async || place.fresh().await)).await;
}

/// Ends a leadership as if its lease had run out, without the wait.
async fn depose(store: &EtcdStore) {
    let etcd = &store.shared.etcd;
    let client = etcd.connection.member(0).await.unwrap();
    let key = etcd.key(layout::LEADER);
    client.kv_client().delete(key, None).await.unwrap();
}

/// Every key below the store's prefix, without it.
async fn keys(store: &EtcdStore) -> Vec<String> {
    let entries = store.shared.etcd.list_at("", 0).await.unwrap().0;
    entries.into_iter().map(|entry| entry.key).collect()
}

fn put(key: &str, value: Vec<u8>) -> Change {
    Change::Put {
        key: key.to_owned(),
        value,
    }
}

fn logs() -> Series {
    Series {
        kind: SeriesKind::Logs,
        job: JobId::from("j-1"),
        trial: TrialId(0),
    }
}

fn lines(texts: &[&str]) -> Append {
    Append {
        series: logs(),
        values: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
    }
}

async fn told(store: &EtcdStore) -> Vec<(u64, String)> {
    let items = store.scan(&logs(), 0, usize::MAX).await.unwrap();
    let item = |item: Item| (item.sequence, String::from_utf8(item.value).unwrap());
    items.into_iter().map(item).collect()
}

fn small_batch() -> Batch {
    Batch {
        changes: vec![
            put("job/a", b"before".to_vec()),
            put("spec/a", vec![1; 200_000]),
        ],
        appends: vec![lines(&["one"])],
    }
}

/// Larger than any transaction, with values in chunks, replaced chunks and an object.
fn large_batch() -> Batch {
    let mut changes: Vec<_> = (0..300)
        .map(|number| put(&format!("trial/{number:05}"), vec![7; 8_000]))
        .collect();
    changes.push(put("job/a", b"after".to_vec()));
    changes.push(put("spec/a", vec![2; 150_000]));
    Batch {
        changes,
        appends: vec![lines(&["two", "three"])],
    }
}

async fn expect(store: &EtcdStore, large: bool) {
    let records = store.load().await.unwrap();
    let value = |key: &str| {
        let found = records.iter().find(|(known, _)| known == key);
        found
            .unwrap_or_else(|| panic!("{key} is missing"))
            .1
            .clone()
    };
    let told = told(store).await;
    if large {
        assert_eq!(records.len(), 302);
        assert_eq!(value("job/a"), b"after");
        assert!(value("spec/a") == vec![2; 150_000]);
        assert_eq!(told.len(), 3, "{told:?}");
    } else {
        assert_eq!(records.len(), 2);
        assert_eq!(value("job/a"), b"before");
        assert!(value("spec/a") == vec![1; 200_000]);
        assert_eq!(told, [(1, "one".to_owned())]);
    }
}

/// Whatever request of a large batch a leader dies at, before or after etcd carried it out: the next
/// leader finds all of the batch or none of it, and nothing lies about.
#[tokio::test]
async fn a_batch_is_whole_or_absent_wherever_its_writer_is_cut() {
    let Some(place) = Place::new("a_batch_is_whole_or_absent_wherever_its_writer_is_cut", 1) else {
        return;
    };
    let (mut absent, mut whole) = (0, 0);
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        for after in 0.. {
            let settings = place.settings();
            let first = EtcdStore::connect(settings.clone()).await.unwrap();
            let term = first.acquire_term().await.unwrap();
            first.commit(term, small_batch()).await.unwrap();
            first.shared.etcd.connection.faults.set(fault(after));
            let result = first.commit(term, large_batch()).await;
            if result.is_ok() {
                // It has fewer requests than that.
                assert!(after > 6, "the batch is not large");
                break;
            }
            // A look from outside sees the same as the next leader.
            let next = EtcdStore::connect(settings).await.unwrap();
            let decided = next.load().await.unwrap().len() > 2;
            depose(&first).await;
            let term = next.acquire_term().await.unwrap();
            expect(&next, decided).await;
            *if decided { &mut whole } else { &mut absent } += 1;
            let keys = keys(&next).await;
            let chunks = keys.iter().filter(|key| key.starts_with("c/")).count();
            assert_eq!(chunks, if decided { 3 } else { 4 }, "{keys:?}");
            let staged = |key: &&String| key.starts_with("b/") || *key == layout::PENDING;
            assert_eq!(keys.iter().find(staged), None);
            next.commit(term, large_batch()).await.unwrap();
            let late = first.commit(term, small_batch()).await;
            assert!(late.is_err(), "a cut leader writes again");
        }
    }
    assert!(absent > 3 && whole > 3, "{absent} absent, {whole} whole");
}

/// Each request's answer in turn is lost: the retry finds out that it was carried out.
#[tokio::test]
async fn a_lost_answer_is_found_out() {
    let Some(place) = Place::new("a_lost_answer_is_found_out", 1) else {
        return;
    };
    for after in 0.. {
        let store = place.fresh().await;
        let term = store.acquire_term().await.unwrap();
        store.commit(term, small_batch()).await.unwrap();
        let faults = &store.shared.etcd.connection.faults;
        faults.set(Fault::LoseAnswer(after));
        store.commit(term, large_batch()).await.unwrap();
        expect(&store, true).await;
        if faults.waits() {
            assert!(after > 6, "the batch is not large");
            break;
        }
    }
}

/// A commit that its caller gave up may have been carried out: the next one must not be taken for it.
#[tokio::test]
async fn after_a_commit_that_was_given_up_nothing_is_written() {
    let Some(place) = Place::new("after_a_commit_that_was_given_up_nothing_is_written", 1) else {
        return;
    };
    let store = place.fresh().await;
    let term = store.acquire_term().await.unwrap();
    place.cluster.stop(0);
    let given_up = store.commit(term, small_batch());
    let given_up = tokio::time::timeout(Duration::from_millis(300), given_up).await;
    assert!(given_up.is_err());
    place.cluster.go_on(0);
    let other = Batch {
        changes: vec![put("job/b", b"other".to_vec())],
        appends: Vec::new(),
    };
    let error = store.commit(term, other).await.unwrap_err().to_string();
    assert!(error.contains("not known"), "{error}");
    let records = store.load().await.unwrap();
    assert!(records.iter().all(|(key, _)| key != "job/b"), "{records:?}");
}

/// etcd's leader is killed, another member stands still: commits go on, and none is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_on_while_members_die() {
    let Some(mut place) = Place::new("commits_go_on_while_members_die", 3) else {
        return;
    };
    let mut settings = place.settings();
    settings.lease_ms = 30_000;
    let store = EtcdStore::connect(settings).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    let mut number = 0_u32;
    let mut commit = async |count: u32| {
        for _ in 0..count {
            let batch = Batch {
                changes: vec![put("counter", number.to_string().into_bytes())],
                appends: vec![lines(&[&number.to_string()])],
            };
            store.commit(term, batch).await.unwrap();
            number += 1;
        }
    };
    commit(10).await;
    let leader = place.cluster.leader().expect("one member leads");
    place.cluster.kill(leader);
    commit(10).await;
    place.cluster.restart(leader);
    tokio::task::block_in_place(|| place.cluster.wait_healthy()).unwrap();
    let leader = place.cluster.leader().expect("one member leads");
    place.cluster.stop(leader);
    commit(10).await;
    place.cluster.go_on(leader);
    commit(10).await;
    let expected: Vec<_> = (1..=40).map(|n: u64| (n, (n - 1).to_string())).collect();
    assert_eq!(told(&store).await, expected);
    assert_eq!(
        store.load().await.unwrap(),
        [("counter".to_owned(), b"39".to_vec())]
    );
}

/// A leader whose lease ran out, and who comes back to find nobody leading, writes nothing.
#[tokio::test]
async fn without_a_lease_nothing_is_written() {
    let Some(place) = Place::new("without_a_lease_nothing_is_written", 1) else {
        return;
    };
    let store = place.fresh().await;
    let term = store.acquire_term().await.unwrap();
    assert_eq!(store.leader().await.unwrap().unwrap().term, term);
    depose(&store).await;
    assert_eq!(store.leader().await.unwrap(), None);
    let error = store.commit(term, small_batch()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::LeaseLost { held } if held == term),
        "{error}"
    );
    assert!(store.load().await.unwrap().is_empty());
    assert!(told(&store).await.is_empty());
}

/// etcd is away for longer than the lease: the leader knows by itself that it no longer leads.
#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost() {
    let Some(mut place) = Place::new("a_lease_that_cannot_be_renewed_is_lost", 1) else {
        return;
    };
    let mut settings = place.settings();
    settings.lease_ms = 2_000;
    let store = EtcdStore::connect(settings).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    let lost = store.lost().await.unwrap();
    place.cluster.kill(0);
    let refused = store.commit(term, small_batch()).await.unwrap_err();
    assert!(matches!(refused, StoreError::LeaseLost { .. }), "{refused}");
    assert!(lost.is_cancelled());
}

/// The next coordinator waits while one leads, and leads as soon as that one resigns.
#[tokio::test]
async fn one_leads_and_the_next_follows() {
    let Some(place) = Place::new("one_leads_and_the_next_follows", 1) else {
        return;
    };
    let settings = place.settings();
    let first = EtcdStore::connect(settings.clone()).await.unwrap();
    let mut named = settings.clone();
    named.identity = "b:7070".to_owned();
    let second = EtcdStore::connect(named).await.unwrap();
    let old = first.acquire_term().await.unwrap();
    let waiting = tokio::spawn({
        let second = second.clone();
        async move { second.acquire_term().await }
    });
    first.commit(old, small_batch()).await.unwrap();
    assert!(!waiting.is_finished());
    first.resign().await;
    let new = waiting.await.unwrap().unwrap();
    assert!(new > old);
    let leader = second.leader().await.unwrap().unwrap();
    assert_eq!((leader.term, leader.identity.as_str()), (new, "b:7070"));
    expect(&second, false).await;
    let late = first.commit(old, large_batch()).await.unwrap_err();
    assert!(matches!(late, StoreError::Deposed { held, newest } if (held, newest) == (old, new)));
}

/// Small objects are joined; numbering, content and what a new leader finds stay the same. What no
/// commit names is invisible, and is collected.
#[tokio::test]
async fn objects_are_joined_and_collected() {
    let Some(place) = Place::new("objects_are_joined_and_collected", 1) else {
        return;
    };
    let settings = place.settings();
    let first = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = first.acquire_term().await.unwrap();
    for number in 0..100 {
        let batch = Batch {
            changes: Vec::new(),
            appends: vec![lines(&[&format!("line {number}")])],
        };
        first.commit(term, batch).await.unwrap();
    }
    let before = told(&first).await;
    assert_eq!(before.len(), 100);
    let objects = first.shared.objects().unwrap();
    assert_eq!(objects.list().await.unwrap().len(), 100);
    // A scan that has looked the objects up while they are joined finds the new ones.
    let (tidied, beside) = tokio::join!(first.shared.tidy(), told(&first));
    tidied.unwrap();
    assert_eq!(beside, before);
    let left = objects.list().await.unwrap();
    assert!(left.len() <= 40, "{left:?}");
    assert_eq!(told(&first).await, before);
    // Written by a leader that died before it could name it.
    let mut packer = Packer::default();
    packer.push(&logs(), 101, b"never committed");
    let packed = packer.finish().remove(0);
    let sequence = 999;
    let stray = SegmentId {
        term: term.0,
        sequence,
    };
    objects.create(stray, &packed).await.unwrap();
    depose(&first).await;
    let next = EtcdStore::connect(settings).await.unwrap();
    let new = next.acquire_term().await.unwrap();
    assert_eq!(told(&next).await, before);
    assert_eq!(next.shared.collect().await.unwrap(), 1);
    assert!(!objects.list().await.unwrap().contains(&stray));
    let more = Batch {
        changes: Vec::new(),
        appends: vec![lines(&["line 100"])],
    };
    next.commit(new, more).await.unwrap();
    assert_eq!(
        told(&next).await.last(),
        Some(&(101, "line 100".to_owned()))
    );
}

/// Joining goes on beside the commits of the same leader, and is cut by the next one's take-over.
#[tokio::test]
async fn objects_are_joined_while_a_leader_writes() {
    let Some(place) = Place::new("objects_are_joined_while_a_leader_writes", 1) else {
        return;
    };
    let settings = place.settings();
    let first = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = first.acquire_term().await.unwrap();
    let objects = first.shared.objects().unwrap();
    const COMMITS: usize = 300;
    let written = std::sync::atomic::AtomicBool::new(false);
    let writer = async {
        for number in 0..COMMITS {
            let batch = Batch {
                changes: vec![put("job/a", number.to_string().into_bytes())],
                appends: vec![lines(&[&format!("line {number}")])],
            };
            first.commit(term, batch).await.unwrap();
        }
        written.store(true, Ordering::Relaxed);
    };
    let mut joins = 0;
    let joiner = async {
        while !written.load(Ordering::Relaxed) {
            let before = first.shared.view().index.ids().len();
            first.shared.tidy().await.unwrap();
            joins += usize::from(first.shared.view().index.ids().len() + 16 < before);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, joiner);
    assert!(joins > 1, "{joins} joins beside {COMMITS} commits");
    let expected: Vec<(u64, String)> = (1..)
        .zip(0..COMMITS)
        .map(|(sequence, number)| (sequence, format!("line {number}")))
        .collect();
    assert_eq!(told(&first).await, expected);
    let left = objects.list().await.unwrap();
    assert!(left.len() < 80, "{} objects are left", left.len());
    // In the middle of joining another one takes over: it finds the same lines.
    let small = first
        .shared
        .view()
        .index
        .small(segments::MAX_INPUTS, u64::MAX);
    depose(&first).await;
    assert!(first.shared.join(&small).await.is_err());
    let next = EtcdStore::connect(settings).await.unwrap();
    next.acquire_term().await.unwrap();
    assert_eq!(told(&next).await, expected);
    next.shared.collect().await.unwrap();
    let named = next.shared.view().index.ids();
    let mut left = objects.list().await.unwrap();
    left.retain(|id| !named.contains(id));
    assert!(left.is_empty(), "named by nothing: {left:?}");
    assert_eq!(told(&next).await, expected);
}

/// Nothing that was ever written to etcd has a value above 64 KiB, staged parts and chunks included.
#[tokio::test]
async fn no_value_is_above_64_kib() {
    let Some(place) = Place::new("no_value_is_above_64_kib", 1) else {
        return;
    };
    let store = place.fresh().await;
    let term = store.acquire_term().await.unwrap();
    let name = "n".repeat(60);
    let appends = (0..5_000).map(|trial| Append {
        series: Series {
            kind: SeriesKind::Points,
            job: JobId(format!("{name}-{}", trial % 500)),
            trial: TrialId(trial),
        },
        values: vec![vec![7; 20]; 3],
    });
    let mut changes: Vec<_> = (0..1_000)
        .map(|number| put(&format!("trial/a/{number}"), vec![1; 900]))
        .collect();
    changes.extend(
        [59_999, 60_000, 65_536, 3_000_000]
            .map(|bytes| put(&format!("spec/{bytes}"), vec![2; bytes])),
    );
    let appends = appends.collect();
    store
        .commit(term, Batch { changes, appends })
        .await
        .unwrap();
    store
        .drop_series(term, &JobId(format!("{name}-7")))
        .await
        .unwrap();
    let client = store.shared.etcd.connection.member(0).await.unwrap();
    let options = etcd_client::WatchOptions::new()
        .with_prefix()
        .with_start_revision(1);
    let prefix = store.shared.etcd.key("");
    let mut watch = client
        .watch_client()
        .max_decoding_message_size(64 * 1024 * 1024)
        .watch(prefix, Some(options))
        .await
        .unwrap();
    let now = client.kv_client().get("x", None).await.unwrap();
    let now = now.header().unwrap().revision();
    let (mut largest, mut seen, mut values) = (0, 0, 0);
    while seen < now {
        let message = watch.message().await.unwrap().expect("the watch goes on");
        for event in message.events() {
            let pair = event.kv().unwrap();
            seen = seen.max(pair.mod_revision());
            largest = largest.max(pair.value().len());
            values += 1;
        }
    }
    assert!(values > 1_000, "{values} values were written");
    assert!((50_000..=65_536).contains(&largest), "{largest} bytes");
}

/// An object whose bytes are not what was written is refused, not told.
#[tokio::test]
async fn a_damaged_object_is_refused() {
    let Some(place) = Place::new("a_damaged_object_is_refused", 1) else {
        return;
    };
    let settings = place.settings();
    let first = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = first.acquire_term().await.unwrap();
    first.commit(term, small_batch()).await.unwrap();
    first.resign().await;
    let mut folders = vec![place.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
    let next = EtcdStore::connect(settings).await.unwrap();
    next.acquire_term().await.unwrap();
    let error = next.scan(&logs(), 0, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("digest"), "{error}");
}

/// etcd's history goes, what is stored stays; a layout of a newer program is refused.
#[tokio::test]
async fn history_is_compacted_and_newer_layouts_are_refused() {
    let Some(place) = Place::new("history_is_compacted_and_newer_layouts_are_refused", 1) else {
        return;
    };
    let settings = place.settings();
    let store = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    store.commit(term, small_batch()).await.unwrap();
    let revision = store.shared.compact_history(0).await.unwrap();
    store.commit(term, large_batch()).await.unwrap();
    store.shared.compact_history(revision).await.unwrap();
    store.shared.compact_history(revision).await.unwrap();
    let gone = store.shared.etcd.get_at("format", revision - 1).await;
    assert!(gone.is_err(), "history before {revision} is still there");
    expect(&store, true).await;
    store.shared.look_at_size().await.unwrap();
    assert_eq!(store.notes(), Vec::<String>::new());
    let client = store.shared.etcd.connection.member(0).await.unwrap();
    let key = store.shared.etcd.key("format");
    client.kv_client().put(key, "99", None).await.unwrap();
    let error = EtcdStore::connect(settings).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NewerFormat { found: 99, .. }),
        "{error}"
    );
}
