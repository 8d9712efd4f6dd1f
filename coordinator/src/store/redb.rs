//! The embedded store: one redb file, synced before a commit is answered, locked by its one opener.
//!
//! Owns the tables and how errors of redb are told. All file work happens on tokio's blocking
//! threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use trainyard_common::ids::{JobId, Term};
use trainyard_common::store_url;

use super::{
    Append, Batch, Change, FORMAT_VERSION, Item, Place, Series, SeriesKind, Store, StoreError,
};

/// Name of the database within the data directory.
const FILE_NAME: &str = "state.redb";

/// Name of the folder with the archives of ended jobs, beside the database.
const ARCHIVES: &str = "archives";

/// Page cache, bytes: the records are small and series are read in short runs.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// `format` and `term`. This table's shape never changes, whatever the format.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");
/// (series, sequence) -> item.
const ITEMS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("items");
/// series -> (lowest kept sequence, next sequence).
const BOUNDS: TableDefinition<'static, &str, (u64, u64)> = TableDefinition::new("bounds");

/// Items that one call of `drop_series` removes: a tenth of a second of work, for which commits wait.
const MAX_DROPPED: usize = 2_000;

const META_FORMAT: &str = "format";
const META_TERM: &str = "term";

/// Clones share the open file; it is closed with the last of them.
#[derive(Debug, Clone)]
pub struct RedbStore {
    file: Arc<File>,
}

#[derive(Debug)]
struct File {
    database: Database,
    path: PathBuf,
}

impl RedbStore {
    /// Opens or makes the database in `directory` (made where missing). Fails where another process
    /// has it open, where it was written by a newer format, or where nothing can be written.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        let path = directory.join(FILE_NAME);
        blocking(path, move |path| {
            std::fs::create_dir_all(&directory).map_err(|error| StoreError::Unusable {
                path: directory.clone(),
                reason: error.to_string(),
            })?;
            let database = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(path)
                .map_err(|error| open_error(&directory, path, error.into()))?;
            Self::with_database(database, path)
        })
        .await
    }

    /// Takes over an open database: checks its format and makes the missing tables.
    fn with_database(database: Database, path: &Path) -> Result<Self, StoreError> {
        let file = File {
            database,
            path: path.to_owned(),
        };
        file.prepare()?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// In a folder beside the database.
    pub(super) fn archives(&self) -> Result<Place, StoreError> {
        let folder = self.file.path.with_file_name(ARCHIVES);
        let shown = folder.display().to_string();
        let (store, base) = store_url::open(&shown).map_err(|error| StoreError::Unusable {
            path: folder,
            reason: error.to_string(),
        })?;
        Ok(Place { store, base, shown })
    }

    async fn on_file<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> Result<T, StoreError> + Send + 'static,
    {
        let file = Arc::clone(&self.file);
        blocking(self.file.path.clone(), move |_| work(&file)).await
    }
}

impl Store for RedbStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        self.on_file(File::acquire_term).await
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.on_file(|file| file.load().map_err(|error| file.error(error)))
            .await
    }

    async fn commit(&self, term: Term, batch: Batch) -> Result<(), StoreError> {
        self.on_file(move |file| file.commit(term, &batch)).await
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let name = series.to_string();
        self.on_file(move |file| {
            file.scan(&name, after, limit)
                .map_err(|error| file.error(error))
        })
        .await
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.on_file(move |file| {
            file.page(&prefix, &after, limit)
                .map_err(|error| file.error(error))
        })
        .await
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let job = job.clone();
        self.on_file(move |file| file.drop_series(term, &job)).await
    }
}

impl File {
    fn prepare(&self) -> Result<(), StoreError> {
        let found = self.format().map_err(|error| self.error(error))?;
        match found {
            Some(found) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
                path: self.path.clone(),
                found,
                known: FORMAT_VERSION,
            }),
            Some(_) => Ok(()),
            None => self.create_tables().map_err(|error| self.error(error)),
        }
    }

    fn format(&self) -> Result<Option<u64>, redb::Error> {
        let transaction = self.database.begin_read()?;
        match transaction.open_table(META) {
            Ok(meta) => Ok(meta.get(META_FORMAT)?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction
            .open_table(META)?
            .insert(META_FORMAT, FORMAT_VERSION)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(ITEMS)?;
        transaction.open_table(BOUNDS)?;
        transaction.commit()?;
        Ok(())
    }

    fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    fn acquire_term(&self) -> Result<Term, StoreError> {
        let next = || -> Result<u64, redb::Error> {
            let transaction = self.begin_write()?;
            let next = term_of(&transaction)? + 1;
            transaction.open_table(META)?.insert(META_TERM, next)?;
            transaction.commit()?;
            Ok(next)
        };
        next().map(Term).map_err(|error| self.error(error))
    }

    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut all = Vec::new();
        for entry in records.iter()? {
            let (key, value) = entry?;
            all.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(all)
    }

    fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut found = Vec::new();
        for entry in records.range(after.max(prefix)..)? {
            let (key, value) = entry?;
            if found.len() == limit || !key.value().starts_with(prefix) {
                break;
            }
            if key.value() > after {
                found.push((key.value().to_owned(), value.value().to_owned()));
            }
        }
        Ok(found)
    }

    /// A transaction under `term`. Dropped without a commit, it leaves nothing behind.
    fn begin_under(&self, term: Term) -> Result<WriteTransaction, StoreError> {
        let transaction = self.begin_write().map_err(|error| self.error(error))?;
        let newest = term_of(&transaction).map_err(|error| self.error(error))?;
        if newest != term.0 {
            return Err(StoreError::Deposed {
                held: term,
                newest: Term(newest),
            });
        }
        Ok(transaction)
    }

    fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let transaction = self.begin_under(term)?;
        let left = drop_some(&transaction, job).map_err(|error| self.error(error))?;
        transaction
            .commit()
            .map_err(|error| self.error(error.into()))?;
        Ok(left)
    }

    fn commit(&self, term: Term, batch: &Batch) -> Result<(), StoreError> {
        let transaction = self.begin_under(term)?;
        let written = || -> Result<(), redb::Error> {
            apply_changes(&transaction, &batch.changes)?;
            apply_appends(&transaction, &batch.appends)
        };
        written().map_err(|error| self.error(error))?;
        transaction
            .commit()
            .map_err(|error| self.error(error.into()))
    }

    fn scan(&self, series: &str, after: u64, limit: usize) -> Result<Vec<Item>, redb::Error> {
        let Some(from) = after.checked_add(1) else {
            return Ok(Vec::new());
        };
        let transaction = self.database.begin_read()?;
        let items = transaction.open_table(ITEMS)?;
        let mut found = Vec::new();
        for entry in items
            .range((series, from)..=(series, u64::MAX))?
            .take(limit)
        {
            let (key, value) = entry?;
            found.push(Item {
                sequence: key.value().1,
                value: value.value().to_owned(),
            });
        }
        Ok(found)
    }

    fn error(&self, error: redb::Error) -> StoreError {
        store_error(&self.path, error)
    }
}

