//! The built-in trainer under an agent: reports, checkpoints, stopping and going on, ranks.

#![allow(clippy::unwrap_used)] // Helpers of tests: what fails in them fails the test.

mod fake;

use std::io::Write as _;
use std::path::Path;

use fake::{FakeCoordinator, Seen};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::coordinator_message::Message as Tell;
use trainyard_proto::v1::report::Body;
use trainyard_proto::v1::{
    Assignment, AssignmentKind, AttemptOutcome, CheckpointRef, Rank, StopAttempt,
};
use trainyard_worker::agent::{self, WorkerError};
use trainyard_worker::checkpoint::{CheckpointStore, Snapshot};
use trainyard_worker::config::WorkerConfig;

const SAMPLES: usize = 200;
const EPOCHS: u64 = 4;
/// 200 samples, a tenth each for validation and test, 16 a batch.
const STEPS_PER_EPOCH: u64 = 10;

struct Cluster {
    coordinator: FakeCoordinator,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<(), WorkerError>>,
    collective: String,
}

impl Cluster {
    async fn start(slots: usize) -> Self {
        Self::start_with(slots, |_| {}).await
    }

    async fn start_with(slots: usize, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        let coordinator = FakeCoordinator::start().await;
        let mut config = WorkerConfig::for_coordinator(&coordinator.address);
        config.slots = slots;
        config.threads_per_slot = Some(1);
        change(&mut config);
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(agent::run(config, shutdown.clone()));
        let seen = coordinator
            .until("registration", |seen| seen.registers.len() == 1)
            .await;
        Self {
            collective: seen.registers[0].collective_address.clone(),
            coordinator,
            shutdown,
            worker,
        }
    }

    async fn assign(&self, assignment: &Assignment) {
        self.coordinator
            .tell(Tell::Assignment(assignment.clone()))
            .await;
    }

    /// Runs an assignment to its end.
    async fn run(&self, assignment: &Assignment) -> Seen {
        let before = self.coordinator.seen().ends().len();
        self.assign(assignment).await;
        self.coordinator
            .until("an end", |seen| seen.ends().len() > before)
            .await
    }

    async fn leave(self) -> Seen {
        self.shutdown.cancel();
        self.worker.await.unwrap().unwrap();
        self.coordinator.seen()
    }
}

