//! One suite that every backend passes: what [`Store`] promises, in tests that know no backend.

use trainyard_common::ids::{JobId, Term, TrialId};

use super::memory::MemoryStore;
use super::redb::RedbStore;
use super::{Append, Batch, Change, Series, SeriesKind, Store, StoreError};

fn put(key: &str, value: &str) -> Change {
    Change::Put {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
    }
}

fn delete(key: &str) -> Change {
    Change::Delete {
        key: key.to_owned(),
    }
}

fn changes(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        appends: Vec::new(),
    }
}

fn series(kind: SeriesKind, job: &str, trial: u32) -> Series {
    Series {
        kind,
        job: JobId::from(job),
        trial: TrialId(trial),
    }
}

fn append(series: &Series, values: impl IntoIterator<Item = u64>) -> Batch {
    let values = values.into_iter().map(|v| v.to_le_bytes().to_vec());
    Batch {
        changes: Vec::new(),
        appends: vec![Append {
            series: series.clone(),
            values: values.collect(),
        }],
    }
}

async fn records(store: &impl Store) -> Vec<(String, String)> {
    let all = store.load().await.unwrap();
    all.into_iter()
        .map(|(key, value)| (key, String::from_utf8(value).unwrap()))
        .collect()
}

/// (sequence, value) of a scan.
async fn scan(store: &impl Store, series: &Series, after: u64, limit: usize) -> Vec<(u64, u64)> {
    let items = store.scan(series, after, limit).await.unwrap();
    items
        .into_iter()
        .map(|item| {
            let value = item.value.try_into().unwrap();
            (item.sequence, u64::from_le_bytes(value))
        })
        .collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Terms grow, and only the newest may write; a refused batch leaves nothing behind.
async fn terms(store: impl Store) {
    assert!(store.load().await.unwrap().is_empty());
    let first = store.acquire_term().await.unwrap();
    store
        .commit(first, changes(vec![put("a", "1")]))
        .await
        .unwrap();
    let second = store.acquire_term().await.unwrap();
    assert!(second > first);
    let logs = series(SeriesKind::Logs, "j-1", 0);
    let mut late = append(&logs, [1]);
    late.changes.push(put("a", "2"));
    let refused = store.commit(first, late).await;
    let Err(StoreError::Deposed { held, newest }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((held, newest), (first, second));
    assert_eq!(records(&store).await, [pair("a", "1")]);
    assert!(scan(&store, &logs, 0, 10).await.is_empty());
    store
        .commit(second, changes(vec![put("a", "3")]))
        .await
        .unwrap();
    assert_eq!(records(&store).await, [pair("a", "3")]);
    let future = store.commit(Term(second.0 + 1), Batch::default()).await;
    assert!(matches!(future, Err(StoreError::Deposed { .. })));
}

/// Records are put, replaced and deleted in the batch's order, and told in the order of keys.
async fn changes_apply_in_order(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let batch = changes(vec![
        put("trial/b", "1"),
        put("job/a", "1"),
        put("trial/a", "1"),
        put("trial/b", "2"),
        delete("trial/a"),
        delete("never"),
    ]);
    store.commit(term, batch).await.unwrap();
    let expected = [pair("job/a", "1"), pair("trial/b", "2")];
    assert_eq!(records(&store).await, expected);
    let batch = changes(vec![delete("trial/b"), put("trial/b", "")]);
    store.commit(term, batch).await.unwrap();
    store.commit(term, Batch::default()).await.unwrap();
    assert_eq!(
        records(&store).await,
        [pair("job/a", "1"), pair("trial/b", "")]
    );
}

/// Items are numbered from 1 within each series; a scan starts after a number and ends at a limit.
async fn series_are_numbered(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let logs = series(SeriesKind::Logs, "j-1", 1);
    // Names that a careless prefix would mix up.
    let others = [
        series(SeriesKind::Points, "j-1", 1),
        series(SeriesKind::Logs, "j-1", 11),
        series(SeriesKind::Logs, "j-11", 1),
        series(SeriesKind::Logs, "j", 1),
    ];
    store
        .commit(term, append(&logs, [10, 20, 30]))
        .await
        .unwrap();
    for (number, other) in (100..).zip(&others) {
        store.commit(term, append(other, [number])).await.unwrap();
    }
    let mut twice = append(&logs, [40]);
    twice.appends.extend(append(&logs, [50]).appends);
    store.commit(term, twice).await.unwrap();
    let all = [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)];
    assert_eq!(scan(&store, &logs, 0, 100).await, all);
    assert_eq!(scan(&store, &logs, 2, 2).await, all[2..4]);
    assert_eq!(scan(&store, &logs, 5, 2).await, []);
    assert_eq!(scan(&store, &logs, u64::MAX, 2).await, []);
    assert_eq!(scan(&store, &logs, 0, 0).await, []);
    for (number, other) in (100..).zip(&others) {
        assert_eq!(scan(&store, other, 0, 100).await, [(1, number)]);
    }
    assert_eq!(
        scan(&store, &series(SeriesKind::Logs, "k", 0), 0, 9).await,
        []
    );
}

/// Beyond its limit a series loses its oldest items, and no number is used again.
async fn series_are_bounded(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    for kind in SeriesKind::ALL {
        let series = series(kind, "j-1", 0);
        let limit = kind.limit();
        store
            .commit(term, append(&series, 1..=limit))
            .await
            .unwrap();
        assert_eq!(scan(&store, &series, 0, 1).await, [(1, 1)]);
        store
            .commit(term, append(&series, [limit + 1, limit + 2]))
            .await
            .unwrap();
        assert_eq!(scan(&store, &series, 0, 1).await, [(3, 3)]);
        assert_eq!(scan(&store, &series, 1, 2).await, [(3, 3), (4, 4)]);
        let last = (limit + 2, limit + 2);
        assert_eq!(scan(&store, &series, limit + 1, 9).await, [last]);
        let kept = scan(&store, &series, 0, usize::MAX).await;
        assert_eq!(kept.len() as u64, limit);
        // More than the limit at once: only the newest remain.
        let lots = limit + 3..=3 * limit;
        store.commit(term, append(&series, lots)).await.unwrap();
        let first = 2 * limit + 1;
        assert_eq!(scan(&store, &series, 0, 1).await, [(first, first)]);
    }
}

/// The holder of an older term writes nothing, whatever it is that it writes.
async fn an_older_term_is_fenced(store: impl Store) {
    let old = store.acquire_term().await.unwrap();
    let points = series(SeriesKind::Points, "j-1", 0);
    let mut batch = append(&points, [1]);
    batch.changes.push(put("a", "1"));
    store.commit(old, batch).await.unwrap();
    let new = store.acquire_term().await.unwrap();
    let deposed = |result: Result<(), StoreError>| {
        assert!(
            matches!(&result, Err(StoreError::Deposed { held, newest }) if (*held, *newest) == (old, new)),
            "{result:?}"
        );
    };
    deposed(store.commit(old, changes(vec![delete("a")])).await);
    deposed(store.commit(old, append(&points, [2])).await);
    deposed(
        store
            .commit(old, changes(vec![put("large", &"x".repeat(1 << 20))]))
            .await,
    );
    deposed(store.drop_series(old, &points.job).await.map(|_| ()));
    assert_eq!(records(&store).await, [pair("a", "1")]);
    assert_eq!(scan(&store, &points, 0, 9).await, [(1, 1)]);
}

/// Values from nothing to a megabyte come back, replaced and deleted like any other.
async fn values_of_every_size(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let sizes = [0, 1, 60 * 1024 - 1, 60 * 1024, 64 * 1024, 1 << 20];
    let text = |size: usize, salt: usize| -> String {
        let letter = |n: usize| char::from(b'a' + ((n * 7 + n / 1000 + salt) % 26) as u8);
        (0..size).map(letter).collect()
    };
    for salt in 0..2 {
        let puts = sizes.map(|size| put(&format!("spec/{size}"), &text(size, salt)));
        store.commit(term, changes(puts.to_vec())).await.unwrap();
        for (key, value) in records(&store).await {
            let size: usize = key["spec/".len()..].parse().unwrap();
            assert_eq!(value.len(), size, "{key}");
            assert!(value == text(size, salt), "{key} has another value");
        }
    }
    // Large becomes small, small large, and all goes.
    let swap = vec![put("spec/1", &text(1 << 20, 3)), put("spec/65536", "small")];
    store.commit(term, changes(swap)).await.unwrap();
    let after: Vec<usize> = records(&store).await.iter().map(|(_, v)| v.len()).collect();
    assert_eq!(after, [0, 1 << 20, 1 << 20, 60 * 1024 - 1, 60 * 1024, 5]);
    let all = sizes.map(|size| delete(&format!("spec/{size}")));
    store.commit(term, changes(all.to_vec())).await.unwrap();
    assert_eq!(records(&store).await, []);
}

/// A batch larger than what a backend may write at one time is written whole.
async fn large_batches(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let value = "v".repeat(2_000);
    let mut batch = changes(
        (0..2_000)
            .map(|n| put(&format!("trial/{n:05}"), &value))
            .collect(),
    );
    let logs = series(SeriesKind::Logs, "j-1", 0);
    batch.appends = append(&logs, 1..=3).appends;
    store.commit(term, batch).await.unwrap();
    assert_eq!(records(&store).await.len(), 2_000);
    let mut batch: Vec<_> = (0..1_999)
        .map(|n| delete(&format!("trial/{n:05}")))
        .collect();
    batch.push(put("trial/01999", "last"));
    store.commit(term, changes(batch)).await.unwrap();
    assert_eq!(records(&store).await, [pair("trial/01999", "last")]);
    assert_eq!(scan(&store, &logs, 0, 9).await, [(1, 1), (2, 2), (3, 3)]);
}

/// A job's series go, those of others stay.
async fn series_are_dropped_by_job(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    for number in 0..40 {
        let mut batch = append(&series(SeriesKind::Logs, "j-1", number), [1, 2]);
        batch
            .appends
            .extend(append(&series(SeriesKind::Points, "j-11", number), [3]).appends);
        store.commit(term, batch).await.unwrap();
    }
    let mut only = append(&series(SeriesKind::Decisions, "j-1", 0), 1..=1_000);
    only.appends
        .extend(append(&series(SeriesKind::Points, "j-1", 0), 1..=20_000).appends);
    store.commit(term, only).await.unwrap();
    let job = JobId::from("j-1");
    let mut calls = 0;
    while store.drop_series(term, &job).await.unwrap() {
        calls += 1;
        assert!(calls < 1_000, "it never ends");
    }
    for number in 0..40 {
        for kind in SeriesKind::ALL {
            assert_eq!(scan(&store, &series(kind, "j-1", number), 0, 9).await, []);
        }
        let other = series(SeriesKind::Points, "j-11", number);
        assert_eq!(scan(&store, &other, 0, 9).await, [(1, 3)]);
    }
    assert!(
        !store
            .drop_series(term, &JobId::from("never"))
            .await
            .unwrap()
    );
}

/// Readers beside a writer see each series grow by whole commits, without gap or repetition.
async fn scans_beside_commits(store: impl Store) {
    const COMMITS: u64 = 60;
    let term = store.acquire_term().await.unwrap();
    let logs = series(SeriesKind::Logs, "j-1", 0);
    let writer = async {
        for number in 0..COMMITS {
            let values = [0, 1, 2].map(|n| 3 * number + n + 1);
            store.commit(term, append(&logs, values)).await.unwrap();
        }
    };
    let reader = async {
        let mut after = 0;
        while after < 3 * COMMITS {
            let items = scan(&store, &logs, after, 1_000).await;
            for (sequence, value) in &items {
                assert_eq!((*sequence, *value), (after + 1, after + 1));
                after += 1;
            }
            assert_eq!(after % 3, 0, "a commit was seen in part");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, reader);
}

/// Pages hold what begins with their prefix, in order, and go on where the one before ended.
async fn pages_of_records(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let large = "x".repeat(150_000);
    let batch = changes(vec![
        put("trial/a-1/0", "0"),
        put("trial/a-1/1", &large),
        put("trial/a-1/2", "2"),
        put("trial/a-10/0", "other"),
        put("trial/a-1", "shorter"),
        put("trial/b", "b"),
        put("search/z", "z"),
    ]);
    store.commit(term, batch).await.unwrap();
    let page = async |prefix: &str, after: &str, limit: usize| {
        let found = store.page(prefix, after, limit).await.unwrap();
        let text = |(key, value)| (key, String::from_utf8(value).unwrap());
        found.into_iter().map(text).collect::<Vec<_>>()
    };
    let all = [
        pair("trial/a-1/0", "0"),
        pair("trial/a-1/1", &large),
        pair("trial/a-1/2", "2"),
    ];
    assert_eq!(page("trial/a-1/", "", 9).await, all);
    assert_eq!(page("trial/a-1/", "", 2).await, all[..2]);
    assert_eq!(page("trial/a-1/", "trial/a-1/0", 9).await, all[1..]);
    assert_eq!(page("trial/a-1/", "trial/a-1/2", 9).await, []);
    assert_eq!(page("trial/a-1/", "zzz", 9).await, []);
    assert_eq!(page("trial/a-1/", "", 0).await, []);
    assert_eq!(page("nothing/", "", 9).await, []);
    assert_eq!(
        page("trial/a-1", "", 1).await,
        [pair("trial/a-1", "shorter")]
    );
}

/// Records that are replaced, deleted and put again over several terms are what the last batches made them,
/// with none too many and none too few.
async fn records_over_terms(store: impl Store) {
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..4_u32 {
        let term = store.acquire_term().await.unwrap();
        for batch in 0..5_u32 {
            let mut all = Vec::new();
            for number in 0..30_u32 {
                let key = format!("trial/{}", (number * 7 + round * 5 + batch) % 60);
                if (number + batch) % 4 == 0 {
                    all.push(delete(&key));
                    expected.remove(&key);
                } else {
                    let value = format!("{round} {batch} {number}");
                    all.push(put(&key, &value));
                    expected.insert(key, value);
                }
            }
            store.commit(term, changes(all)).await.unwrap();
        }
        let told = records(&store).await;
        assert!(told.into_iter().eq(expected.clone()), "after round {round}");
    }
}

/// What a job had stays gone under the next term, and what others had, committed with it, stays whole and
/// goes on where it was.
async fn dropped_series_stay_dropped(store: impl Store) {
    let term = store.acquire_term().await.unwrap();
    let (gone, stays) = (
        series(SeriesKind::Logs, "j-1", 0),
        series(SeriesKind::Logs, "j-2", 0),
    );
    for number in 1..=50 {
        let mut both = append(&gone, [number]);
        both.appends.extend(append(&stays, [number]).appends);
        store.commit(term, both).await.unwrap();
    }
    let job = JobId::from("j-1");
    while store.drop_series(term, &job).await.unwrap() {}
    let next = store.acquire_term().await.unwrap();
    assert!(!store.drop_series(next, &job).await.unwrap());
    assert_eq!(scan(&store, &gone, 0, 99).await, []);
    store.commit(next, append(&stays, [51])).await.unwrap();
    let expected: Vec<_> = (1..=51).map(|number| (number, number)).collect();
    assert_eq!(scan(&store, &stays, 0, 99).await, expected);
    assert_eq!(scan(&store, &stays, 40, 3).await, expected[40..43]);
}

pub(super) async fn suite<S: Store>(mut fresh: impl AsyncFnMut() -> S) {
    an_older_term_is_fenced(fresh().await).await;
    values_of_every_size(fresh().await).await;
    large_batches(fresh().await).await;
    series_are_dropped_by_job(fresh().await).await;
    dropped_series_stay_dropped(fresh().await).await;
    records_over_terms(fresh().await).await;
    pages_of_records(fresh().await).await;
    scans_beside_commits(fresh().await).await;
    terms(fresh().await).await;
    changes_apply_in_order(fresh().await).await;
    series_are_numbered(fresh().await).await;
    series_are_bounded(fresh().await).await;
}

#[tokio::test]
async fn memory_conforms() {
    suite(async || MemoryStore::new()).await;
}

#[tokio::test]
async fn redb_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    suite(async || {
        number += 1;
        let path = directory.path().join(number.to_string());
        RedbStore::open(&path).await.unwrap()
    })
    .await;
}
