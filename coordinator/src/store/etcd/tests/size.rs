//! How much of etcd a trial takes, with records as the machine writes them.

use etcd_client::CompactionOptions;
use serde_json::{Value, json};

use super::super::super::Change;
use super::*;
use crate::cluster::model::Record;

/// 100,000 trials stay under 1 GiB.
const MAX_BYTES_PER_TRIAL: i64 = 1024 * 1024 * 1024 / 100_000;

/// Trials of the run in the suite; `TRAINYARD_SIZE_TRIALS` asks for another number.
const TRIALS: u64 = 1_000;

/// Trials of one commit.
const BATCH: u64 = 50;

/// Where a trial's records are while it lives, ends, and has ended: each is written so often.
const REWRITES: u64 = 3;

fn record(key: &str, mut fields: Value) -> Change {
    fields["version"] = json!(1);
    let read = Record::decode(key, fields.to_string().as_bytes()).unwrap();
    put(key, read.encode().unwrap())
}

fn metrics(step: u64) -> Value {
    let x = step as f64;
    json!([
        ["training_loss", 1.0 / (x + 0.123_456_789)],
        ["validation_loss", 1.1 / (x + 0.123_456_789)],
        ["validation_accuracy", 1.0 - 1.0 / (x + 1.987_654_321)]
    ])
}

fn trial(number: u64, round: u64) -> Vec<Change> {
    let job = "resnet-search-17";
    let checkpoints: Vec<_> = (1..=2 * round)
        .map(|n| {
            json!({
                "manifest": format!("trial-{number}/attempt-0/step-{:010}.json", n * 1_000),
                "step": n * 1_000, "epoch": n, "bytes": 94_371_840, "metrics": metrics(n),
                "digest": blake3::hash(&n.to_le_bytes()).to_hex().to_string(),
            })
        })
        .collect();
    let params = json!({
        "learning_rate": 0.000_312_345_678_9 * (number as f64 + 1.0), "batch_size": 128,
        "dropout": 0.123_456_789, "optimizer": "adamw", "weight_decay": 0.000_01, "layers": 4
    });
    let place = json!({
        "rank": 0, "worker": "worker-0f8fad5b-d9cb-469f-a165-70867728950e", "slots": [3],
        "collective_address": "10.42.17.203:41234"
    });
    let observed =
        json!({"observed": {"trial": number, "outcome": {"completed": {"value": 0.93}}}});
    let index = number * 2;
    vec![
        record(
            &format!("trial/{job}/{number:010}"),
            json!({
                "record": "trial", "job": job, "trial": number, "state": "completed",
                "params": params, "epochs_total": 30, "steps_total": 30_000,
                "parameters": 11_173_962, "best": [0.934_567_891_234, 29_000],
                "newest_point": [30_000, true], "restarts": 1, "losses": 0, "retry_at_ms": 0,
                "error": "", "reason": "its attempt completed: all epochs are done",
                "created_ms": 1_790_000_000_000_u64, "started_ms": 1_790_000_000_000_u64,
                "ended_ms": 1_790_000_000_000_u64, "checkpoints": checkpoints, "next_attempt": 1
            }),
        ),
        record(
            &format!("attempt/{job}/{number:010}/0000000000"),
            json!({
                "record": "attempt", "job": job, "trial": number, "attempt": 0, "generation": number,
                "kind": "train", "ranks": [{"place": place, "applied": 1234, "ended": "completed"}],
                "outcome": "completed", "error": "",
                "reason": "worker-0f8fad5b has one free slot of the wanted kind",
                "started_ms": 1_790_000_000_000_u64, "ended_ms": 1_790_000_000_000_u64,
                "from_step": 0, "epoch": 30, "step": 30_000, "metrics": metrics(30)
            }),
        ),
        record(
            &format!("search/{job}/{index:010}"),
            json!({"record": "search", "job": job, "index": index,
                "entry": {"suggested": {"trial": number}}}),
        ),
        record(
            &format!("search/{job}/{:010}", index + 1),
            json!({"record": "search", "job": job, "index": index + 1, "entry": observed}),
        ),
    ]
}

async fn size(store: &EtcdStore) -> i64 {
    let etcd = &store.shared.etcd;
    let revision = store.shared.compact_history(0).await.unwrap();
    let mut client = etcd.connection.member(0).await.unwrap();
    // Answered once it is done: otherwise it goes on behind its answer, and stands still where the machine is busy.
    let done = CompactionOptions::new().with_physical();
    let compacted = client.kv_client().compact(revision, Some(done)).await;
    if let Err(error) = compacted {
        assert!(error.to_string().contains("compacted"), "{error}");
    }
    // The defragmentation may cut what is left of it short: until the size stands still.
    let mut before = i64::MAX;
    loop {
        client.defragment().await.unwrap();
        let size = client.status().await.unwrap().db_size();
        if size >= before {
            return size;
        }
        before = size;
    }
}

#[tokio::test]
async fn a_hundred_thousand_trials_fit() {
    let Some(place) = Place::new("a_hundred_thousand_trials_fit", 1) else {
        return;
    };
    let trials: u64 = match std::env::var("TRAINYARD_SIZE_TRIALS") {
        Ok(number) => number.parse().expect("TRAINYARD_SIZE_TRIALS: a number"),
        Err(_) => TRIALS,
    };
    let mut settings = place.settings();
    settings.lease_ms = 60_000;
    let store = EtcdStore::connect(settings).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    let empty = size(&store).await;
    for first in (0..trials).step_by(BATCH as usize) {
        for round in 1..=REWRITES {
            let numbers = first..(first + BATCH).min(trials);
            let series = |kind, trial: u64| Series {
                kind,
                job: JobId::from("resnet-search-17"),
                trial: TrialId(trial as u32),
            };
            let point = metrics(round).to_string().into_bytes();
            let append = |trial| {
                SeriesKind::ALL.map(|kind| Append {
                    series: series(kind, trial),
                    values: vec![point.clone(); 3],
                })
            };
            let batch = Batch {
                changes: numbers.clone().flat_map(|n| trial(n, round)).collect(),
                appends: numbers.flat_map(append).collect(),
            };
            store.commit(term, batch).await.unwrap();
        }
        if first % (BATCH * 20) == 0 {
            store.shared.tidy().await.unwrap();
        }
    }
    store.shared.tidy().await.unwrap();
    let full = size(&store).await;
    let each = (full - empty) / trials as i64;
    println!("{trials} trials take {full} bytes of etcd: {each} each");
    assert!(each > 1_000, "{each} bytes a trial: were they written?");
    assert!(each < MAX_BYTES_PER_TRIAL, "{each} bytes a trial");
}