/// Two interleaved arcs of points: learnable, not trivially.
fn write_data(folder: &Path) -> String {
    let mut text = "a,b,c,d,class\n".to_owned();
    for i in 0..SAMPLES {
        let class = i % 2;
        let turn = (i * 37 % SAMPLES) as f64 / SAMPLES as f64 * 3.0 + 3.0 * class as f64;
        let row = [
            turn.cos(),
            turn.sin(),
            turn.cos() * turn.sin(),
            1.0 / (1.0 + turn),
        ];
        for value in row {
            text.push_str(&format!("{value:.5},"));
        }
        text.push_str(&format!("{class}\n"));
    }
    let path = folder.join("data.csv");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn spec(folder: &Path, change: impl FnOnce(&mut Value)) -> TrialSpec {
    let mut job = json!({
        "name": "arcs",
        "seed": 3,
        "data": {"train": {"csv": {"url": write_data(folder), "targets": ["class"]}}},
        "split": {"validation": 0.1, "test": 0.1},
        "model": {"layers": [
            {"dense": {"units": 16, "activation": "relu"}},
            {"batch_norm": {}},
            {"dropout": {"rate": 0.2}},
            {"dense": {"units": 2}},
        ]},
        "training": {
            "batch_size": 16, "epochs": EPOCHS, "report_every_steps": 4,
            "optimizer": {"adam": {"learning_rate": 0.01}},
        },
        "objectives": [{"metric": "validation_loss", "mode": "minimize"}],
    });
    change(&mut job);
    TrialSpec {
        job: serde_json::from_value(job).unwrap(),
        params: Default::default(),
        trial_seed: 5,
        checkpoint_url: format!("file://{}", folder.join("checkpoints").display()),
        bundle_url: None,
        virtual_shards: 4,
    }
}

fn assignment(spec: &TrialSpec, generation: u64) -> Assignment {
    Assignment {
        job_id: "arcs-1".to_owned(),
        attempt: generation as u32 - 1,
        generation,
        ranks: vec![Rank {
            slots: vec![0],
            ..Rank::default()
        }],
        trial_spec_json: serde_json::to_string(spec).unwrap(),
        kind: AssignmentKind::Train.into(),
        ..Assignment::default()
    }
}

fn checkpoints(seen: &Seen) -> Vec<CheckpointRef> {
    let saved = |body| match body {
        Some(Body::Checkpoint(saved)) => saved.checkpoint,
        _ => None,
    };
    let reports = seen.reports().into_iter();
    reports.filter_map(|report| saved(report.body)).collect()
}

fn dropped(seen: &Seen) -> Vec<String> {
    let manifests = |body| match body {
        Some(Body::Dropped(dropped)) => Some(dropped.manifests),
        _ => None,
    };
    let reports = seen.reports().into_iter();
    let lists = reports.filter_map(|report| manifests(report.body));
    lists.flatten().collect()
}

async fn newest(spec: &TrialSpec, seen: &Seen) -> Snapshot {
    let store = CheckpointStore::open(&spec.checkpoint_url).unwrap();
    let newest = checkpoints(seen).pop().unwrap();
    store.load(&newest.manifest).await.unwrap()
}

/// Parameters, optimizer state and statistics, as bits.
fn bits(snapshot: &Snapshot) -> Vec<(String, Vec<u32>)> {
    let tensors = snapshot.tensors.iter();
    let bits = |data: &[f32]| data.iter().map(|value| value.to_bits()).collect();
    tensors
        .map(|tensor| (tensor.name.clone(), bits(&tensor.data)))
        .collect()
}

#[tokio::test]
async fn a_trial_is_trained_checkpointed_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |_| {});
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&spec, 1)).await;
    let end = &seen.ends()[0];
    assert_eq!(
        (end.outcome(), end.step),
        (AttemptOutcome::Completed, EPOCHS * STEPS_PER_EPOCH),
        "{end:?}"
    );
    let story = seen.story();
    assert!(story.starts_with("spp") && story.ends_with('E'), "{story}");
    let count = |letter| story.matches(letter).count() as u64;
    assert_eq!((count('e'), count('c')), (EPOCHS, EPOCHS), "{story}");
    // Each checkpoint is told after its epoch.
    for (epoch, checkpoint) in checkpoints(&seen).iter().enumerate() {
        assert_eq!(checkpoint.epoch, epoch as u64 + 1);
        assert!(
            checkpoint
                .metrics
                .iter()
                .any(|m| m.name == "validation_loss")
        );
    }
    assert!(
        seen.log.contains("epoch 4/4") && seen.log.contains("checkpoint saved"),
        "{}",
        seen.log
    );

    // The keep rule leaves the best and the newest, and says what it deleted.
    let dropped = dropped(&seen);
    let store = CheckpointStore::open(&spec.checkpoint_url).unwrap();
    let mut kept = 0;
    for checkpoint in checkpoints(&seen) {
        let gone = dropped.contains(&checkpoint.manifest);
        assert_eq!(store.load(&checkpoint.manifest).await.is_err(), gone);
        kept += usize::from(!gone);
    }
    assert!((1..=2).contains(&kept), "{kept}");

    let judge = Assignment {
        kind: AssignmentKind::Evaluate.into(),
        resume_from: checkpoints(&seen).pop(),
        ..assignment(&spec, 2)
    };
    let seen = cluster.run(&judge).await;
    let end = &seen.ends()[1];
    assert_eq!(end.outcome(), AttemptOutcome::Completed, "{end:?}");
    let accuracy = end.test_metrics.iter().find(|m| m.name == "test_accuracy");
    assert!(
        accuracy.is_some_and(|m| (0.0..=1.0).contains(&m.value)),
        "{end:?}"
    );
    cluster.leave().await;
}

