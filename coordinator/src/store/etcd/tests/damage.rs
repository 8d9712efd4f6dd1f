//! Values in etcd that are not what was written: refused by name, and those of the first format read.

use super::*;
use crate::store::etcd::layout::Pending;

type Records = Vec<(String, Vec<u8>)>;

/// Every way of reading records, by their outcome.
async fn reads(store: &EtcdStore) -> [Result<Records, String>; 2] {
    let all = store.load().await;
    let page = store.page("", "", 99).await;
    [all, page].map(|read| read.map_err(|error| error.to_string()))
}

async fn set(store: &EtcdStore, name: &str, value: Vec<u8>) {
    let client = store.shared.etcd.connection.member(0).await.unwrap();
    let key = store.shared.etcd.key(name);
    client.kv_client().put(key, value, None).await.unwrap();
}

#[tokio::test]
async fn changed_bits_of_any_key_are_found() {
    let Some(place) = Place::new("changed_bits_of_any_key_are_found", 1) else {
        return;
    };
    let settings = place.settings();
    let store = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    store.commit(term, small_batch()).await.unwrap();
    store.resign().await;
    let expected = store.load().await.unwrap();
    assert_eq!(expected.len(), 2);
    let (mut flipped, mut right) = (0, 0);
    for name in keys(&store).await {
        if !["r/", "c/", "s/"].iter().any(|of| name.starts_with(of)) {
            continue;
        }
        let stored = store.shared.etcd.get(&name).await.unwrap().unwrap();
        let bits = stored.len() * 8;
        for bit in (0..bits).step_by((bits / 24).max(1)) {
            let mut value = stored.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            set(&store, &name, value).await;
            if name.starts_with("s/") {
                let error = store.acquire_term().await.unwrap_err().to_string();
                assert!(error.contains(&name), "{name}, bit {bit}: {error}");
            } else {
                let record = match name.starts_with("c/") {
                    true => "r/spec/a",
                    false => name.as_str(),
                };
                for read in reads(&store).await {
                    match read {
                        Ok(records) => {
                            assert!(records == expected, "{name}, bit {bit}: other data");
                            right += 1;
                        }
                        Err(error) => {
                            assert!(error.contains(record), "{name}, bit {bit}: {error}");
                        }
                    }
                }
            }
            flipped += 1;
        }
        set(&store, &name, stored).await;
    }
    // Of a record in chunks it is told how many there are, for people: its length and checksum decide.
    assert!(flipped > 100 && right < 10, "{flipped}, {right} right");
    for read in reads(&store).await {
        assert!(read.unwrap() == expected);
    }
    // A value that stands under another key is another's.
    let other = store.shared.etcd.get("r/job/a").await.unwrap().unwrap();
    set(&store, "r/job/b", other).await;
    for read in reads(&store).await {
        assert!(read.unwrap_err().contains("r/job/b"));
    }
}

/// Records, names of objects and a decided batch as the program before this one left them.
#[tokio::test]
async fn the_first_format_is_taken_over() {
    let Some(place) = Place::new("the_first_format_is_taken_over", 1) else {
        return;
    };
    let settings = place.settings();
    let store = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    store.commit(term, small_batch()).await.unwrap();
    store.resign().await;
    let etcd = &store.shared.etcd;
    set(&store, "format", b"1".to_vec()).await;
    set(&store, "r/job/a", b"\0before".to_vec()).await;
    let pointer = etcd.get("r/spec/a").await.unwrap().unwrap();
    let mut plain = pointer[..pointer.len() - 8].to_vec();
    plain[0] = 1;
    set(&store, "r/spec/a", plain).await;
    let segments = keys(&store).await;
    let segments: Vec<_> = segments.iter().filter(|k| k.starts_with("s/")).collect();
    for name in &segments {
        let mut meta = etcd.get(name).await.unwrap().unwrap();
        meta.truncate(meta.len() - 8);
        meta[0] = 1;
        set(&store, name, meta).await;
    }
    let decided = [Operation::put("r/job/z", b"\0decided".to_vec())];
    let (parts, pending) = layout::stage(9, &decided);
    for part in parts {
        let Operation::Put { key, value } = part else {
            panic!("parts are put");
        };
        set(&store, &key, value).await;
    }
    let stored = pending.encode();
    let plain = stored[1..stored.len() - 8].to_vec();
    assert_eq!(Pending::decode(&plain).unwrap(), pending);
    set(&store, "pending", plain).await;

    let next = EtcdStore::connect(settings).await.unwrap();
    let term = next.acquire_term().await.unwrap();
    let records = next.load().await.unwrap();
    let names: Vec<_> = records.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(names, ["job/a", "job/z", "spec/a"]);
    assert_eq!(records[0].1, b"before");
    assert_eq!(records[1].1, b"decided");
    assert!(records[2].1 == vec![1; 200_000]);
    assert_eq!(told(&next).await, [(1, "one".to_owned())]);
    let format = next.shared.etcd.get("format").await.unwrap().unwrap();
    assert_eq!(format, layout::FORMAT_VERSION.to_string().as_bytes());
    next.commit(term, large_batch()).await.unwrap();
    assert_eq!(told(&next).await.len(), 3);
}
