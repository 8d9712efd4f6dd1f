//! Bits that change on the disk: what is read is right, or an error that says where; never other data,
//! never a panic.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::*;

/// Bits that are changed, one after the other, each in a fresh copy.
const FLIPS: u64 = 300;

/// What a store holds.
#[derive(Debug, Default, PartialEq)]
struct Content {
    records: Vec<(String, Vec<u8>)>,
    series: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same positions in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

fn all_series() -> Vec<Series> {
    let of = |trial| {
        SeriesKind::ALL.map(|kind| Series {
            kind,
            job: JobId::from("j-1"),
            trial: TrialId(trial),
        })
    };
    (0..4).flat_map(of).collect()
}

/// A database as a coordinator leaves it: records replaced and deleted, series longer than a page.
async fn fill(store: &RedbStore) {
    let term = store.acquire_term().await.unwrap();
    for round in 0..8_usize {
        let put = |number: usize| Change::Put {
            key: format!("trial/j-1/{number:010}"),
            value: format!("{{\"round\":{round},\"number\":{number}}}")
                .repeat(1 + number % 7)
                .into_bytes(),
        };
        let mut changes: Vec<_> = (round * 10..round * 10 + 60).map(put).collect();
        changes.push(Change::Put {
            key: "spec/j-1".to_owned(),
            value: vec![b'a' + round as u8; 30_000],
        });
        changes.push(Change::Delete {
            key: format!("trial/j-1/{:010}", round * 10),
        });
        let lines = |series: Series| Append {
            values: (0..40)
                .map(|n| format!("{series} line {n} of {round}").into_bytes())
                .collect(),
            series,
        };
        let appends = all_series().into_iter().map(lines).collect();
        store
            .commit(term, Batch { changes, appends })
            .await
            .unwrap();
    }
}

async fn read(store: &RedbStore) -> Result<Content, StoreError> {
    let mut content = Content {
        records: store.load().await?,
        ..Content::default()
    };
    let paged = store.page("trial/", "", usize::MAX).await?;
    let trials = content.records.iter();
    let trials = trials.filter(|(key, _)| key.starts_with("trial/"));
    assert!(paged.iter().eq(trials), "a page says something else");
    for series in all_series() {
        let items = store.scan(&series, 0, usize::MAX).await?;
        let items = items.into_iter().map(|item| (item.sequence, item.value));
        content.series.insert(series.to_string(), items.collect());
    }
    Ok(content)
}

/// What became of the flips.
#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    failed: u32,
    right: u32,
}

/// Changes bits all over a file that was closed well. `check`: whether it is checked as it is opened.
async fn flip_bits(seed: u64, check: bool) -> Tally {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    let expected = read(&store).await.unwrap();
    assert!(expected.records.len() > 100 && expected.series.len() == 12);
    drop(store);
    let file = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
    let used: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0).collect();
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for number in 0..FLIPS {
        // Most of the file is empty: three of four are where something is, some of them in the header.
        let at = match number % 8 {
            0 => random.below(400),
            1 => random.below(file.len()),
            _ => used[random.below(used.len())],
        };
        let bit = random.below(8);
        let place = format!("seed {seed}, byte {at}, bit {bit}");
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join(FILE_NAME);
        let mut damaged = file.clone();
        damaged[at] ^= 1 << bit;
        std::fs::write(&path, &damaged).unwrap();
        let opened = opening::existing(copy.path(), &path, check);
        let store = match opened {
            Ok(file) => RedbStore {
                file: Arc::new(file),
            },
            Err(error) => {
                assert!(error.to_string().contains("state.redb"), "{place}: {error}");
                tally.refused += 1;
                continue;
            }
        };
        match read(&store).await {
            Ok(content) => {
                assert!(content == expected, "{place}: other data");
                tally.right += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("is damaged"), "{place}: {error}");
                assert!(!error.is_retryable(), "{place}: {error}");
                tally.failed += 1;
            }
        }
        // A term that has gone back would let an old leader's words pass.
        if let Ok(term) = store.acquire_term().await {
            assert_eq!(term, Term(2), "{place}");
        }
    }
    tally
}

#[tokio::test]
async fn changed_bits_are_found_when_a_file_is_opened() {
    let tally = flip_bits(1, true).await;
    println!("{tally:?}");
    assert_eq!(tally.failed, 0, "all that is stored was checked: {tally:?}");
    assert!(tally.refused > 50 && tally.right > 20, "{tally:?}");
}

/// As for a file that is too large to be read through at the start.
#[tokio::test]
async fn changed_bits_are_found_when_they_are_read() {
    let tally = flip_bits(2, false).await;
    println!("{tally:?}");
    assert!(tally.failed > 50 && tally.right > 20, "{tally:?}");
}

/// A value that was changed or moved in a file whose pages are in order is an error that names it; all
/// others are answered.
#[tokio::test]
async fn a_wrong_value_is_named_and_the_others_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    for value in ["one", "two", "three"] {
        store.commit(term, batch(value)).await.unwrap();
    }
    let transaction = store.file.begin_write().unwrap();
    {
        let mut items = transaction.open_table(tables::ITEMS).unwrap();
        let name = logs().to_string();
        let first = items.get((name.as_str(), 1)).unwrap();
        let first = first.unwrap().value().to_vec();
        items.insert((name.as_str(), 2), first.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    let named = |error: StoreError, table: &str, key: &str| {
        let text = error.to_string();
        assert!(
            text.contains(&format!("table {table}, key {key}: ")),
            "{text}"
        );
    };
    let error = store.scan(&logs(), 0, 9).await.unwrap_err();
    named(error, "items", "logs/j-1/0/2");
    assert_eq!(store.scan(&logs(), 0, 1).await.unwrap()[0].value, b"one");
    assert_eq!(store.scan(&logs(), 2, 9).await.unwrap()[0].value, b"three");

    let transaction = store.file.begin_write().unwrap();
    transaction
        .open_table(tables::ITEMS)
        .unwrap()
        .remove((logs().to_string().as_str(), 2))
        .unwrap();
    transaction.commit().unwrap();
    let error = store.scan(&logs(), 1, 9).await.unwrap_err();
    named(error, "items", "logs/j-1/0/2");

    // An older value of a record is a value that was written once, under that very key.
    let transaction = store.file.begin_write().unwrap();
    let older = crate::store::checksum::seal("records", &[b"a"], b"two");
    transaction
        .open_table(tables::RECORDS)
        .unwrap()
        .insert("a", older.as_slice())
        .unwrap();
    transaction.commit().unwrap();
    named(store.load().await.unwrap_err(), "records", "*");
    assert!(store.file.damage().is_none(), "the file itself is in order");
    drop(store);
}

/// Pages that rot under an open file: whoever reads them is told, and so is the process.
#[tokio::test]
async fn rotten_pages_end_the_use_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    let store = RedbStore::open(directory.path()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        if page.windows(4).any(|text| text == b"line") {
            page.fill(0xA5);
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let mut told = None;
    for series in all_series() {
        if let Err(error) = store.scan(&series, 0, 9).await {
            told = Some(error);
            break;
        }
    }
    let told = told.expect("something is read from the disk");
    assert!(matches!(told, StoreError::Damaged { .. }), "{told}");
    assert!(told.to_string().contains("put a copy"), "{told}");
    let why = store.broken().await;
    assert_eq!(why.to_string(), told.to_string());
    let late = store.commit(term, batch("late")).await.unwrap_err();
    assert_eq!(late.to_string(), told.to_string());
}