#[tokio::test]
async fn stopped_and_gone_on_it_ends_in_the_same_bytes() {
    let whole_folder = tempfile::tempdir().unwrap();
    let whole = spec(whole_folder.path(), |_| {});
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&whole, 1)).await;
    let expected = newest(&whole, &seen).await;
    cluster.leave().await;

    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |_| {});
    let cluster = Cluster::start(1).await;
    let mut next = assignment(&spec, 1);
    cluster.assign(&next).await;
    // Stopped again and again, in the middle of epochs too, until it is through.
    let mut attempts = 0;
    loop {
        attempts += 1;
        let generation = next.generation;
        cluster
            .coordinator
            .until("progress or an end", |seen| {
                seen.ends().len() == attempts
                    || seen.reports().iter().any(|report| {
                        report.generation == generation
                            && matches!(report.body, Some(Body::Progress(_)))
                    })
            })
            .await;
        let stop = StopAttempt {
            job_id: next.job_id.clone(),
            trial_id: next.trial_id,
            attempt: next.attempt,
            generation,
            checkpoint: true,
            why: String::new(),
        };
        cluster.coordinator.tell(Tell::Stop(stop)).await;
        let seen = cluster
            .coordinator
            .until("an end", |seen| seen.ends().len() == attempts)
            .await;
        let end = &seen.ends()[attempts - 1];
        if end.outcome() == AttemptOutcome::Completed {
            break;
        }
        assert_eq!(end.outcome(), AttemptOutcome::Preempted, "{end:?}");
        let last = checkpoints(&seen).pop().unwrap();
        assert_eq!(last.step, end.step);
        next = Assignment {
            resume_from: Some(last),
            checkpoints: checkpoints(&seen),
            ..assignment(&spec, generation + 1)
        };
        cluster.assign(&next).await;
    }
    let seen = cluster.leave().await;
    let found = newest(&spec, &seen).await;
    assert_eq!(found.step, expected.step);
    assert_eq!(bits(&found), bits(&expected));
}

#[tokio::test]
async fn ranks_on_one_worker_and_on_two_end_in_the_same_bytes() {
    let mut ends = Vec::new();
    // Slots of each worker: the ranks are laid over them in order.
    for workers in [vec![1], vec![2], vec![1, 1], vec![2, 1]] {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), |_| {});
        let mut clusters = Vec::new();
        for &slots in &workers {
            clusters.push(Cluster::start(slots).await);
        }
        let owners: Vec<usize> = workers
            .iter()
            .enumerate()
            .flat_map(|(worker, &slots)| std::iter::repeat_n(worker, slots))
            .collect();
        let ranks: Vec<Rank> = owners
            .iter()
            .enumerate()
            .map(|(rank, &owner)| Rank {
                rank: rank as u32,
                slots: vec![owners[..rank].iter().filter(|o| **o == owner).count() as u32],
                collective_address: clusters[owner].collective.clone(),
                ..Rank::default()
            })
            .collect();
        for (rank, &owner) in owners.iter().enumerate() {
            let assignment = Assignment {
                rank: rank as u32,
                ranks: ranks.clone(),
                rendezvous_token: "secret".to_owned(),
                ..assignment(&spec, 1)
            };
            clusters[owner].assign(&assignment).await;
        }
        for (worker, cluster) in clusters.iter().enumerate() {
            let expected = workers[worker];
            let seen = cluster
                .coordinator
                .until("every rank's end", |seen| seen.ends().len() == expected)
                .await;
            for end in seen.ends() {
                assert_eq!(end.outcome(), AttemptOutcome::Completed, "{end:?}");
            }
            // Only rank 0 speaks of more than its end.
            assert_eq!(seen.story().contains('e'), worker == 0);
        }
        ends.push(bits(&newest(&spec, &clusters[0].coordinator.seen()).await));
        for cluster in clusters {
            cluster.leave().await;
        }
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
}

