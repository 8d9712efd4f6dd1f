//! Jobs that are removed: their lines leave the objects that they shared with others.

use super::*;

fn series(job: &str) -> Series {
    Series {
        job: JobId::from(job),
        ..logs()
    }
}

fn line(job: &str, number: usize) -> Append {
    Append {
        series: series(job),
        values: vec![format!("line {number} of {job}").into_bytes()],
    }
}

/// Files of the object store in which a text stands.
fn files_with(place: &Place, text: &str) -> usize {
    let mut folders = vec![place.folder.path().to_owned()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let mut windows = bytes.windows(text.len());
            found += usize::from(windows.any(|part| part == text.as_bytes()));
        }
    }
    found
}

async fn filled(place: &Place, settings: &EtcdSettings) -> (EtcdStore, Term) {
    let store = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    for number in 0..100 {
        let batch = Batch {
            changes: Vec::new(),
            appends: vec![line("gone", number), line("stays", number)],
        };
        store.commit(term, batch).await.unwrap();
    }
    let own = Batch {
        changes: Vec::new(),
        appends: vec![line("gone", 100)],
    };
    store.commit(term, own).await.unwrap();
    assert_eq!(files_with(place, "of gone"), 101);
    (store, term)
}

async fn expect_one(place: &Place, store: &EtcdStore) {
    assert_eq!(files_with(place, "of gone"), 0, "its lines are still there");
    assert_eq!(store.scan(&series("gone"), 0, 999).await.unwrap(), []);
    let left = store.scan(&series("stays"), 0, 999).await.unwrap();
    assert_eq!(left.len(), 100);
    for (number, item) in left.iter().enumerate() {
        assert_eq!(item.sequence, number as u64 + 1);
        assert_eq!(item.value, format!("line {number} of stays").into_bytes());
    }
}

#[tokio::test]
async fn lines_of_a_removed_job_leave_shared_objects() {
    let Some(place) = Place::new("lines_of_a_removed_job_leave_shared_objects", 1) else {
        return;
    };
    for joined in [false, true] {
        let settings = place.settings();
        let (store, term) = filled(&place, &settings).await;
        if joined {
            store.shared.tidy().await.unwrap();
        }
        let job = JobId::from("gone");
        while store.drop_series(term, &job).await.unwrap() {}
        expect_one(&place, &store).await;
        depose(&store).await;
        let next = EtcdStore::connect(settings).await.unwrap();
        next.acquire_term().await.unwrap();
        expect_one(&place, &next).await;
        next.resign().await;
        let folder = place.folder.path().join("objects");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// Wherever the leader dies while it removes them, the next one goes on: as a removal's record asks it to.
#[tokio::test]
async fn a_removal_that_was_cut_is_finished_by_the_next_leader() {
    let Some(place) = Place::new("a_removal_that_was_cut_is_finished_by_the_next_leader", 1) else {
        return;
    };
    let job = JobId::from("gone");
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        for after in 0..2 {
            let settings = place.settings();
            let (first, term) = filled(&place, &settings).await;
            first.shared.etcd.connection.faults.set(fault(after));
            let cut = async {
                while first.drop_series(term, &job).await? {}
                Ok::<_, StoreError>(())
            };
            assert!(cut.await.is_err(), "it needs more writes than {after}");
            depose(&first).await;
            let next = EtcdStore::connect(settings).await.unwrap();
            let term = next.acquire_term().await.unwrap();
            while next.drop_series(term, &job).await.unwrap() {}
            next.shared.collect().await.unwrap();
            expect_one(&place, &next).await;
            next.resign().await;
            std::fs::remove_dir_all(place.folder.path().join("objects")).unwrap();
        }
    }
}

/// A program of the first format took a job's lines out of the names alone: what it left goes, too.
#[tokio::test]
async fn what_the_first_format_left_is_written_anew() {
    let Some(place) = Place::new("what_the_first_format_left_is_written_anew", 1) else {
        return;
    };
    let settings = place.settings();
    let (first, _) = filled(&place, &settings).await;
    let etcd = &first.shared.etcd;
    let segments: Vec<_> = {
        let view = first.shared.view();
        let ids = view.index.ids().into_iter();
        ids.map(|id| (id, view.index.get(id).unwrap().as_ref().clone()))
            .collect()
    };
    let client = etcd.connection.member(0).await.unwrap();
    for (id, mut meta) in segments {
        meta.runs.retain(|run| run.series.job.as_str() != "gone");
        let key = etcd.key(&key_of(id));
        if meta.runs.is_empty() {
            client.kv_client().delete(key, None).await.unwrap();
            continue;
        }
        let mut stored = meta.encode(id);
        stored.truncate(stored.len() - 8);
        stored[0] = 1;
        client.kv_client().put(key, stored, None).await.unwrap();
    }
    depose(&first).await;
    let next = EtcdStore::connect(settings).await.unwrap();
    next.acquire_term().await.unwrap();
    assert!(files_with(&place, "of gone") > 99);
    for _ in 0..10 {
        next.shared.renew_old().await.unwrap();
    }
    next.shared.collect().await.unwrap();
    expect_one(&place, &next).await;
}

/// A job goes although an object that it shares cannot be read: it is no longer told.
#[tokio::test]
async fn a_damaged_object_holds_no_removal_up() {
    let Some(place) = Place::new("a_damaged_object_holds_no_removal_up", 1) else {
        return;
    };
    let settings = place.settings();
    let (first, _) = filled(&place, &settings).await;
    first.shared.tidy().await.unwrap();
    first.resign().await;
    let next = EtcdStore::connect(settings).await.unwrap();
    let term = next.acquire_term().await.unwrap();
    let objects = place.folder.path().join("objects");
    std::fs::remove_dir_all(objects).unwrap();
    let job = JobId::from("gone");
    while next.drop_series(term, &job).await.unwrap() {}
    assert_eq!(next.scan(&series("gone"), 0, 9).await.unwrap(), []);
    let error = next.scan(&series("stays"), 0, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
