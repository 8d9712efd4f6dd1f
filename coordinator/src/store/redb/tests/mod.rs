//! The embedded store on real files: reopening, locks, formats, full disks.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};
use trainyard_common::ids::{JobId, TrialId};

use super::super::{Append, Change, FORMAT_VERSION, SeriesKind};
use super::tables::{META, META_FORMAT};
use super::*;

mod damage;
mod upgrade;

fn logs() -> Series {
    Series {
        kind: SeriesKind::Logs,
        job: JobId::from("j-1"),
        trial: TrialId(0),
    }
}

fn batch(value: &str) -> Batch {
    Batch {
        changes: vec![Change::Put {
            key: "a".to_owned(),
            value: value.as_bytes().to_vec(),
        }],
        appends: vec![Append {
            series: logs(),
            values: vec![value.as_bytes().to_vec()],
        }],
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("deep").join("data");
    let store = RedbStore::open(&data).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    store.commit(term, batch("one")).await.unwrap();
    drop(store);
    let store = RedbStore::open(&data).await.unwrap();
    assert_eq!(
        store.load().await.unwrap(),
        [("a".to_owned(), b"one".to_vec())]
    );
    let next = store.acquire_term().await.unwrap();
    assert!(next > term);
    let late = store.commit(term, batch("late")).await;
    assert!(matches!(late, Err(StoreError::Deposed { .. })));
    store.commit(next, batch("two")).await.unwrap();
    let lines = store.scan(&logs(), 0, 9).await.unwrap();
    let lines: Vec<_> = lines
        .iter()
        .map(|item| (item.sequence, &*item.value))
        .collect();
    assert_eq!(lines, [(1, b"one".as_slice()), (2, b"two".as_slice())]);
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = RedbStore::open(directory.path()).await.unwrap();
    let error = RedbStore::open(directory.path()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("another coordinator is using the data directory"),
        "{text}"
    );
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
    drop(first);
    RedbStore::open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn unusable_directories_and_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = RedbStore::open(&file).await.unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    // A directory where the database should be.
    let taken = directory.path().join("taken");
    std::fs::create_dir_all(taken.join(FILE_NAME)).unwrap();
    let error = RedbStore::open(&taken).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    // A file that is no database.
    let other = directory.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join(FILE_NAME), "not a database at all").unwrap();
    let error = RedbStore::open(&other).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let kept = std::fs::read(other.join(FILE_NAME)).unwrap();
    assert_eq!(kept, b"not a database at all");
}

/// Nothing, where there was something once, is told: it is no new cluster.
#[tokio::test]
async fn an_empty_file_is_no_new_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, "").unwrap();
    let error = RedbStore::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("it is empty (0 bytes)"), "{text}");
    assert!(text.contains("move it away"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::remove_file(&path).unwrap();
    drop(RedbStore::open(directory.path()).await.unwrap());
    let names = std::fs::read_dir(directory.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME], "and nothing else was left");
}

/// Of several that make one at the same time one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_begin_at_once_do_not_share() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let open = || RedbStore::open(directory.path());
        let (first, second) = tokio::join!(open(), open());
        let errors = [&first, &second].map(|opened| opened.as_ref().err().map(ToString::to_string));
        let ([Some(error), None] | [None, Some(error)]) = &errors else {
            panic!("{errors:?}");
        };
        assert!(error.starts_with("another coordinator"), "{error}");
        let store = first.or(second).unwrap();
        let term = store.acquire_term().await.unwrap();
        store.commit(term, batch("one")).await.unwrap();
        drop(store);
        let store = open().await.unwrap();
        assert_eq!(store.load().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).await.unwrap();
    let transaction = store.file.begin_write().unwrap();
    let newer = FORMAT_VERSION + 1;
    tables::set_number(
        &mut transaction.open_table(META).unwrap(),
        META_FORMAT,
        newer,
    )
    .unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = RedbStore::open(directory.path()).await.unwrap_err();
    let StoreError::NewerFormat { found, known, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((found, known), (newer, FORMAT_VERSION));
}

/// A disk on which, once it is full, nothing more can be written.
#[derive(Debug, Default, Clone)]
struct FillingDisk {
    disk: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl FillingDisk {
    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for FillingDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.disk.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    let disk = FillingDisk::default();
    let open = || {
        let database = Database::builder()
            .create_with_backend(disk.clone())
            .unwrap();
        let file = opening::with_database(database, Path::new("state.redb")).unwrap();
        RedbStore {
            file: Arc::new(file),
        }
    };
    let store = open();
    let term = store.acquire_term().await.unwrap();
    store.commit(term, batch("one")).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    let error = store.commit(term, batch("two")).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    drop(store);
    disk.full.store(false, Ordering::SeqCst);
    let store = open();
    assert_eq!(
        store.load().await.unwrap(),
        [("a".to_owned(), b"one".to_vec())]
    );
    assert_eq!(store.scan(&logs(), 0, 9).await.unwrap().len(), 1);
}