/// 64 GiB of rows that are mostly blanks, for minutes of reading: one compressed block again and again.
fn long_table() -> Vec<u8> {
    let packed = |text: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    };
    let row = format!("{}1,1,1,1,1\n", " ".repeat(4000));
    let block = packed(row.repeat(4096).as_bytes());
    [packed(b"a,b,c,d,class\n"), block.repeat(4096)].concat()
}

/// One rank still loads when the other has long finished: they have met before, and a stop reaches both.
#[tokio::test]
async fn ranks_meet_before_they_load_and_are_stopped_while_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let quick = spec(folder.path(), |_| {});
    let long = folder.path().join("slow.csv.gz");
    std::fs::write(&long, long_table()).unwrap();
    let slow = spec(folder.path(), |job| {
        job["data"]["train"]["csv"]["url"] = json!(long.display().to_string());
    });
    let clusters = [Cluster::start(1).await, Cluster::start(1).await];
    let rank = |rank: usize| Rank {
        rank: rank as u32,
        slots: vec![0],
        collective_address: clusters[rank].collective.clone(),
        ..Rank::default()
    };
    let ranks = vec![rank(0), rank(1)];
    for (rank, spec) in [quick, slow].iter().enumerate() {
        let assignment = Assignment {
            rank: rank as u32,
            ranks: ranks.clone(),
            rendezvous_token: "secret".to_owned(),
            ..assignment(spec, 1)
        };
        clusters[rank].assign(&assignment).await;
    }
    clusters[0]
        .coordinator
        .until("the ranks' meeting", |seen| {
            seen.log.contains("all 2 ranks have come together")
        })
        .await;
    for cluster in clusters {
        let stop = StopAttempt {
            job_id: "arcs-1".to_owned(),
            generation: 1,
            ..StopAttempt::default()
        };
        cluster.coordinator.tell(Tell::Stop(stop)).await;
        let seen = cluster
            .coordinator
            .until("an end", |seen| seen.ends().len() == 1)
            .await;
        let end = &seen.ends()[0];
        assert_eq!(end.outcome(), AttemptOutcome::Cancelled, "{end:?}");
        cluster.leave().await;
    }
}

/// A trainer that cannot tell what it has reached does not train on, but it obeys.
#[tokio::test]
async fn a_trainer_for_whose_reports_there_is_no_room_obeys_a_stop() {
    for (checkpoint, outcome) in [
        (true, AttemptOutcome::Preempted),
        (false, AttemptOutcome::Cancelled),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), |job| {
            job["training"]["epochs"] = json!(100_000);
        });
        let cluster = Cluster::start_with(1, |config| config.report_buffer = 64).await;
        cluster
            .coordinator
            .set(|settings| settings.acknowledge = false);
        cluster.assign(&assignment(&spec, 1)).await;
        let seen = cluster
            .coordinator
            .until("a full buffer", |seen| seen.arrived.len() == 64)
            .await;
        assert!(seen.ends().is_empty());
        let stop = StopAttempt {
            job_id: "arcs-1".to_owned(),
            generation: 1,
            checkpoint,
            ..StopAttempt::default()
        };
        cluster.coordinator.tell(Tell::Stop(stop)).await;
        let seen = cluster
            .coordinator
            .until("an end", |seen| seen.ends().len() == 1)
            .await;
        assert_eq!(seen.ends()[0].outcome(), outcome, "{:?}", seen.ends());
        // What is said again in another session is acknowledged.
        cluster
            .coordinator
            .set(|settings| settings.acknowledge = true);
        cluster.coordinator.drop_session();
        cluster.leave().await;
    }
}