fn term_of(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let meta = transaction.open_table(META)?;
    let term = meta.get(META_TERM)?.map_or(0, |value| value.value());
    Ok(term)
}

fn apply_changes(transaction: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut records = transaction.open_table(RECORDS)?;
    for change in changes {
        match change {
            Change::Put { key, value } => records.insert(key.as_str(), value.as_slice())?,
            Change::Delete { key } => records.remove(key.as_str())?,
        };
    }
    Ok(())
}

fn apply_appends(transaction: &WriteTransaction, appends: &[Append]) -> Result<(), redb::Error> {
    if appends.is_empty() {
        return Ok(());
    }
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    for append in appends {
        let name = append.series.to_string();
        let (mut lowest, mut next) = bounds
            .get(name.as_str())?
            .map_or((1, 1), |value| value.value());
        for value in &append.values {
            items.insert((name.as_str(), next), value.as_slice())?;
            next += 1;
        }
        while next - lowest > append.series.kind.limit() {
            items.remove((name.as_str(), lowest))?;
            lowest += 1;
        }
        bounds.insert(name.as_str(), (lowest, next))?;
    }
    Ok(())
}

/// Removes up to [`MAX_DROPPED`] items of a job; whether there may be more.
fn drop_some(transaction: &WriteTransaction, job: &JobId) -> Result<bool, redb::Error> {
    let mut items = transaction.open_table(ITEMS)?;
    let mut bounds = transaction.open_table(BOUNDS)?;
    let mut left = MAX_DROPPED;
    for kind in SeriesKind::ALL {
        let prefix = format!("{}/{job}/", kind.name());
        loop {
            let first = bounds.range(prefix.as_str()..)?.next().transpose()?;
            let first = first.map(|(name, bound)| (name.value().to_owned(), bound.value()));
            let Some((name, (lowest, next))) = first.filter(|(name, _)| name.starts_with(&prefix))
            else {
                break;
            };
            let end = next.min(lowest.saturating_add(left as u64));
            for number in lowest..end {
                items.remove((name.as_str(), number))?;
            }
            left -= usize::try_from(end - lowest).unwrap_or(left);
            if end < next {
                bounds.insert(name.as_str(), (end, next))?;
                return Ok(true);
            }
            bounds.remove(name.as_str())?;
        }
    }
    Ok(false)
}

/// Runs file work off the async threads. A panic in there (never expected) is told as damage.
async fn blocking<T, F>(path: PathBuf, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
{
    let told = path.clone();
    match tokio::task::spawn_blocking(move || work(&path)).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Io {
            path: told,
            reason: format!("the work on it did not end well: {error}"),
        }),
    }
}

/// An error while opening: what cannot be written or locked is the directory's fault.
fn open_error(directory: &Path, path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse {
            path: directory.to_owned(),
        },
        redb::Error::Io(io) if !is_full(&io) && io.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Unusable {
                path: directory.to_owned(),
                reason: format!("{FILE_NAME}: {io}"),
            }
        }
        other => store_error(path, other),
    }
}

fn store_error(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(io) if is_full(&io) => StoreError::DiskFull { path },
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Damaged {
                path,
                reason: io.to_string(),
            }
        }
        redb::Error::Corrupted(reason) => StoreError::Damaged { path, reason },
        redb::Error::UpgradeRequired(version) => StoreError::Damaged {
            path,
            reason: format!("its redb file format {version} is too old"),
        },
        other => StoreError::Io {
            path,
            reason: other.to_string(),
        },
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use trainyard_common::ids::{JobId, TrialId};

    use super::super::SeriesKind;
    use super::*;

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

    #[tokio::test]
    async fn a_newer_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = RedbStore::open(directory.path()).await.unwrap();
        let transaction = store.file.begin_write().unwrap();
        let newer = FORMAT_VERSION + 1;
        transaction
            .open_table(META)
            .unwrap()
            .insert(META_FORMAT, newer)
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
            RedbStore::with_database(database, Path::new("state.redb")).unwrap()
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
}
