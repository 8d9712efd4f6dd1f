//! Data directories of the first format, which had no checksums.

use super::super::tables::first;
use super::*;

const RECORDS: [(&str, &[u8]); 3] = [("job/a", b"{}"), ("job/b", b""), ("spec/a", b"name: a")];
const LINES: [&[u8]; 4] = [b"three", b"four", b"", b"six"];

/// As the program before this one left it, with lines 3 to 6.
async fn first_format(directory: &Path) {
    let database = Database::create(directory.join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("format", 1).unwrap();
        meta.insert("term", 41).unwrap();
    }
    let name = logs().to_string();
    first::write(&transaction, &RECORDS, &name, 3, &LINES).unwrap();
    transaction.commit().unwrap();
}

async fn check(store: &RedbStore, term: u64) {
    let records = store.load().await.unwrap();
    let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), &**v)).collect();
    assert_eq!(records, RECORDS);
    let lines = store.scan(&logs(), 0, 9).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|i| (i.sequence, &*i.value)).collect();
    assert_eq!(
        lines,
        [(3, LINES[0]), (4, LINES[1]), (5, LINES[2]), (6, LINES[3])]
    );
    let term = Term(term);
    assert_eq!(store.acquire_term().await.unwrap(), term);
    let next = Batch {
        changes: Vec::new(),
        appends: batch("seven").appends,
    };
    store.commit(term, next).await.unwrap();
    let last = store.scan(&logs(), 6, 9).await.unwrap();
    assert_eq!(
        (last[0].sequence, &*last[0].value),
        (7, b"seven".as_slice())
    );
}

#[tokio::test]
async fn it_is_read_and_gets_checksums() {
    let directory = tempfile::tempdir().unwrap();
    first_format(directory.path()).await;
    let store = RedbStore::open(directory.path()).await.unwrap();
    check(&store, 42).await;
    let transaction = store.file.begin_read().unwrap();
    assert!(
        !first::is_there(&transaction).unwrap(),
        "nothing is left of it"
    );
    let format = transaction.open_table(META).unwrap();
    let format = tables::number(&format, META_FORMAT).unwrap();
    assert_eq!(format, Some(FORMAT_VERSION));
}

/// Wherever the upgrade is cut, the next start goes on with it, and a program of the first format would
/// not take the rest for all.
#[tokio::test]
async fn an_upgrade_that_was_cut_goes_on() {
    for pieces in 0..9 {
        let directory = tempfile::tempdir().unwrap();
        first_format(directory.path()).await;
        {
            let database = Database::create(directory.path().join(FILE_NAME)).unwrap();
            let file = File::new(database, Path::new(FILE_NAME));
            opening::create_tables(&file).unwrap();
            for _ in 0..pieces {
                let transaction = file.begin_write().unwrap();
                first::upgrade_some(&transaction, 1).unwrap();
                transaction.commit().unwrap();
            }
            let meta = file.begin_read().unwrap().open_table(META).unwrap();
            let format = tables::number(&meta, META_FORMAT).unwrap();
            assert_eq!(format, Some(FORMAT_VERSION));
        }
        let store = RedbStore::open(directory.path()).await.unwrap();
        check(&store, 42).await;
    }
}