#[tokio::test]
async fn a_torn_checkpoint_is_skipped_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |job| {
        job["checkpoint_storage"] = json!({"keep_last": 10});
    });
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&spec, 1)).await;
    let saved = checkpoints(&seen);
    assert_eq!(dropped(&seen), [] as [String; 0]);
    let torn = saved.last().unwrap().clone();
    let manifest = folder.path().join("checkpoints").join(&torn.manifest);
    std::fs::write(&manifest, &std::fs::read(&manifest).unwrap()[..20]).unwrap();
    let next = Assignment {
        resume_from: Some(torn.clone()),
        checkpoints: saved.clone(),
        ..assignment(&spec, 2)
    };
    let seen = cluster.run(&next).await;
    assert_eq!(
        seen.ends()[1].outcome(),
        AttemptOutcome::Completed,
        "{:?}",
        seen.ends()
    );
    let started = seen
        .reports()
        .into_iter()
        .rev()
        .find_map(|report| match report.body {
            Some(Body::Started(started)) => Some(started.from_step),
            _ => None,
        });
    assert_eq!(started, Some(saved[saved.len() - 2].step));
    assert!(
        seen.log.contains("newest checkpoint that is whole"),
        "{}",
        seen.log
    );
    // The coordinator forgets the torn one and nothing else.
    assert_eq!(dropped(&seen), [torn.manifest]);
    cluster.leave().await;
}

#[tokio::test]
async fn no_other_checkpoint_is_judged_in_place_of_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |job| {
        job["checkpoint_storage"] = json!({"keep_last": 10});
    });
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&spec, 1)).await;
    let saved = checkpoints(&seen);
    let torn = saved.last().unwrap().clone();
    let manifest = folder.path().join("checkpoints").join(&torn.manifest);
    std::fs::remove_file(&manifest).unwrap();
    let judge = Assignment {
        kind: AssignmentKind::Evaluate.into(),
        resume_from: Some(torn.clone()),
        checkpoints: saved,
        ..assignment(&spec, 2)
    };
    let seen = cluster.run(&judge).await;
    let end = &seen.ends()[1];
    assert_eq!(end.outcome(), AttemptOutcome::Error, "{end:?}");
    assert!(end.test_metrics.is_empty(), "{end:?}");
    let named = end.error.contains(&torn.manifest) && end.error.contains("missing");
    assert!(named, "{end:?}");
    cluster.leave().await;
}

/// A torn checkpoint that the keep rule counted would push a whole one out.
#[tokio::test]
async fn a_torn_checkpoint_takes_no_place_among_those_that_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |job| {
        job["checkpoint_storage"] = json!({"keep_last": 2});
        job["objectives"] = json!([]);
    });
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&spec, 1)).await;
    let gone = dropped(&seen);
    let kept: Vec<CheckpointRef> = checkpoints(&seen)
        .into_iter()
        .filter(|saved| !gone.contains(&saved.manifest))
        .collect();
    assert_eq!(kept.len(), 2);
    let manifest = folder.path().join("checkpoints").join(&kept[1].manifest);
    std::fs::remove_file(&manifest).unwrap();
    // The last epoch is trained again: its checkpoint and the whole one are the newest two.
    let next = Assignment {
        resume_from: Some(kept[1].clone()),
        checkpoints: kept.clone(),
        ..assignment(&spec, 2)
    };
    let seen = cluster.run(&next).await;
    let end = &seen.ends()[1];
    assert_eq!(end.outcome(), AttemptOutcome::Completed, "{end:?}");
    let gone = dropped(&seen);
    assert!(gone.contains(&kept[1].manifest), "{gone:?}");
    assert!(!gone.contains(&kept[0].manifest), "{gone:?}");
    let store = CheckpointStore::open(&spec.checkpoint_url).unwrap();
    store.load(&kept[0].manifest).await.unwrap();
    cluster.leave().await;
}

#[tokio::test]
async fn it_does_not_go_on_with_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |_| {});
    let cluster = Cluster::start(1).await;
    let seen = cluster.run(&assignment(&spec, 1)).await;
    let next = Assignment {
        resume_from: checkpoints(&seen).pop(),
        ..assignment(&spec, 2)
    };
    // As many samples, one value of one of them changed.
    let path = folder.path().join("data.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, value) = text.trim_end().rsplit_once(',').unwrap();
    let value = if value == "0" { "1" } else { "0" };
    std::fs::write(&path, format!("{head},{value}\n")).unwrap();
    let end = &cluster.run(&next).await.ends()[1];
    // Another worker may still have the data that it began with.
    assert_eq!(end.outcome(), AttemptOutcome::Error, "{end:?}");
    assert!(end.error.contains("other data"), "{end:?}");
    assert!(end.error.contains("data.csv"), "{end:?}");
    cluster.leave().await;
}

#[tokio::test]
async fn what_goes_wrong_ends_the_attempt_with_one_clear_error() {
    type Change = fn(&mut Value);
    let table: [(Change, AttemptOutcome, &str); 3] = [
        (
            |job| {
                job["training"]["optimizer"] = json!({"sgd": {"learning_rate": 1e30}});
                job["training"]["loss"] = json!({"mse": {}});
                job["data"]["task"] = json!("regression");
                job["model"] = json!({"layers": [{"dense": {"units": 1}}]});
            },
            AttemptOutcome::Nan,
            "step",
        ),
        (
            |job| job["data"]["train"]["csv"]["url"] = json!("/no/such/file.csv"),
            AttemptOutcome::DataInvalid,
            "/no/such/file.csv",
        ),
        (
            |job| job["model"]["layers"][3]["dense"]["units"] = json!(7),
            AttemptOutcome::Infeasible,
            "7",
        ),
    ];
    let cluster = Cluster::start(1).await;
    for (count, (change, outcome, word)) in table.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let seen = cluster
            .run(&assignment(&spec(folder.path(), change), count as u64 + 1))
            .await;
        let end = &seen.ends()[count];
        assert_eq!(end.outcome(), outcome, "{end:?}");
        assert!(end.error.contains(word), "{word}: {end:?}");
    }
    // A checkpoint store that cannot be written: a file stands in its way.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("checkpoints"), "in the way").unwrap();
    let seen = cluster
        .run(&assignment(&spec(folder.path(), |_| {}), 9))
        .await;
    let end = &seen.ends()[3];
    assert_eq!(end.outcome(), AttemptOutcome::Error, "{end:?}");
    assert!(end.error.contains("checkpoint"), "{end:?}");
    cluster.leave().await;
}

#[tokio::test]
async fn a_broken_session_in_mid_training_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), |job| {
        job["training"]["epochs"] = json!(30);
        job["training"]["report_every_steps"] = json!(1);
    });
    let cluster = Cluster::start(1).await;
    cluster.assign(&assignment(&spec, 1)).await;
    for sessions in 1..4 {
        cluster
            .coordinator
            .until("more reports", |seen| {
                seen.registers.len() >= sessions && seen.reports().len() > sessions * 20
            })
            .await;
        cluster.coordinator.drop_session();
    }
    let seen = cluster
        .coordinator
        .until("an end", |seen| seen.ends().len() == 1)
        .await;
    let reports = seen.reports();
    let sequences: Vec<u64> = reports.iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, (1..=reports.len() as u64).collect::<Vec<_>>());
    let mut steps = Vec::new();
    for report in &reports {
        if let Some(Body::Progress(progress)) = &report.body {
            steps.push((progress.step, progress.end_of_epoch));
        }
    }
    let expected: Vec<(u64, bool)> = (1..=30 * STEPS_PER_EPOCH)
        .map(|step| (step, step % STEPS_PER_EPOCH == 0))
        .collect();
    assert_eq!(steps, expected);
    assert_eq!(seen.ends()[0].outcome(), AttemptOutcome::Completed);
    cluster.leave().await;
}
